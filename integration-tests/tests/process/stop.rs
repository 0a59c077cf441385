//! SIGTERM: nothing new is taken, what is under way is finished.

use std::time::{Duration, Instant};

use postrider_integration_tests::{
    Process, ProcessBuilder, Receiver, TestDatabase, an_event, on_both_databases,
};
use postrider_sdk::{Client, Subscription, model::DeliveryState};

/// A server with one attempt under way at a receiver that does not answer yet.
async fn with_an_attempt_under_way(server: ProcessBuilder, receiver: &Receiver) -> (Process, Client) {
    let process = server.start().await;
    let client = process.client().await;
    client.subscriptions().create(Subscription::to(receiver.url()).event_types(["**"])).await.unwrap();
    client.publish(an_event()).await.unwrap();
    receiver.arrived(1).await;
    (process, client)
}

on_both_databases! {
    async fn an_attempt_that_is_under_way_is_finished_and_recorded(kind: Kind) {
        let database = TestDatabase::new(kind).await;
        let receiver = Receiver::start().await;
        let gate = receiver.gate();
        let (mut process, client) = with_an_attempt_under_way(ProcessBuilder::serve(&database), &receiver).await;
        process.signal("TERM");
        process.logged("stopping: finishing what is under way").await;
        // In the moment of the signal a call may still be taken; then it is finished as well.
        let late = client.with_retry(postrider_sdk::RetryPolicy::never()).publish(an_event()).await;
        assert!(late.as_ref().err().is_none_or(postrider_sdk::Error::is_unavailable), "{late:?}");
        gate.open();
        let exit = process.ended().await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);

        let again = ProcessBuilder::serve(&database).start().await;
        let deliveries = again.client().await.deliveries().list().items().collect().await.unwrap();
        assert_eq!(deliveries.len(), if late.is_ok() { 2 } else { 1 });
        for delivery in deliveries {
            assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Succeeded, 1));
        }
    }

    async fn when_the_grace_period_is_over_the_rest_is_left_to_its_lease(kind: Kind) {
        let database = TestDatabase::new(kind).await;
        let receiver = Receiver::start().await;
        let gate = receiver.gate();
        let server = ProcessBuilder::serve(&database).with("POSTRIDER_SHUTDOWN_GRACE", "300ms");
        let (process, _client) = with_an_attempt_under_way(server, &receiver).await;
        let begun = Instant::now();
        let exit = process.stop().await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        assert!(begun.elapsed() < Duration::from_secs(10), "the attempt's timeout is 15 s");
        gate.open();

        let again = ProcessBuilder::serve(&database).start().await;
        let deliveries = again.client().await.deliveries().list().items().collect().await.unwrap();
        assert_eq!(deliveries[0].state, DeliveryState::Pending);
    }
}
