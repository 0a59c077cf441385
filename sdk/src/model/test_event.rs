//! Test events, and what came of them.

use super::{Attempt, TargetCheck};

/// What [`send_test_event`](crate::Subscriptions::send_test_event) created, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SentTestEvent {
    /// The event's name.
    pub event: String,
    /// The name of its one delivery, whose attempts tell what comes of it in the end.
    pub delivery: String,
    /// How it stands.
    pub standing: TestEventStanding,
    /// The same in one sentence, for people; names the redirect that was not followed, if that was the answer.
    pub summary: String,
    /// The first attempt, if it was made in time.
    pub attempt: Option<Attempt>,
    /// What a check of the target found, if the attempt got no 2xx answer and there was time left for it.
    pub check: Option<TargetCheck>,
}

/// How a test event stands when the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TestEventStanding {
    /// The first attempt was made.
    Attempted,
    /// The first attempt was not made in time.
    Pending,
    /// It waits until the subscription is resumed.
    Paused,
    /// It waits because the receiver fails.
    Blocked,
    /// Its delivery ended without an attempt.
    Ended,
    /// A standing newer than this SDK, with its number.
    Unrecognized(i32),
}
