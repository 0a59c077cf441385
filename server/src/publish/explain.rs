//! Says what publishing would do with an event, by the same rules.

use std::sync::Arc;

use super::{deep_stack::on_deep_stack, programs::Programs};
use crate::domain::{
    conditions::Judgement,
    event::EventContent,
    expression::Facts,
    subscription::{Subscription, SubscriptionState},
    timestamp::Timestamp,
};

/// Whether a subscription would get an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explanation {
    /// It is disabled.
    Disabled,
    /// None of its patterns matches the type.
    EventType,
    /// What its conditions say.
    Judged(Judgement),
}

/// Explains an event that happened at `time`, if it does not say so itself, to these subscriptions, in their order; nothing if that
/// broke off by a defect.
pub async fn explain(
    event: EventContent,
    time: Timestamp,
    subscriptions: Vec<Subscription>,
) -> Option<Vec<Explanation>> {
    on_deep_stack(move || explain_here(&event, time, &subscriptions)).await
}

fn explain_here(event: &EventContent, time: Timestamp, subscriptions: &[Subscription]) -> Vec<Explanation> {
    let mut programs = Programs::default();
    let facts = Facts::new(event, time);
    let explain = |subscription: &Subscription| {
        let spec = &subscription.spec;
        if subscription.state() == SubscriptionState::Disabled {
            return Explanation::Disabled;
        }
        if !spec.filter.matches(&event.event_type) {
            return Explanation::EventType;
        }
        let Some(conditions) = &spec.settings.filter else { return Explanation::Judged(Judgement::Wanted) };
        let program = conditions.expression.as_deref().and_then(|text| programs.of(text));
        Explanation::Judged(conditions.judge(program.as_ref().map(Arc::as_ref), &facts))
    };
    subscriptions.iter().map(explain).collect()
}
