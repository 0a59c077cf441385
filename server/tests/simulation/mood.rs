//! How a receiver behaves for a while.

use std::time::Duration;

use postrider_server::domain::attempt::{Failure, Outcome};

use crate::chance::Chance;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Every other attempt fails.
    Flaky,
    Failing,
    /// Asks for a pause.
    Busy,
    /// Does not answer.
    Silent,
    /// Cannot be reached.
    Down,
    /// Wants nothing more.
    Gone,
}

impl Mood {
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let moods = [Self::Flaky, Self::Failing, Self::Busy, Self::Silent, Self::Down];
        match chance.below(100) {
            0..40 => Self::Well,
            40..95 => chance.one_of(&moods),
            _ => Self::Gone,
        }
    }

    /// What an attempt comes to, unless there is no answer.
    pub(crate) fn outcome(self, chance: &mut Chance) -> Option<Outcome> {
        let rejected = |status, retry_after| Outcome::Rejected { status, retry_after };
        let well = Outcome::Acknowledged { status: 204 };
        Some(match self {
            Self::Well => well,
            Self::Flaky if chance.percent(50) => well,
            Self::Flaky | Self::Failing => rejected(500, None),
            Self::Busy => rejected(429, Some(Duration::from_secs(30))),
            Self::Silent => return None,
            Self::Down => Outcome::Failed { failure: Failure::Connect, message: String::new() },
            Self::Gone => rejected(410, None),
        })
    }
}
