//! A signing secret shows up in three answers and nowhere else.

use postrider_integration_tests::{Kind, Needles, Receiver, TestApp, an_event, on_both_databases};
use postrider_proto::v1 as pb;
use prost::Message;
use sea_orm::{ConnectionTrait, Statement};
use tonic::Response;

on_both_databases! {
    async fn no_answer_but_the_three_shows_a_secret(kind: Kind) {
        let app = TestApp::start(kind).await;
        // The test event, the check that comes with it, and the event.
        let receiver = Receiver::answering([500, 500, 410]).await;
        let mut raw = app.raw();
        let mut secrets = Needles::default();
        let mut shown = Vec::new();
        let parent = || "tenants/default".to_owned();

        let request = pb::CreateSubscriptionRequest {
            parent: parent(),
            subscription: Some(pb::Subscription {
                target_url: receiver.url(),
                event_types: vec!["**".to_owned()],
                ..pb::Subscription::default()
            }),
            subscription_id: "orders".to_owned(), ..pb::CreateSubscriptionRequest::default() };
        let created = raw.subscriptions.create_subscription(request.clone()).await.unwrap().into_inner();
        let name = || "tenants/default/subscriptions/orders".to_owned();
        secrets.add(&app.client.subscriptions().secret("orders").await.unwrap());
        let rotate = pb::RotateSubscriptionSecretRequest { name: name(), ..pb::RotateSubscriptionSecretRequest::default() };
        let rotated = raw.subscriptions.rotate_subscription_secret(rotate).await.unwrap().into_inner();
        secrets.add(&app.client.subscriptions().secret("orders").await.unwrap());
        let get = pb::GetSubscriptionSecretRequest { name: name() };
        let got = raw.subscriptions.get_subscription_secret(get).await.unwrap().into_inner();
        for answer in [created.encode_to_vec(), rotated.encode_to_vec(), got.encode_to_vec()] {
            assert!(secrets.are_in(&answer), "the search finds what is there");
        }
        shown.push(created.subscription.unwrap().encode_to_vec());

        let again = raw.subscriptions.create_subscription(request).await.unwrap_err();
        shown.push([again.message().as_bytes(), again.details()].concat());
        keep(
            &mut shown,
            raw.subscriptions.get_subscription(pb::GetSubscriptionRequest { name: name() }).await,
        );
        let list =
            pb::ListSubscriptionsRequest { parent: parent(), ..pb::ListSubscriptionsRequest::default() };
        keep(&mut shown, raw.subscriptions.list_subscriptions(list).await);
        let update = pb::UpdateSubscriptionRequest {
            subscription: Some(pb::Subscription {
                name: name(),
                description: "x".to_owned(),
                ..pb::Subscription::default()
            }),
            update_mask: None,
        };
        keep(&mut shown, raw.subscriptions.update_subscription(update).await);
        keep(
            &mut shown,
            raw.subscriptions.pause_subscription(pb::PauseSubscriptionRequest { name: name() }).await,
        );
        keep(
            &mut shown,
            raw.subscriptions.resume_subscription(pb::ResumeSubscriptionRequest { name: name() }).await,
        );
        keep(
            &mut shown,
            raw.subscriptions.enable_subscription(pb::EnableSubscriptionRequest { name: name() }).await,
        );
        let test = pb::SendTestEventRequest { name: name(), ..pb::SendTestEventRequest::default() };
        keep(&mut shown, raw.subscriptions.send_test_event(test).await);
        app.run_until_idle().await;

        let publish = pb::PublishEventRequest {
            parent: parent(),
            event: Some(pb::Event { r#type: "a".to_owned(), data: "{}".into(), ..pb::Event::default() }),
            request_id: String::new(),
        };
        let published = raw.events.publish_event(publish).await.unwrap();
        let event = published.get_ref().published.as_ref().unwrap().event.clone();
        keep(&mut shown, Ok(published));
        app.run_until_idle().await;
        keep(&mut shown, raw.events.get_event(pb::GetEventRequest { name: event }).await);
        let list = pb::ListEventsRequest { parent: parent(), ..pb::ListEventsRequest::default() };
        keep(&mut shown, raw.events.list_events(list).await);
        let list = pb::ListDeliveriesRequest { parent: parent(), ..pb::ListDeliveriesRequest::default() };
        let deliveries = raw.deliveries.list_deliveries(list).await.unwrap();
        let delivery = deliveries.get_ref().deliveries[0].name.clone();
        keep(&mut shown, Ok(deliveries));
        keep(
            &mut shown,
            raw.deliveries.get_delivery(pb::GetDeliveryRequest { name: delivery.clone() }).await,
        );
        let list = pb::ListAttemptsRequest { parent: delivery.clone(), ..pb::ListAttemptsRequest::default() };
        keep(&mut shown, raw.deliveries.list_attempts(list).await);
        let redeliver =
            raw.deliveries.redeliver_delivery(pb::RedeliverDeliveryRequest { name: delivery }).await;
        let disabled = redeliver.unwrap_err();
        shown.push([disabled.message().as_bytes(), disabled.details()].concat());
        keep(
            &mut shown,
            raw.subscriptions
                .delete_subscription(pb::DeleteSubscriptionRequest { name: name(), etag: String::new() })
                .await,
        );

        for (nth, answer) in shown.iter().enumerate() {
            assert!(!secrets.are_in(answer), "answer {nth}");
        }
        // Nor do callbacks or metrics.
        for request in receiver.requests() {
            assert!(
                !secrets.are_in(&request.body)
                    && !secrets.are_in(format!("{:?}", request.headers).as_bytes())
            );
        }
        app.stop().await;
    }

    async fn the_database_holds_no_secret_in_the_clear(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let created = app.subscribe(&receiver).await;
        let mut secrets = Needles::default();
        secrets.add(&created.secret);
        secrets
            .add(&app.client.subscriptions().rotate_secret(&created.subscription.name).await.unwrap().secret);
        app.client.publish(an_event().data("\"a marker\"", "application/json")).await.unwrap();
        app.run_until_idle().await;
        let everything = match kind {
            Kind::Sqlite => {
                let mut bytes = Vec::new();
                for entry in std::fs::read_dir(app.database.folder()).unwrap() {
                    bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
                }
                bytes
            }
            Kind::Postgres => every_row(&app).await,
        };
        let holds = |text: &str| everything.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(holds("a marker") && holds(&receiver.url()), "the search finds what is there");
        assert!(!secrets.are_in(&everything));
        app.stop().await;
    }
}

#[tokio::test]
async fn configuration_with_keys_does_not_show_them() {
    let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let builder = TestApp::builder(Kind::Sqlite).await;
    let app = builder
        .with(|config| {
            config.secrets.keys = vec![key.parse().unwrap()];
            assert!(!format!("{config:?}").contains(key));
        })
        .start()
        .await;
    assert!(!app.database.folder().join("secret.key").exists(), "a configured key needs no file");
    app.stop().await;
}

fn keep<T: Message>(shown: &mut Vec<Vec<u8>>, answer: Result<Response<T>, tonic::Status>) {
    let answer = answer.unwrap();
    shown.push([format!("{:?}", answer.metadata()).into_bytes(), answer.get_ref().encode_to_vec()].concat());
}

/// All rows of all tables, as text and, where they are bytes, as hexadecimal.
async fn every_row(app: &TestApp) -> Vec<u8> {
    let connection = app.database.connect().await;
    let backend = connection.get_database_backend();
    let sql = "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'";
    let mut everything = Vec::new();
    for table in connection.query_all_raw(Statement::from_string(backend, sql)).await.unwrap() {
        let table: String = table.try_get("", "name").unwrap();
        let sql = format!("SELECT t::text AS row FROM \"{table}\" AS t");
        for row in connection.query_all_raw(Statement::from_string(backend, sql)).await.unwrap() {
            everything.extend(row.try_get::<String>("", "row").unwrap().into_bytes());
        }
    }
    // Bytes are shown as `\x…`: payloads among them.
    let sql = "SELECT convert_from(data, 'UTF8') AS data FROM payloads";
    for row in connection.query_all_raw(Statement::from_string(backend, sql)).await.unwrap() {
        everything.extend(row.try_get::<String>("", "data").unwrap().into_bytes());
    }
    everything
}
