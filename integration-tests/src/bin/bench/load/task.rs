//! What a producer is to do.

use std::{fs, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::Failure;

/// All a producer needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    /// The server.
    pub(crate) grpc: String,
    /// How many connections to it.
    pub(crate) connections: usize,
    /// In which calls.
    pub(crate) shape: Shape,
    /// When to end.
    pub(crate) until: Until,
    /// The tenant's id.
    pub(crate) tenant: String,
    /// The type of the events; data from a file has its own types.
    pub(crate) event_type: String,
    /// Over how many types the events go in turn: `TYPE.s0`, `TYPE.s1`, …; all have the one type if 0.
    pub(crate) spread: u64,
    /// What the events hold.
    pub(crate) data: Data,
    /// The number of the first event.
    pub(crate) first: u64,
    /// What request ids begin with; there are none if empty.
    pub(crate) request_ids: String,
    /// Over how many ordering keys the events go in turn; they have none if 0.
    pub(crate) ordering_keys: u64,
}

/// In which calls events are published.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Shape {
    /// So many calls at once, each with one event.
    Unary {
        /// Calls at once.
        concurrency: usize,
    },
    /// Calls with many events.
    Batch {
        /// Events in a call.
        size: usize,
        /// Calls at once.
        in_flight: usize,
    },
    /// One stream.
    Stream {
        /// Events that may be unanswered.
        in_flight: usize,
    },
    /// One event a call, at fixed times, however long the calls before take.
    OpenLoop {
        /// Events in a second.
        rate: f64,
    },
}

/// When a producer ends: whichever comes first.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Until {
    /// After this time.
    pub(crate) time: Duration,
    /// After this many events.
    pub(crate) count: u64,
}

impl Until {
    /// After this time.
    pub(crate) fn time(time: Duration) -> Self {
        Self { time, count: u64::MAX }
    }

    /// After this many events, or half a day.
    pub(crate) fn count(count: u64) -> Self {
        Self { time: Duration::from_hours(12), count }
    }

    /// The time.
    pub(super) fn limit(self) -> Duration {
        self.time
    }
}

/// What events hold, beside their number.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Data {
    /// So many bytes.
    Bytes(usize),
    /// The data of the events in this file, which has lines like `{"type": …, "data": {…}}`, over and over.
    File(PathBuf),
}

impl Data {
    /// How many bytes an event has on average, about.
    pub(crate) fn average(&self) -> Result<usize, Failure> {
        match self {
            Self::Bytes(bytes) => Ok(*bytes),
            Self::File(file) => {
                let text =
                    fs::read_to_string(file).map_err(|cause| format!("{}: {cause}", file.display()))?;
                Ok(text.len() / text.lines().count().max(1))
            }
        }
    }
}
