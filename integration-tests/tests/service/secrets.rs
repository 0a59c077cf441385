//! A signing secret shows up in three answers and nowhere else.

use std::{cell::RefCell, io::Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_integration_tests::{Kind, Receiver, TestApp, an_event, on_both_databases};
use postrider_proto::v1 as pb;
use postrider_sdk::{Secret, model::Authentication};
use prost::Message;
use sea_orm::{ConnectionTrait, Statement};
use tonic::Response;
use tracing_subscriber::{filter::dynamic_filter_fn, layer::SubscriberExt};

/// Everything that would give a secret away: its text, with and without prefix, and its bytes, plain and in hexadecimal.
#[derive(Default)]
struct Needles(Vec<Vec<u8>>);

impl Needles {
    fn add(&mut self, secret: &Secret) {
        let text = secret.expose().strip_prefix("whsec_").unwrap();
        let key = STANDARD.decode(text).unwrap();
        assert_eq!(key.len(), 32);
        let hex = key.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        self.0.extend([text.as_bytes().to_vec(), key, hex.to_uppercase().into_bytes(), hex.into_bytes()]);
    }

    fn are_in(&self, haystack: &[u8]) -> bool {
        self.0.iter().any(|needle| haystack.windows(needle.len()).any(|window| window == needle))
    }
}

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

/// On one thread, so that nothing is heard of other tests; at the finest level.
#[tokio::test]
async fn the_log_holds_no_secret_and_no_payload() {
    // For all threads: with a subscriber of one thread, `tracing` remembers of what others come across first that nobody listens.
    let heard = dynamic_filter_fn(|_, _| LOG.with_borrow(Option::is_some));
    let log = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(|| ThreadLog);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(heard).with(log)).unwrap();
    LOG.set(Some(Vec::new()));
    let app = TestApp::start(Kind::Sqlite).await;
    let receiver = Receiver::answering([500]).await;
    let mut secrets = Needles::default();
    let new = postrider_sdk::Subscription::to(format!("{}?token=s3cret-query", receiver.url()))
        .event_types(["**"])
        .authentication(Authentication::bearer("s3cret-bearer"));
    let created = app.client.subscriptions().create(new).await.unwrap();
    secrets.add(&created.secret);
    secrets.add(&app.client.subscriptions().rotate_secret(&created.subscription.name).await.unwrap().secret);
    app.client.subscriptions().secret(&created.subscription.name).await.unwrap();
    app.client.publish(an_event().data("\"s3cret-payload\"", "application/json")).await.unwrap();
    app.run_until_idle().await;
    app.advance(std::time::Duration::from_secs(5));
    app.run_until_idle().await;
    app.client.subscriptions().delete(&created.subscription.name).await.unwrap();
    app.sweep().await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    app.stop().await;

    let everything = LOG.take().unwrap();
    assert!(requests.iter().all(|request| request.header("authorization") == "Bearer s3cret-bearer"));
    secrets.0.push(b"s3cret-bearer".to_vec());
    assert!(!secrets.are_in(&everything), "at no level, of no crate");
    let ours: Vec<_> = String::from_utf8(everything)
        .unwrap()
        .lines()
        .filter(|line| line.contains("postrider"))
        .map(str::to_owned)
        .collect();
    assert!(ours.iter().any(|line| line.contains("CreateSubscription")), "the log is not empty: {ours:#?}");
    let errors: Vec<_> = ours.iter().filter(|line| line.split_whitespace().nth(1) == Some("ERROR")).collect();
    assert!(errors.is_empty(), "what a receiver does is no error of ours, nor is stopping: {errors:#?}");
    let signatures = requests.iter().flat_map(|request| request.header("webhook-signature").split(' '));
    for hidden in signatures.chain(["s3cret-query", "s3cret-payload"]) {
        assert!(!ours.iter().any(|line| line.contains(hidden)), "{hidden}");
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

thread_local! {
    /// What the thread logs, once somebody wants to know.
    static LOG: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Writes to the thread's log.
struct ThreadLog;

impl Write for ThreadLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.as_mut().map_or(Ok(bytes.len()), |log| log.write(bytes)))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
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
