//! How long things took, from 1 µs to an hour, to three digits.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

const HOUR: u64 = 3_600_000_000;

/// A histogram of microseconds that can go from one process to another.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub(crate) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, HOUR, 3).expect("the bounds are constant and right"))
    }
}

impl Latencies {
    /// Something took this many microseconds.
    pub(crate) fn record(&mut self, micros: u64) {
        self.0.saturating_record(micros.max(1));
    }

    /// Milliseconds that this part of them, from 0 to 1, did not exceed; none if there are none.
    #[expect(clippy::cast_precision_loss, reason = "an hour of microseconds has 32 bits")]
    pub(crate) fn quantile(&self, part: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(part) as f64 / 1e3)
    }
}

impl From<Vec<(u64, u64)>> for Latencies {
    fn from(counts: Vec<(u64, u64)>) -> Self {
        let mut latencies = Self::default();
        for (value, count) in counts {
            latencies.0.saturating_record_n(value, count);
        }
        latencies
    }
}

impl From<Latencies> for Vec<(u64, u64)> {
    fn from(latencies: Latencies) -> Self {
        let recorded = latencies.0.iter_recorded();
        recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }
}
