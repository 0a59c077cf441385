//! What was acknowledged is delivered, whenever the process is killed.

use std::collections::HashSet;

use postrider_integration_tests::{
    Process, ProcessBuilder, Receiver, TestDatabase, an_event, on_both_databases,
};
use postrider_sdk::{
    Client, Subscription,
    model::{Delivery, DeliveryState},
};
use tokio::sync::Notify;

/// How many events each crash finds on their way.
const EVENTS: usize = 300;

/// With as short a lease as the configuration allows, so that the test need not wait a minute.
fn server(database: &TestDatabase) -> ProcessBuilder {
    ProcessBuilder::serve(database)
        .with("POSTRIDER_SENDER_TIMEOUT", "1s")
        .with("POSTRIDER_SENDER_CONNECT_TIMEOUT", "1s")
        .with("POSTRIDER_DISPATCH_LEASE", "6s")
        .with("POSTRIDER_RETRY_SCHEDULE", "200ms,200ms,200ms,200ms,200ms,200ms,200ms,200ms")
}

/// Publishes until the server is gone; returns the ids of the events that it acknowledged, and says when there is one.
async fn publish_all(client: Client, begun: &Notify) -> HashSet<String> {
    let first = client.publish(an_event()).await.unwrap();
    let mut acknowledged = HashSet::from([first.event_id().to_owned()]);
    begun.notify_one();
    let publisher = client.with_retry(postrider_sdk::RetryPolicy::never()).publisher().with_max_in_flight(50);
    let mut acks = Vec::new();
    for _ in 1..EVENTS {
        match publisher.publish(an_event()).await {
            Ok(ack) => acks.push(ack),
            Err(_) => break,
        }
    }
    for ack in acks {
        if let Ok(published) = ack.await {
            acknowledged.insert(published.event_id().to_owned());
        }
    }
    acknowledged
}

/// The ids of the events that the API shows as delivered.
async fn succeeded(server: &Process) -> HashSet<String> {
    let client = server.client().await;
    let deliveries = client.deliveries().list().state(DeliveryState::Succeeded).page_size(1_000).items();
    let event = |delivery: &Delivery| delivery.event.rsplit('/').next().unwrap().to_owned();
    deliveries.collect().await.unwrap().iter().map(event).collect()
}

async fn nothing_acknowledged_is_lost(database: TestDatabase, killed_after: usize) {
    let receiver = Receiver::start().await;
    // Some succeed, some must be retried, all through the crash.
    for status in [503, 204, 204, 500, 204, 429, 204].into_iter().cycle().take(EVENTS) {
        receiver.then(status, &[], "");
    }
    let first = server(&database).start().await;
    let client = first.client().await;
    let everything = Subscription::to(receiver.url()).event_types(["**"]);
    client.subscriptions().create(everything).await.unwrap();
    let begun = Notify::new();
    let crash = async {
        begun.notified().await;
        receiver.arrived(killed_after).await;
        first.kill().await;
    };
    let (acknowledged, ()) = tokio::join!(publish_all(client, &begun), crash);

    // What was answered in the moment of the kill may not have been recorded, and is sent again.
    let before = receiver.requests().len();
    let second = server(&database).start().await;
    let recorded = succeeded(&second).await;
    receiver
        .until(|requests| {
            let good = requests[before..].iter().filter(|request| request.answered == 204);
            let mut done: HashSet<_> = good.map(|request| request.webhook_id().to_owned()).collect();
            done.extend(recorded.iter().cloned());
            acknowledged.is_subset(&done)
        })
        .await;
    let exit = second.stop().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);

    let third = server(&database).start().await;
    let succeeded = succeeded(&third).await;
    let lost: Vec<_> = acknowledged.difference(&succeeded).collect();
    assert!(lost.is_empty(), "acknowledged and not delivered: {lost:?}");
}

on_both_databases! {
    async fn what_was_acknowledged_is_delivered_after_a_kill_at_the_first_callback(kind: Kind) {
        Box::pin(nothing_acknowledged_is_lost(TestDatabase::new(kind).await, 1)).await;
    }

    async fn what_was_acknowledged_is_delivered_after_a_kill_in_the_middle(kind: Kind) {
        Box::pin(nothing_acknowledged_is_lost(TestDatabase::new(kind).await, 120)).await;
    }

    async fn attempts_that_were_under_way_at_a_kill_are_made_again(kind: Kind) {
        let database = TestDatabase::new(kind).await;
        let receiver = Receiver::start().await;
        let gate = receiver.gate();
        let first = server(&database).start().await;
        let client = first.client().await;
        client.subscriptions().create(Subscription::to(receiver.url()).event_types(["**"])).await.unwrap();
        let published = client.publish(an_event()).await.unwrap();
        receiver.arrived(1).await;
        first.kill().await;
        gate.open();

        let second = server(&database).start().await;
        receiver.arrived(2).await;
        assert_eq!(receiver.webhook_ids(), [published.event_id(), published.event_id()]);
        assert_eq!(second.stop().await.code, Some(0));
        let third = server(&database).start().await;
        let deliveries = third.client().await.deliveries().list().items().collect().await.unwrap();
        assert_eq!(deliveries[0].state, DeliveryState::Succeeded);
        assert_eq!(deliveries[0].attempt_count, 2);
    }
}
