//! Receivers are shown who is sending, by what only they and the server know.

use std::{sync::Arc, time::Duration};

use postrider_integration_tests::{Receiver, TestApp, an_event, on_both_databases};
use postrider_proto::v1 as pb;
use postrider_sdk::{
    Subscription,
    model::{
        AttemptFailure, AttemptOutcome, Authentication, ClientCredentials, DeliveryState, Health, ReceiverTls,
    },
};
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{RootCertStore, ServerConfig, pki_types::PrivatePkcs8KeyDer, server::WebPkiClientVerifier};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::retry::{attempts, the_delivery};

const SECRET: &str = "s3cret-0123456789";
const MASK: &str = "********";

/// Whether anything that callers read of the subscription `own` shows this.
async fn is_shown(app: &TestApp, text: &str) -> bool {
    let mut raw = app.raw();
    let name = "tenants/default/subscriptions/own".to_owned();
    let got = raw.subscriptions.get_subscription(pb::GetSubscriptionRequest { name }).await.unwrap();
    let parent = "tenants/default".to_owned();
    let list = pb::ListSubscriptionsRequest { parent, ..pb::ListSubscriptionsRequest::default() };
    let listed = raw.subscriptions.list_subscriptions(list).await.unwrap();
    let bytes = [got.get_ref().encode_to_vec(), listed.get_ref().encode_to_vec()].concat();
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Publishes an event and returns the header of the request that it led to.
async fn sent_header(app: &TestApp, receiver: &Receiver, name: &str) -> String {
    app.client.publish(an_event()).await.unwrap();
    app.run_until_idle().await;
    let requests = receiver.requests();
    requests.last().unwrap().header(name).to_owned()
}

/// Answers token requests with `token-1`, `token-2`, … that last for an hour.
async fn token_endpoint(answers: usize) -> Receiver {
    let endpoint = Receiver::start().await;
    for nth in 1..=answers {
        let body = format!(r#"{{"access_token":"token-{nth}","token_type":"bearer","expires_in":3600}}"#);
        endpoint.then(200, &[("content-type", "application/json")], body);
    }
    endpoint
}

/// Issues certificates, and serves TLS to those alone who show one of them.
struct Demanding {
    authority: CertifiedIssuer<'static, KeyPair>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Demanding {
    async fn start() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { authority, listener, acceptor: Arc::new(config).into() }
    }

    /// A certificate and its key in PEM.
    fn client(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["postrider".to_owned()]).unwrap();
        (params.signed_by(&key, &self.authority).unwrap().pem(), key.serialize_pem())
    }

    /// Takes one connection, and answers one request on it if it is from one who is known.
    async fn serve_one(&self) {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut stream = match self.acceptor.accept(stream).into_fallible().await {
            Ok(stream) => stream,
            Err((_, mut refused)) => {
                // Until they hang up, so that what we said is not lost in a reset.
                tokio::io::copy(&mut refused, &mut tokio::io::sink()).await.unwrap();
                return;
            }
        };
        let mut request = Vec::new();
        // The end of the event's envelope.
        while !request.ends_with(b"}}") {
            request.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
    }
}

on_both_databases! {
    async fn a_secret_is_sent_and_not_shown_and_kept_by_an_update_that_masks_it(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let new = |authentication| {
            Subscription::to(receiver.url()).event_types(["**"]).authentication(authentication).id("own")
        };
        let subscriptions = app.client.subscriptions();
        let created = subscriptions.create(new(Authentication::basic("me", SECRET))).await.unwrap();
        let shown = created.subscription.authentication.unwrap();
        assert_eq!(shown, Authentication::basic("me", MASK));
        assert!(!is_shown(&app, SECRET).await);
        let basic = "Basic bWU6czNjcmV0LTAxMjM0NTY3ODk=";
        assert_eq!(sent_header(&app, &receiver, "authorization").await, basic);

        // What was read is sent back, with another name; and something else changes.
        subscriptions.update("own").authentication(shown).description("x").await.unwrap();
        assert_eq!(sent_header(&app, &receiver, "authorization").await, basic);
        let renamed = Authentication::basic("us", MASK);
        let updated = subscriptions.update("own").authentication(renamed.clone()).await.unwrap();
        assert_eq!(updated.authentication, Some(renamed));
        assert_eq!(
            sent_header(&app, &receiver, "authorization").await,
            "Basic dXM6czNjcmV0LTAxMjM0NTY3ODk="
        );

        // A mask of another kind stands for nothing.
        let refused = subscriptions.update("own").authentication(Authentication::bearer(MASK)).await;
        let violations = refused.unwrap_err();
        assert!(format!("{violations:?}").contains("subscription.authentication.bearer.token"), "{violations:?}");

        let key = Authentication::api_key("X-Api-Key", SECRET);
        let updated = subscriptions.update("own").authentication(key).await.unwrap();
        assert_eq!(updated.authentication, Some(Authentication::api_key("x-api-key", MASK)));
        assert!(!is_shown(&app, SECRET).await);
        assert_eq!(sent_header(&app, &receiver, "x-api-key").await, SECRET);

        let updated = subscriptions.update("own").authentication(None).await.unwrap();
        assert_eq!(updated.authentication, None);
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let last = receiver.requests().pop().unwrap();
        assert!(!last.headers.contains_key("x-api-key") && !last.headers.contains_key("authorization"));
        app.stop().await;
    }

    async fn a_token_is_asked_for_once_and_anew_after_a_401_and_before_it_expires(kind: Kind) {
        let app = TestApp::start(kind).await;
        let (receiver, endpoint) = (Receiver::start().await, token_endpoint(3).await);
        let credentials = ClientCredentials::new(endpoint.url(), "me", SECRET).scope("events").audience("them");
        let new = Subscription::to(receiver.url())
            .event_types(["**"])
            .authentication(Authentication::client_credentials(credentials.clone()))
            .id("own");
        let created = app.client.subscriptions().create(new).await.unwrap().subscription;
        let mut masked = ClientCredentials::new(endpoint.url(), "me", MASK).scope("events").audience("them");
        assert_eq!(created.authentication, Some(Authentication::client_credentials(masked.clone())));
        assert!(!is_shown(&app, SECRET).await);

        for _ in 0..20 {
            app.client.publish(an_event()).await.unwrap();
        }
        app.run_until_idle().await;
        assert_eq!((receiver.requests().len(), endpoint.requests().len()), (20, 1));
        let request = endpoint.requests().pop().unwrap();
        assert_eq!(request.header("authorization"), "Basic bWU6czNjcmV0LTAxMjM0NTY3ODk=");
        assert_eq!(request.body, "grant_type=client_credentials&scope=events&audience=them");

        app.advance(Duration::from_mins(10));
        receiver.then(401, &[], "");
        assert_eq!(sent_header(&app, &receiver, "authorization").await, "Bearer token-1");
        let delivery = the_delivery(&app).await;
        assert_eq!(
            attempts(&app, &delivery).await[0].outcome,
            AttemptOutcome::Rejected { status: 401 },
            "the outcome is what the receiver said"
        );
        app.advance(Duration::from_secs(5));
        app.run_until_idle().await;
        assert_eq!(receiver.requests().pop().unwrap().header("authorization"), "Bearer token-2");
        assert_eq!(the_delivery(&app).await.state, DeliveryState::Succeeded);

        app.advance(Duration::from_secs(3_570));
        assert_eq!(sent_header(&app, &receiver, "authorization").await, "Bearer token-3");

        // A change of something else keeps the secret, and asks anew.
        endpoint.then(200, &[], r#"{"access_token":"token-4"}"#);
        masked = masked.sent_in_body();
        let change = app.client.subscriptions().update("own");
        change.authentication(Authentication::client_credentials(masked)).await.unwrap();
        assert_eq!(sent_header(&app, &receiver, "authorization").await, "Bearer token-4");
        let form = String::from_utf8(endpoint.requests().pop().unwrap().body.into()).unwrap();
        assert!(form.ends_with(&format!("&client_id=me&client_secret={SECRET}")), "{form}");

        // Nor is it sent anywhere else by one who does not know it.
        let elsewhere = token_endpoint(1).await;
        let moved = |secret| Authentication::client_credentials(ClientCredentials::new(elsewhere.url(), "me", secret));
        let subscriptions = app.client.subscriptions();
        let refused = format!("{:?}", subscriptions.update("own").authentication(moved(MASK)).await.unwrap_err());
        assert!(refused.contains("subscription.authentication.client_credentials.client_secret"), "{refused}");
        subscriptions.update("own").authentication(moved(SECRET)).await.unwrap();
        assert_eq!(sent_header(&app, &receiver, "authorization").await, "Bearer token-1");
        app.stop().await;
    }

    async fn without_a_token_an_attempt_fails_with_the_cause_and_is_repeated(kind: Kind) {
        let app =
            TestApp::builder(kind).await.with(|config| config.breaker.consecutive_failures = 2).start().await;
        let (receiver, endpoint) = (Receiver::start().await, Receiver::start().await);
        let refusal = format!(r#"{{"error":"invalid_client","error_description":"not {SECRET}"}}"#);
        endpoint.then(400, &[], refusal.clone());
        endpoint.then(400, &[], refusal);
        endpoint.then(200, &[], r#"{"access_token":"token-1"}"#);
        let credentials = ClientCredentials::new(endpoint.url(), "me", SECRET);
        let new = Subscription::to(receiver.url())
            .event_types(["**"])
            .authentication(Authentication::client_credentials(credentials))
            .id("own");
        app.client.subscriptions().create(new).await.unwrap();
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        app.advance(Duration::from_secs(5));
        app.run_until_idle().await;
        let delivery = the_delivery(&app).await;
        assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Pending, 2));
        for attempt in attempts(&app, &delivery).await {
            let message = "no access token: the token endpoint answered 400".to_owned();
            let expected = AttemptOutcome::Failed { failure: AttemptFailure::Authentication, message };
            assert_eq!(attempt.outcome, expected, "without what the endpoint should not have repeated");
        }
        assert!(receiver.requests().is_empty());
        let blocked = app.client.subscriptions().get("own").await.unwrap().health;
        assert!(
            matches!(&blocked, Health::Blocked { reason, .. } if reason.ends_with("there was no access token")),
            "{blocked:?}"
        );
        app.advance(Duration::from_hours(1));
        app.run_until_idle().await;
        assert_eq!(the_delivery(&app).await.state, DeliveryState::Succeeded);
        assert_eq!(receiver.requests()[0].header("authorization"), "Bearer token-1");
        app.stop().await;
    }

    async fn a_certificate_is_shown_to_the_receiver_and_its_key_to_nobody(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Demanding::start().await;
        let ((certificate, key), authority) = (receiver.client(), receiver.authority.pem());
        let url = format!("https://{}/hook", receiver.listener.local_addr().unwrap());
        let tls = ReceiverTls::new().client_certificate(&certificate, &key).ca_certificates(&authority);
        let new = Subscription::to(url).event_types(["**"]).tls(tls).id("own");
        let created = app.client.subscriptions().create(new).await.unwrap().subscription;
        let shown = ReceiverTls::new().client_certificate(&certificate, MASK).ca_certificates(&authority);
        assert_eq!(created.tls, Some(shown.clone()));
        assert!(is_shown(&app, &certificate).await && !is_shown(&app, &key).await);

        let deliver = async |receiver: &Demanding| {
            app.client.publish(an_event()).await.unwrap();
            tokio::join!(app.run_until_idle(), receiver.serve_one());
            the_delivery(&app).await
        };
        assert_eq!(deliver(&receiver).await.state, DeliveryState::Succeeded);
        app.client.subscriptions().update("own").tls(shown).await.unwrap();
        assert_eq!(deliver(&receiver).await.state, DeliveryState::Succeeded, "the key was kept");

        // The key does not belong to another certificate, and without one the receiver refuses.
        let other = ReceiverTls::new().client_certificate(receiver.client().0, MASK);
        let refused = app.client.subscriptions().update("own").tls(other).await.unwrap_err();
        assert!(format!("{refused:?}").contains("subscription.tls.client_key"), "{refused:?}");
        app.client.subscriptions().update("own").tls(ReceiverTls::new().ca_certificates(&authority)).await.unwrap();
        let delivery = deliver(&receiver).await;
        let outcome = attempts(&app, &delivery).await.remove(0).outcome;
        assert!(
            matches!(outcome, AttemptOutcome::Failed { failure: AttemptFailure::Tls, .. }),
            "{outcome:?}"
        );
        let updated = app.client.subscriptions().update("own").tls(None).await.unwrap();
        assert_eq!(updated.tls, None);
        app.stop().await;
    }
}

#[tokio::test]
async fn events_and_token_requests_go_through_the_proxy() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    let asked = async {
        let mut asked = Vec::new();
        let mut connections = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let (mut stream, _) = proxy.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let destination = head.split(' ').nth(1).unwrap().to_owned();
            asked.push(destination.clone());
            connections.spawn(async move {
                let mut receiver = TcpStream::connect(destination).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                tokio::io::copy_bidirectional(&mut stream, &mut receiver).await
            });
        }
        (asked, connections)
    };
    let app = TestApp::builder(postrider_integration_tests::Kind::Sqlite)
        .await
        .with(|config| {
            config.sender.proxy = postrider_server::sender::ProxyUrl::new(format!("http://{address}"));
        })
        .start()
        .await;
    let (receiver, endpoint) = (Receiver::start().await, token_endpoint(1).await);
    let own = Authentication::client_credentials(ClientCredentials::new(endpoint.url(), "me", SECRET));
    let new = Subscription::to(receiver.url()).event_types(["**"]).authentication(own).id("own");
    app.client.subscriptions().create(new).await.unwrap();
    app.client.publish(an_event()).await.unwrap();
    let ((), (asked, _connections)) = tokio::join!(app.run_until_idle(), asked);
    assert_eq!(asked, [endpoint.address(), receiver.address()].map(|address| address.to_string()));
    assert_eq!(receiver.requests()[0].header("authorization"), "Bearer token-1");
    app.stop().await;
}
