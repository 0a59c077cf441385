//! One event a call, at fixed times. A call that is late makes no other call late, and what is late counts as late: latencies are
//! measured from when the event was to be published, not from when there was room for it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use super::{Client, Producer, unary::publish};
use crate::clock;

/// The most calls at once; what comes beyond waits, and its latency grows.
const IN_FLIGHT: usize = 4096;

pub(super) async fn run(producer: &Arc<Producer>, clients: &[Client], rate: f64) {
    let (due, mut dues) = mpsc::unbounded_channel();
    let pacer = Arc::clone(producer);
    // A thread: the runtime's timer is no finer than a millisecond, which would be most of what is measured.
    let pacing = std::thread::spawn(move || pace(&pacer, rate, &due));

    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut calls = JoinSet::new();
    let mut clients = clients.iter().cycle();
    while let Some((number, intended)) = dues.recv().await {
        let (Ok(permit), Some(client)) = (Arc::clone(&room).acquire_owned().await, clients.next()) else {
            break;
        };
        let (producer, mut client) = (Arc::clone(producer), client.clone());
        calls.spawn(async move {
            publish(&producer, &mut client, number, intended).await;
            drop(permit);
        });
        while calls.try_join_next().is_some() {}
    }
    calls.join_all().await;
    // It has ended, as its channel has.
    let _ = pacing.join();
}

fn pace(producer: &Producer, rate: f64, due: &mpsc::UnboundedSender<(u64, u64)>) {
    let (begun, begun_at) = (Instant::now(), clock::now());
    for index in 0_u32.. {
        let at = Duration::from_secs_f64(f64::from(index) / rate);
        std::thread::sleep(at.saturating_sub(begun.elapsed()));
        let Some(number) = producer.sequence.take() else { return };
        let intended = begun_at + u64::try_from(at.as_micros()).unwrap_or(0);
        if due.send((number, intended)).is_err() {
            return;
        }
    }
}
