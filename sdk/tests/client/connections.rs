//! Connections that break while something is on its way.

use postrider_sdk::{Client, Event};

use crate::{
    fake::{Fake, impatient},
    proxy::Proxy,
};

#[tokio::test]
async fn a_publish_whose_connection_breaks_before_the_answer_is_tried_again_on_another() {
    let server = Fake::start().await;
    let proxy = Proxy::to(server.address()).await;
    let client = impatient(Client::builder(proxy.url())).connect_lazy().unwrap();
    server.hold_answers();
    let (published, ()) = tokio::join!(client.publish(Event::new("order.created")), async {
        server.until_called(1).await;
        proxy.cut().await;
        server.answer(2);
    });
    published.unwrap();
    let calls = server.calls();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].request_ids, calls[1].request_ids);
    assert_eq!(server.stored().len(), 1);
}

#[tokio::test]
async fn a_create_whose_connection_breaks_is_unavailable_and_left_to_the_caller() {
    let server = Fake::start().await;
    let proxy = Proxy::to(server.address()).await;
    let client = impatient(Client::builder(proxy.url())).connect_lazy().unwrap();
    server.hold_answers();
    let new = postrider_sdk::Subscription::to("https://example.com").event_types(["**"]);
    let subscriptions = client.subscriptions();
    let (created, ()) = tokio::join!(subscriptions.create(new), async {
        server.until_called(1).await;
        proxy.cut().await;
    });
    let error = created.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    assert_eq!(error.tries(), 1);
}

#[tokio::test]
async fn a_stream_whose_connection_breaks_goes_on_and_loses_nothing() {
    let server = Fake::start().await;
    let proxy = Proxy::to(server.address()).await;
    let client = impatient(Client::builder(proxy.url())).connect_lazy().unwrap();
    server.hold_answers();
    let publisher = client.publisher();
    let mut acks = Vec::new();
    for n in 0..10 {
        acks.push(publisher.publish(Event::new("counted").request_id(n.to_string())).await.unwrap());
    }
    server.answer(3);
    let mut acks = acks.into_iter();
    for ack in acks.by_ref().take(3) {
        ack.await.unwrap();
    }
    proxy.cut().await;
    server.answer(100);
    for ack in acks {
        ack.await.unwrap();
    }
    publisher.close().await.unwrap();
    assert_eq!(server.stored(), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(server.methods(), ["PublishEventStream", "PublishEventStream"]);
}
