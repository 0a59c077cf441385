//! What producers ask for, and what they are told.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use postrider_server::{
    domain::{
        event::{Attributes, EventContent, NewEvent, Payload, RequestId},
        event_type::EventType,
        handling::{Handling, OrderingKey, Priority},
        id::TenantId,
        timestamp::Timestamp,
    },
    publish::{Error, Published, Route},
};

use crate::{chance::Chance, schedule::Schedule};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

/// The tenants; the last one never has a subscription.
pub(crate) const TENANTS: [&str; 3] = ["default", "other", "silent"];
const TYPES: [&str; 3] = ["order.created", "order.paid", "user.created"];

/// One call, and its answer.
pub(crate) struct Publish {
    pub(crate) event: NewEvent,
    /// Which node was called.
    pub(crate) node: usize,
    pub(crate) answer: Option<Result<Published, Error>>,
}

impl Schedule {
    /// Publishes an event to one of the nodes: a new one, or one that was published before.
    pub(crate) fn publish(&mut self) {
        let nodes: Vec<_> =
            self.nodes.iter().flatten().map(|node| (node.number, node.publisher.clone())).collect();
        if nodes.is_empty() {
            return;
        }
        let (node, publisher) = self.chance.one_of(&nodes);
        let event = self.event();
        let mut state = self.world.state();
        let place = state.publishes.len();
        state.say(self.world.now(), format_args!("n{node} is to publish {}", event.content.subject));
        state.publishes.push(Publish { event: event.clone(), node, answer: None });
        drop(state);
        let world = Arc::clone(&self.world);
        self.tasks.spawn(async move {
            let answer = publisher.publish(event, Route::Matching).await;
            let mut state = world.state();
            let told = if answer.is_ok() { "published" } else { "not published" };
            let text = format!("n{node} {told}: {}", state.publishes[place].event.content.subject);
            state.say(world.now(), text);
            state.publishes[place].answer = Some(answer);
        });
    }

    fn event(&mut self) -> NewEvent {
        let (now, state) = (self.world.now(), self.world.state());
        let number = state.publishes.len();
        let before: Vec<_> = state
            .publishes
            .iter()
            .map(|publish| &publish.event)
            .filter(|event| event.request_id.is_some())
            .collect();
        let chance = &mut self.chance;
        let event = new_event(chance, number, now);
        if before.is_empty() || !chance.percent(25) {
            return event;
        }
        let first = chance.one_of(&before).clone();
        if chance.percent(80) {
            first
        } else {
            NewEvent { tenant: first.tenant, request_id: first.request_id, ..event }
        }
    }
}

fn new_event(chance: &mut Chance, number: usize, now: Timestamp) -> NewEvent {
    let request_id = chance.percent(50).then(|| RequestId::parse(&format!("r{number}")).unwrap());
    let content = EventContent {
        event_type: EventType::parse(chance.one_of(&TYPES)).unwrap(),
        source: String::new(),
        subject: format!("e{number}"),
        time: None,
        payload: Payload::parse(Bytes::from_static(b"1"), "", 1).unwrap(),
        attributes: Attributes::default(),
        handling: handling(chance, now),
    };
    let tenant = if chance.percent(95) { chance.one_of(&TENANTS[..2]) } else { TENANTS[2] };
    NewEvent { tenant: TenantId::parse(tenant).unwrap(), request_id, content, trace: None }
}

fn handling(chance: &mut Chance, now: Timestamp) -> Handling {
    let key = chance.percent(40).then(|| chance.one_of(&["a", "b"]).to_owned());
    let deliver_at = chance.percent(15).then(|| now + chance.about(&[5 * SECOND, HOUR, 48 * HOUR]));
    let expires_in = chance.about(&[5 * SECOND, 60 * SECOND, HOUR, 72 * HOUR]);
    let expire_at = chance.percent(20).then(|| deliver_at.unwrap_or(now) + expires_in);
    let handling = Handling {
        ordering_key: key.map(|key| OrderingKey::parse(key).unwrap()),
        deliver_at,
        expire_at,
        priority: chance.one_of(&Priority::ALL),
    };
    handling.check(now).unwrap()
}
