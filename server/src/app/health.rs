//! Tells gRPC's health service what readiness finds.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::readiness::NotReady;

/// The server as a whole, and its services one by one: they stand and fall together.
const SERVICES: [&str; 5] = [
    "",
    "postrider.v1.DeliveryService",
    "postrider.v1.EventService",
    "postrider.v1.EventTypeService",
    "postrider.v1.SubscriptionService",
];

/// Shows how readiness stands. To be done once before anybody can ask: by itself, health begins with a server that serves.
pub(super) async fn show(reporter: &HealthReporter, readiness: &mut watch::Receiver<Result<(), NotReady>>) {
    let status = match *readiness.borrow_and_update() {
        Ok(()) => ServingStatus::Serving,
        Err(_) => ServingStatus::NotServing,
    };
    report(reporter, status).await;
}

/// Passes on every change until `stop`; then takes the services back, which ends the streams of those who watch.
pub(super) async fn follow(
    mut reporter: HealthReporter,
    mut readiness: watch::Receiver<Result<(), NotReady>>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            changed = readiness.changed() => if changed.is_err() { break },
        }
        show(&reporter, &mut readiness).await;
    }
    report(&reporter, ServingStatus::NotServing).await;
    for service in SERVICES {
        reporter.clear_service_status(service).await;
    }
}

async fn report(reporter: &HealthReporter, status: ServingStatus) {
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}
