//! Ways to show who is sending, and certificates, that cannot be.

use std::collections::HashMap;

use postrider_integration_tests::{Kind, Refusal, TestApp};
use postrider_proto::v1::{self as pb, authentication::Method};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::{a_subscription, create, update};

fn with(method: Method) -> pb::Subscription {
    let authentication = Some(pb::Authentication { method: Some(method) });
    pb::Subscription { authentication, ..a_subscription() }
}

fn basic(user: &str, password: &str) -> pb::Subscription {
    with(Method::Basic(pb::BasicAuthentication { user: user.to_owned(), password: password.to_owned() }))
}

fn bearer(token: &str) -> pb::Subscription {
    with(Method::Bearer(pb::BearerToken { token: token.to_owned() }))
}

fn api_key(header: &str, value: &str) -> pb::Subscription {
    with(Method::ApiKey(pb::ApiKey { header: header.to_owned(), value: value.to_owned() }))
}

fn client(change: impl FnOnce(&mut pb::ClientCredentials)) -> pb::Subscription {
    let mut credentials = pb::ClientCredentials {
        token_url: "https://id.example.com/token".to_owned(),
        client_id: "me".to_owned(),
        client_secret: "s3cret".to_owned(),
        ..pb::ClientCredentials::default()
    };
    change(&mut credentials);
    with(Method::ClientCredentials(credentials))
}

fn tls(certificate: &str, key: &str, authorities: &str) -> pb::Subscription {
    let tls = pb::ReceiverTls {
        client_certificate: certificate.to_owned(),
        client_key: key.to_owned(),
        ca_certificates: authorities.to_owned(),
    };
    pb::Subscription { tls: Some(tls), ..a_subscription() }
}

/// A certificate that is in force until this year, and its key.
fn pair(year: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.not_after = date_time_ymd(year, 1, 1);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn authentication_that_cannot_be_is_refused() {
    let app = TestApp::builder(Kind::Sqlite)
        .await
        .with(|config| {
            config.sender.allow_http = false;
            config.sender.allowed_networks.clear();
        })
        .start()
        .await;
    let raw = app.raw();
    let long = "x".repeat(5_000);
    let extra = |name: &str| HashMap::from([(name.to_owned(), String::new())]);
    let nothing =
        pb::Subscription { authentication: Some(pb::Authentication::default()), ..a_subscription() };
    for (field, subscription) in vec![
        ("method", nothing),
        ("basic.user", basic("", "p")),
        ("basic.user", basic("a:b", "p")),
        ("basic.user", basic(&long, "p")),
        ("basic.password", basic("a", "p\r\nx: y")),
        ("basic.password", basic("a", "********")),
        ("bearer.token", bearer("")),
        ("bearer.token", bearer("Bearer x")),
        ("bearer.token", bearer("a\nb")),
        ("bearer.token", bearer("ä")),
        ("bearer.token", bearer(&long)),
        ("bearer.token", bearer("********")),
        ("api_key.header", api_key("", "k")),
        ("api_key.header", api_key("x y", "k")),
        ("api_key.header", api_key("Content-Length", "1")),
        ("api_key.header", api_key("Transfer-Encoding", "chunked")),
        ("api_key.header", api_key("Host", "internal")),
        ("api_key.header", api_key("webhook-signature", "k")),
        ("api_key.header", api_key("X-Hub-Signature-256", "k")),
        ("api_key.value", api_key("x-key", "")),
        ("api_key.value", api_key("x-key", "a\r\nb: c")),
        ("api_key.value", api_key("x-key", "********")),
        ("client_credentials.token_url", client(|c| c.token_url.clear())),
        ("client_credentials.token_url", client(|c| c.token_url = "/token".to_owned())),
        ("client_credentials.token_url", client(|c| c.token_url = "http://id.example.com/".to_owned())),
        ("client_credentials.token_url", client(|c| c.token_url = "https://127.0.0.1/".to_owned())),
        ("client_credentials.token_url", client(|c| c.token_url = "https://localhost/".to_owned())),
        ("client_credentials.token_url", client(|c| c.token_url = "https://169.254.169.254/".to_owned())),
        ("client_credentials.token_url", client(|c| c.token_url = "https://u:p@id.example.com/".to_owned())),
        ("client_credentials.client_id", client(|c| c.client_id.clear())),
        ("client_credentials.client_secret", client(|c| c.client_secret.clear())),
        ("client_credentials.client_secret", client(|c| c.client_secret = "********".to_owned())),
        ("client_credentials.scope", client(|c| c.scope = "a\0".to_owned())),
        ("client_credentials.audience", client(|c| c.audience.clone_from(&long))),
        ("client_credentials.extra_parameters", client(|c| c.extra_parameters = extra("grant_type"))),
        ("client_credentials.extra_parameters", client(|c| c.extra_parameters = extra(""))),
        ("client_credentials.client_authentication", client(|c| c.client_authentication = 99)),
    ] {
        let refused = create(&raw, subscription).await.expect_err(field);
        assert_eq!(
            Refusal::from(&refused),
            Refusal::invalid(&format!("subscription.authentication.{field}"))
        );
        assert!(!format!("{refused:?}").contains("s3cret"));
    }
    app.stop().await;
}

#[tokio::test]
async fn certificates_that_cannot_be_are_refused() {
    let app = TestApp::start(Kind::Sqlite).await;
    let raw = app.raw();
    let ((certificate, key), (expired, its_key)) = (pair(2050), pair(2020));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (field, subscription) in vec![
        ("client_certificate", tls("hello", &key, "")),
        ("client_certificate", tls("", &key, "")),
        ("client_certificate", tls(garbage, &key, "")),
        ("client_certificate", tls(&expired, &its_key, "")),
        ("client_certificate", tls(&"x".repeat(70_000), &key, "")),
        ("client_key", tls(&certificate, "", "")),
        ("client_key", tls(&certificate, "hello", "")),
        ("client_key", tls(&certificate, &its_key, "")),
        ("client_key", tls(&certificate, "********", "")),
        ("ca_certificates", tls("", "", "hello")),
        ("ca_certificates", tls("", "", garbage)),
        ("ca_certificates", tls("", "", &key)),
    ] {
        let refused = create(&raw, subscription).await.expect_err(field);
        assert_eq!(Refusal::from(&refused), Refusal::invalid(&format!("subscription.tls.{field}")));
        assert!(!format!("{refused:?}").contains("PRIVATE"));
    }
    let good = create(&raw, tls(&certificate, &key, &certificate)).await.unwrap();
    assert_eq!(good.tls.as_ref().unwrap().client_key, "********");

    // Without TLS they would be of no use.
    let plain = "http://127.0.0.1:9/".to_owned();
    let refused = create(&raw, pb::Subscription { target_url: plain.clone(), ..tls(&certificate, &key, "") });
    assert_eq!(Refusal::from(&refused.await.unwrap_err()), Refusal::invalid("subscription.tls"));
    let change = pb::Subscription {
        name: good.name.clone(),
        target_url: plain.clone(),
        ..pb::Subscription::default()
    };
    let refused = update(&raw, change.clone(), &["target_url"]).await;
    assert_eq!(Refusal::from(&refused.unwrap_err()), Refusal::invalid("subscription.tls"));
    update(&raw, change, &["target_url", "tls"]).await.unwrap();
    let change = pb::Subscription { name: good.name, ..tls(&certificate, &key, "") };
    let refused = update(&raw, change, &["tls"]).await;
    assert_eq!(Refusal::from(&refused.unwrap_err()), Refusal::invalid("subscription.tls"));
    app.stop().await;
}
