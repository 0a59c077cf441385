//! Whether a subscription would get an event, and if not, why.

use postrider_proto::v1 as pb;

use crate::FieldViolation;

/// What would become of an event if it was published. Made by [`Events::explain`](crate::Events::explain).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explained {
    /// What the catalogue of event types has against it: publishing would fail with these. Empty if it would not.
    pub violations: Vec<FieldViolation>,
    /// One for each subscription, the newest first: what it would get if the event was published, whatever `violations` says.
    pub subscriptions: Vec<Explanation>,
}

/// Whether a subscription would get an event. Part of [`Explained`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The subscription's name.
    pub subscription: String,
    /// What keeps it from getting the event, if anything does.
    pub verdict: Verdict,
}

/// What keeps a subscription from getting an event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Nothing; while it is paused it gets it later.
    Matches,
    /// It is disabled.
    Disabled,
    /// None of its patterns matches the event's type.
    EventType,
    /// The condition with this index, counted from 0, on an attribute.
    Attribute(usize),
    /// Its expression is false.
    ExpressionFalse,
    /// Its expression failed on this event, and how.
    ExpressionFailed(String),
    /// A verdict newer than this SDK, with its number.
    Unrecognized(i32),
}

impl Explanation {
    pub(crate) fn from_pb(explanation: pb::EventExplanation) -> Self {
        let verdict = match pb::MatchVerdict::try_from(explanation.verdict) {
            Ok(pb::MatchVerdict::Matches) => Verdict::Matches,
            Ok(pb::MatchVerdict::Disabled) => Verdict::Disabled,
            Ok(pb::MatchVerdict::EventType) => Verdict::EventType,
            Ok(pb::MatchVerdict::Attribute) => {
                Verdict::Attribute(usize::try_from(explanation.attribute_index).unwrap_or(0))
            }
            Ok(pb::MatchVerdict::ExpressionFalse) => Verdict::ExpressionFalse,
            Ok(pb::MatchVerdict::ExpressionFailed) => Verdict::ExpressionFailed(explanation.failure_message),
            Ok(pb::MatchVerdict::Unspecified) | Err(_) => Verdict::Unrecognized(explanation.verdict),
        };
        Self { subscription: explanation.subscription, verdict }
    }
}
