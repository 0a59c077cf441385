//! What every call carries, and how connecting can fail.

use std::time::Duration;

use postrider_sdk::{Client, Code, Event};

use crate::fake::Fake;

const TOKEN: &str = "s3cret-token";

#[tokio::test]
async fn every_call_carries_the_token_and_the_deadline() {
    let server = Fake::start().await;
    let client = Client::builder(server.url())
        .with_token(TOKEN)
        .with_timeout(Duration::from_secs(7))
        .connect()
        .await
        .unwrap();
    client.publish(Event::new("order.created")).await.unwrap();
    client.subscriptions().get("orders").await.unwrap();
    for call in server.calls() {
        assert_eq!(call.header("authorization"), Some("Bearer s3cret-token"), "{}", call.method);
        assert_eq!(call.header("grpc-timeout"), Some("7000000u"), "{}", call.method);
        assert!(call.header("user-agent").unwrap().starts_with("postrider-sdk/"));
    }
}

#[tokio::test]
async fn a_stream_carries_the_token_and_no_deadline() {
    let server = Fake::start().await;
    let client = Client::builder(server.url()).with_token(TOKEN).connect().await.unwrap();
    let publisher = client.publisher();
    publisher.publish(Event::new("order.created")).await.unwrap().await.unwrap();
    publisher.close().await.unwrap();
    let calls = server.calls();
    assert_eq!(calls[0].header("authorization"), Some("Bearer s3cret-token"));
    assert_eq!(calls[0].header("grpc-timeout"), None);
}

#[tokio::test]
async fn the_token_does_not_show_itself() {
    let builder = Client::builder("http://127.0.0.1:50051").with_token(TOKEN);
    assert!(!format!("{builder:?}").contains(TOKEN));
    assert!(!format!("{:?}", builder.connect_lazy().unwrap()).contains(TOKEN));
    let unusable = format!("{TOKEN}\n");
    let error = Client::builder("http://127.0.0.1:50051").with_token(unusable).connect_lazy().unwrap_err();
    assert!(error.is_invalid_argument());
    assert!(!format!("{error:?} {error}").contains(TOKEN));
}

#[tokio::test]
async fn a_url_that_cannot_be_one_is_refused_before_connecting() {
    for url in ["", "127.0.0.1:50051", "ftp://example.com", "http://user:password@example.com", "http://"] {
        let error = Client::builder(url).connect_lazy().unwrap_err();
        assert!(error.is_invalid_argument(), "{url}");
        assert!(!error.to_string().contains("password"));
    }
}

#[tokio::test]
async fn an_authority_that_is_no_certificate_is_refused() {
    let error = Client::builder("https://127.0.0.1:50051")
        .with_ca_certificate_pem("-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n")
        .connect_lazy()
        .unwrap_err();
    assert!(error.is_invalid_argument(), "{error}");
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_deadline() {
    let server = Fake::start().await;
    server.hold_answers();
    let client = server.client().with_timeout(Duration::from_millis(20));
    let error = client.publish(Event::new("order.created")).await.unwrap_err();
    assert!(error.is_deadline_exceeded(), "{error:?}");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(error.tries(), 1);
}

#[tokio::test]
async fn a_tenant_shares_the_connection_and_has_names_of_its_own() {
    let server = Fake::start().await;
    let acme = server.client().tenant("acme");
    assert_eq!(acme.events().get("evt_1").await.unwrap().name, "tenants/acme/events/evt_1");
    let elsewhere = "tenants/default/events/evt_1";
    assert_eq!(acme.events().get(elsewhere).await.unwrap().name, elsewhere);
}

#[tokio::test]
async fn calls_can_be_made_from_any_task() {
    let server = Fake::start().await;
    let client = server.client();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn({
        let client = client.clone();
        async move { client.publish(Event::new("order.created")).await.map(drop) }
    });
    tasks.spawn({
        let client = client.clone();
        async move { client.publish_batch([Event::new("order.created")]).await.remove(0).map(drop) }
    });
    tasks.spawn(async move { client.events().list().items().collect().await.map(drop) });
    while let Some(result) = tasks.join_next().await {
        result.unwrap().unwrap();
    }
}
