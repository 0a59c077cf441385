//! What an attempt says of its receiver, which is what the breaker and the failing policy go by, and how that is told.

use std::fmt;

use super::{
    attempt::{Attempt, Failure, Outcome, Wish},
    delivery::GONE,
};

/// What an attempt says of its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Healthy,
    Failing,
    /// It wants nothing more: another policy disables the subscription.
    Gone,
    /// It is not the receiver's fault.
    Unknown,
}

impl Verdict {
    /// A receiver that asks for one message not to be repeated has understood it: whatever its status, it works.
    pub(super) fn of(attempt: &Attempt) -> Self {
        match (&attempt.outcome, attempt.wish) {
            (Outcome::Acknowledged { .. }, _) | (Outcome::Rejected { .. }, Some(Wish::AbortMessage)) => {
                Self::Healthy
            }
            (Outcome::Rejected { status: GONE, .. }, _) | (_, Some(Wish::Disable)) => Self::Gone,
            (Outcome::Failed { failure: Failure::Internal | Failure::Template, .. }, _) => Self::Unknown,
            (Outcome::Rejected { .. } | Outcome::Failed { .. }, _) => Self::Failing,
        }
    }
}

/// An outcome in a few words.
pub(super) struct Told<'a>(pub(super) &'a Outcome);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failure = match self.0 {
            Outcome::Acknowledged { status } | Outcome::Rejected { status, .. } => {
                return write!(f, "status {status}");
            }
            Outcome::Failed { failure, .. } => failure,
        };
        f.write_str(match failure {
            Failure::Timeout => "timeout",
            Failure::Dns => "the host name could not be resolved",
            Failure::Connect => "the connection could not be opened",
            Failure::Tls => "the TLS handshake failed",
            Failure::AddressRefused => "the address is one that is not sent to",
            Failure::Protocol => "the connection broke or the answer was not HTTP",
            Failure::Authentication => "there was no access token",
            Failure::Template => "the template could not be rendered",
            Failure::Internal => "a defect of the server",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::{NOW, attempt};

    #[test]
    fn a_wish_is_never_worse_for_the_receiver_than_its_status() {
        let (ok, bad) =
            (Outcome::Acknowledged { status: 200 }, Outcome::Rejected { status: 500, retry_after: None });
        for (outcome, wish, expected) in [
            (&ok, None, Verdict::Healthy),
            (&ok, Some(Wish::Disable), Verdict::Healthy),
            (&bad, None, Verdict::Failing),
            (&bad, Some(Wish::AbortMessage), Verdict::Healthy),
            (&bad, Some(Wish::Disable), Verdict::Gone),
        ] {
            let attempt = Attempt { wish, ..attempt(NOW, outcome.clone()) };
            assert_eq!(Verdict::of(&attempt), expected, "{outcome:?}, {wish:?}");
        }
    }
}
