//! One step of a fan-out, with parts and an outlet that exist only in memory.

use std::sync::Mutex as Shared;

use super::*;
use crate::{
    clock::ManualClock,
    domain::{
        claim::Claim,
        fixtures::{self, NOW},
        handling::OrderingKey,
    },
};

/// How a step ends.
#[derive(Clone, Copy)]
enum End {
    /// With deliveries, of which those to this subscription wait.
    Done(SubscriptionUid),
    DoneBefore,
    Unavailable,
    Broken,
}

/// Has some parts, once, and keeps what is made of them.
struct Parts {
    taken: Shared<Option<Vec<Part>>>,
    end: End,
    made: Shared<Vec<(SubscriptionUid, Beginning)>>,
    given_back: Shared<Vec<(u32, Timestamp)>>,
}

impl FanOuts for Arc<Parts> {
    async fn take_parts(
        &self,
        _: Option<&TenantId>,
        _: Timestamp,
        _: Timestamp,
    ) -> Result<Vec<Part>, JournalError> {
        Ok(self.taken.lock().unwrap().take().unwrap_or_default())
    }

    async fn finish_parts(&self, _: &[Part], deliveries: &PartDeliveries) -> Result<Finish, JournalError> {
        let all: Vec<_> = deliveries.entries.iter().flat_map(|entry| &entry.deliveries).collect();
        let seen = all.iter().map(|delivery| (delivery.subscription, delivery.beginning));
        self.made.lock().unwrap().extend(seen);
        match self.end {
            End::Done(waiting) => {
                let parked = all.iter().filter(|delivery| delivery.subscription == waiting);
                Ok(Finish::Done { parked: parked.map(|delivery| delivery.id).collect() })
            }
            End::DoneBefore => Ok(Finish::DoneBefore),
            End::Unavailable => Err(JournalError::Unavailable("it is away".into())),
            End::Broken => Err(JournalError::Broken("it is refused".into())),
        }
    }

    async fn give_back(&self, part: &Part, leased_until: Timestamp) -> Result<(), JournalError> {
        self.given_back.lock().unwrap().push((part.number, leased_until));
        Ok(())
    }
}

/// Has room for everything.
#[derive(Clone, Default)]
struct Open(Arc<Shared<Vec<SubscriptionUid>>>);

impl Outlet for Open {
    type Permit = ();

    fn lease(&self) -> Duration {
        Duration::from_mins(1)
    }

    async fn room(&self) {}

    async fn room_for(&self, _: &Target) {}

    fn reserve(&self, _: &Arc<Target>, _: usize) -> Result<(), NoRoom> {
        Ok(())
    }

    fn start(&self, (): (), claim: Claim) {
        self.0.lock().unwrap().push(claim.target.uid);
    }

    fn wake(&self) {}

    fn wake_at(&self, _: Timestamp) {}
}

fn subscription(nth: usize) -> SubscriptionUid {
    SubscriptionUid::nth(NOW, nth)
}

fn open(uid: SubscriptionUid) -> Recipient {
    Recipient::Open(Arc::new(Target { uid, ..fixtures::target() }))
}

/// A part of an event with an ordering key.
fn part(number: u32, to: &[SubscriptionUid]) -> Part {
    let mut event = fixtures::event(b"{}", "application/json");
    event.content.handling.ordering_key = Some(OrderingKey::parse("k".to_owned()).unwrap());
    Part { event: Arc::new(event), number, recipients: to.iter().copied().map(open).collect() }
}

/// Makes one step with these parts. Returns what it says, and what was started.
async fn step(
    parts: Vec<Part>,
    end: End,
) -> (Arc<Parts>, Result<Option<usize>, JournalError>, Vec<SubscriptionUid>) {
    let parts = Arc::new(Parts {
        taken: Shared::new(Some(parts)),
        end,
        made: Shared::default(),
        given_back: Shared::default(),
    });
    let outlet = Open::default();
    let clock = Arc::new(ManualClock::at(NOW));
    let fan_out = FanOut::new(Arc::clone(&parts), outlet.clone(), clock, Arc::default());
    let made = fan_out.tick().await;
    let started = outlet.0.lock().unwrap().clone();
    (parts, made, started)
}

#[tokio::test]
async fn of_several_events_with_one_key_only_the_first_goes_out_to_a_subscription() {
    let [one, two, waiting] = [1, 2, 3].map(subscription);
    let parts = vec![part(0, &[one, waiting]), part(1, &[one, two])];
    let (parts, made, started) = step(parts, End::Done(waiting)).await;
    assert_eq!(made.unwrap(), Some(4));
    let claimed = |subscription| (subscription, Beginning::Claimed);
    assert_eq!(
        *parts.made.lock().unwrap(),
        [claimed(one), claimed(waiting), (one, Beginning::Unclaimed), claimed(two)]
    );
    assert_eq!(started, [one, two], "not what has to wait in its lane");
}

#[tokio::test]
async fn what_could_not_be_finished_is_given_back_unless_the_database_refuses_it() {
    let parts = || vec![part(0, &[subscription(1)]), part(1, &[subscription(1)])];
    for (end, is_given_back) in [
        (End::Done(subscription(9)), false),
        (End::DoneBefore, true),
        (End::Unavailable, true),
        (End::Broken, false),
    ] {
        let (parts, _, started) = step(parts(), end).await;
        let expected = if is_given_back { vec![(0, NOW + LEASE)] } else { Vec::new() };
        assert_eq!(*parts.given_back.lock().unwrap(), expected);
        assert_eq!(started.is_empty(), !matches!(end, End::Done(_)));
    }
}
