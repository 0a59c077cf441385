//! How a subscription's handshake stands.

use crate::domain::timestamp::Timestamp;

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeStatus {
    /// Whether it is done.
    pub state: HandshakeState,
    /// How many times it was tried since it was begun.
    pub attempts: u32,
    /// What was wrong the last time.
    pub last_failure: Option<String>,
    /// How many callbacks a minute the receiver has allowed, if it has set a limit.
    pub allowed_rate: Option<u32>,
}

/// Whether a handshake is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeState {
    /// Not yet.
    Awaited {
        /// When it is tried again.
        next_attempt_at: Timestamp,
    },
    /// Since then.
    Done {
        /// Then.
        at: Timestamp,
    },
    /// It has failed for good.
    Failed,
}

impl HandshakeStatus {
    /// Whether nothing may be sent for its sake.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        matches!(self.state, HandshakeState::Awaited { .. })
    }
}
