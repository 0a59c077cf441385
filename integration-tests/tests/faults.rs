//! The short form of the fault harness; `bench faults` is the long one.

use std::time::Duration;

use postrider_integration_tests::faults::{self, Options};

/// One seed, so that a change that breaks it is to blame. Other seeds are for the long form.
const SEED: u64 = 20_261_121;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_whatever_breaks() {
    let duration = Duration::from_secs(40);
    let options = Options { seed: SEED, duration, nodes: 2, rate: 40 };
    let run = tokio::time::timeout(Duration::from_mins(4), faults::run(options));
    let report = Box::pin(run).await.expect("the run hangs").expect("the harness works");
    assert!(report.is_sound(), "{report}");
}
