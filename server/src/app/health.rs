//! Tells gRPC's health service what readiness finds.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::readiness::NotReady;

/// The server as a whole, and its services one by one: they stand and fall together.
const SERVICES: [&str; 4] =
    ["", "postrider.v1.DeliveryService", "postrider.v1.EventService", "postrider.v1.SubscriptionService"];

/// Passes on every change until `stop`; then takes the services back, which ends the streams of those who watch.
pub(super) async fn follow(
    mut reporter: HealthReporter,
    mut readiness: watch::Receiver<Result<(), NotReady>>,
    stop: CancellationToken,
) {
    loop {
        let status = match *readiness.borrow_and_update() {
            Ok(()) => ServingStatus::Serving,
            Err(_) => ServingStatus::NotServing,
        };
        for service in SERVICES {
            reporter.set_service_status(service, status).await;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = readiness.changed() => if changed.is_err() { break },
        }
    }
    for service in SERVICES {
        reporter.set_service_status(service, ServingStatus::NotServing).await;
        reporter.clear_service_status(service).await;
    }
}
