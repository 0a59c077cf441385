//! What is wrong is refused, under the name of its field.

use postrider_integration_tests::Raw;
use postrider_proto::v1 as pb;

mod authentication;
mod events;
mod handshake;
mod lists;
mod names;
mod settings;
mod subscriptions;

/// Well-formed ids of what nobody made.
const NO_EVENT: &str = "evt_01h455vb4pex5vsknk084sn02q";
const NO_DELIVERY: &str = "dlv_01h455vb4pex5vsknk084sn02q";

/// An event that every server takes.
fn event() -> pb::Event {
    pb::Event { r#type: "order.created".to_owned(), data: "{}".into(), ..pb::Event::default() }
}

/// A subscription that every server takes.
fn a_subscription() -> pb::Subscription {
    pb::Subscription {
        target_url: "https://example.com/hook".to_owned(),
        event_types: vec!["nothing.ever".to_owned()],
        ..pb::Subscription::default()
    }
}

async fn publish(raw: &Raw, event: pb::Event) -> Result<pb::PublishedEvent, tonic::Status> {
    let request = pb::PublishEventRequest {
        parent: "tenants/default".to_owned(),
        event: Some(event),
        request_id: String::new(),
    };
    let answer = raw.events.clone().publish_event(request).await?;
    Ok(answer.into_inner().published.unwrap())
}

async fn create(raw: &Raw, subscription: pb::Subscription) -> Result<pb::Subscription, tonic::Status> {
    let request = pb::CreateSubscriptionRequest {
        parent: "tenants/default".to_owned(),
        subscription: Some(subscription),
        subscription_id: String::new(),
        ..pb::CreateSubscriptionRequest::default()
    };
    let answer = raw.subscriptions.clone().create_subscription(request).await?;
    Ok(answer.into_inner().subscription.unwrap())
}

async fn update(
    raw: &Raw,
    subscription: pb::Subscription,
    paths: &[&str],
) -> Result<pb::Subscription, tonic::Status> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let request = pb::UpdateSubscriptionRequest {
        subscription: Some(subscription),
        update_mask: Some(prost_types::FieldMask { paths }),
    };
    let answer = raw.subscriptions.clone().update_subscription(request).await?;
    Ok(answer.into_inner().subscription.unwrap())
}
