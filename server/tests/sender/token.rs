//! Access tokens, from token endpoints of all kinds.

use std::collections::BTreeMap;

use postrider_server::domain::{
    authentication::Authentication,
    client_credentials::{ClientCredentials, SentIn, TokenUrl},
    hidden::Hidden,
};

use super::*;

const CLIENT_SECRET: &str = "s3 cret/ä";

pub(super) fn credentials(token_url: &str) -> ClientCredentials {
    ClientCredentials::parse(ClientCredentials {
        token_url: TokenUrl::parse(token_url).unwrap(),
        client_id: "post:rider".to_owned(),
        client_secret: Hidden::new(CLIENT_SECRET),
        scope: "events.write events.read".to_owned(),
        audience: "https://api.example.com".to_owned(),
        extra: BTreeMap::from([("resource".to_owned(), "urn:x".to_owned())]),
        sent_in: SentIn::Header,
    })
    .unwrap()
}

fn endpoint_url(endpoint: &Receiver) -> String {
    format!("http://{}/token?tenant=1", endpoint.address)
}

/// An attempt at `receiver` with a token of `endpoint`.
fn claim_of(receiver: &Receiver, credentials: ClientCredentials) -> Claim {
    let authentication = Some(Authentication::ClientCredentials(credentials));
    let settings = Settings { authentication, ..Settings::default() };
    claim_with(&format!("http://{}/", receiver.address), settings)
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn token(text: &str, seconds: u32) -> String {
    let body = format!(r#"{{"access_token":"{text}","token_type":"Bearer","expires_in":{seconds}}}"#);
    answer("200 OK", &body)
}

/// The form that a token was asked for with.
fn form(request: &receiver::Captured) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(&request.body).into_owned().collect()
}

#[tokio::test]
async fn a_token_is_asked_for_once_for_a_hundred_attempts_and_again_before_it_expires() {
    let mut endpoint = Receiver::answering(token("first", 3_600)).await;
    let mut receiver = Receiver::answering(OK).await;
    let (sender, now) = (sender(), SystemClock.now());
    let claim = claim_of(&receiver, credentials(&endpoint_url(&endpoint)));
    let attempts = (0..100).map(|_| sender.send(&claim, None, now));
    for attempt in futures_util::future::join_all(attempts).await {
        assert_eq!(attempt.outcome, ACKNOWLEDGED);
    }
    for _ in 0..100 {
        assert_eq!(receiver.request().await.headers["authorization"], "Bearer first");
    }
    let request = endpoint.request().await;
    assert_eq!(endpoint.pending_requests(), 0);
    assert_eq!(request.request_line, "POST /token?tenant=1 HTTP/1.1");
    assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
    // Each encoded, and then together: `post%3Arider:s3+cret%2F%C3%A4`.
    assert_eq!(request.headers["authorization"], "Basic cG9zdCUzQXJpZGVyOnMzK2NyZXQlMkYlQzMlQTQ=");
    let expected = [
        ("audience", "https://api.example.com"),
        ("grant_type", "client_credentials"),
        ("resource", "urn:x"),
        ("scope", "events.write events.read"),
    ];
    assert_eq!(form(&request), expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());

    sender.send(&claim, None, now + Duration::from_secs(3_569)).await;
    assert_eq!(endpoint.pending_requests(), 0);
    sender.send(&claim, None, now + Duration::from_secs(3_570)).await;
    endpoint.request().await;

    let mut changed = claim_of(&receiver, credentials(&endpoint_url(&endpoint)));
    Arc::get_mut(&mut changed.target).unwrap().uid = claim.target.uid;
    Arc::get_mut(&mut changed.target).unwrap().revision += 1;
    sender.send(&changed, None, now + Duration::from_secs(3_570)).await;
    endpoint.request().await;
}

#[tokio::test]
async fn id_and_secret_can_be_sent_as_parameters() {
    let mut endpoint = Receiver::answering(token("t", 60)).await;
    let receiver = Receiver::answering(OK).await;
    let credentials = ClientCredentials { sent_in: SentIn::Body, ..credentials(&endpoint_url(&endpoint)) };
    let attempt = sender().send(&claim_of(&receiver, credentials), None, SystemClock.now()).await;
    assert_eq!(attempt.outcome, ACKNOWLEDGED);
    let request = endpoint.request().await;
    assert!(!request.headers.contains_key("authorization"));
    let form = form(&request);
    assert_eq!((form["client_id"].as_str(), form["client_secret"].as_str()), ("post:rider", CLIENT_SECRET));
}

#[tokio::test]
async fn a_401_of_the_receiver_stays_the_outcome_and_the_next_attempt_has_another_token() {
    let mut endpoint = Receiver::answering(token("t", 3_600)).await;
    let receiver = Receiver::answering("HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n").await;
    let (sender, now) = (sender(), SystemClock.now());
    let claim = claim_of(&receiver, credentials(&endpoint_url(&endpoint)));
    for (second, asked) in [(0, 1), (1, 0), (5, 1), (6, 0), (60, 1)] {
        let attempt = sender.send(&claim, None, now + Duration::from_secs(second)).await;
        assert_eq!(attempt.outcome, rejected(401, None));
        assert_eq!(endpoint.pending_requests(), asked, "at second {second}");
        if asked > 0 {
            endpoint.request().await;
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_named_with_its_words_and_left_alone_for_a_while() {
    let body = r#"{"error":"invalid_client","error_description":"the secret has expired"}"#;
    let endpoint = Receiver::answering(answer("401 Unauthorized", body)).await;
    let receiver = Receiver::answering(OK).await;
    let (sender, now) = (sender(), SystemClock.now());
    let claim = claim_of(&receiver, credentials(&endpoint_url(&endpoint)));
    let words = "no access token: the token endpoint answered 401: invalid_client: the secret has expired";
    for (second, asked) in [(0, 1), (1, 1), (2, 1), (5, 2)] {
        let attempt = sender.send(&claim, None, now + Duration::from_secs(second)).await;
        assert_failed(&attempt, Failure::Authentication, words);
        assert_eq!((attempt.response, attempt.timings.connect), (None, None));
        assert_eq!(endpoint.pending_requests(), asked, "at second {second}");
    }
    assert_eq!(receiver.pending_requests(), 0);
}

#[tokio::test]
async fn answers_that_are_no_token_are_told_apart() {
    let long = "x".repeat(5_000);
    for (given, words) in [
        (answer("200 OK", "{}"), "not JSON with an `access_token`"),
        (answer("200 OK", "<html>"), "not JSON with an `access_token`"),
        (answer("200 OK", ""), "not JSON with an `access_token`"),
        (token("", 60), "empty, too long or does not fit"),
        (token("a b", 60), "empty, too long or does not fit"),
        (token("a\\r\\nb: c", 60), "empty, too long or does not fit"),
        (token(&long, 60), "empty, too long or does not fit"),
        (answer("200 OK", r#"{"access_token":"a","token_type":"mac"}"#), "another type than `Bearer`"),
        (answer("302 Found\r\nlocation: http://10.0.0.1/", ""), "the token endpoint answered 302"),
        (answer("500 Oops", &format!(r#"{{"error":"{CLIENT_SECRET}"}}"#)), "the token endpoint answered 500"),
        ("SSH-2.0\r\n\r\n".to_owned(), "of the token endpoint: the exchange broke off"),
    ] {
        let endpoint = Receiver::answering(given).await;
        let receiver = Receiver::answering(OK).await;
        let claim = claim_of(&receiver, credentials(&endpoint_url(&endpoint)));
        let attempt = sender().send(&claim, None, SystemClock.now()).await;
        assert_failed(&attempt, Failure::Authentication, words);
        assert!(!format!("{attempt:?}").contains(CLIENT_SECRET));
        assert_eq!(receiver.pending_requests(), 0);
    }
}

#[tokio::test]
async fn an_endpoint_has_half_of_the_time_and_cannot_send_without_end() {
    let silent = Receiver::stalling_after(b"").await;
    let stalling = Receiver::stalling_after(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{").await;
    let endless = Receiver::serving(|mut stream, _| async move {
        use tokio::io::AsyncWriteExt;
        receiver::read_request(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        loop {
            stream.write_all(&[b' '; 4_096]).await?;
        }
    })
    .await;
    for (endpoint, words) in [
        (silent, "of the token endpoint: timed out while waiting for the response"),
        (stalling, "did not end its answer in time"),
        (endless, "longer than 32768 bytes"),
    ] {
        let receiver = Receiver::answering(OK).await;
        let claim = claim_of(&receiver, credentials(&endpoint_url(&endpoint)));
        let attempt = hasty_sender().send(&claim, None, SystemClock.now()).await;
        assert_failed(&attempt, Failure::Authentication, words);
        assert!(attempt.timings.total < Duration::from_millis(300), "{:?}", attempt.timings);
    }
}

#[tokio::test]
async fn an_endpoint_is_behind_the_address_guard() {
    let endpoint = Receiver::answering(token("t", 60)).await;
    let port = endpoint.address.port();
    let sender = sender_with(|config| config.allowed_networks = vec!["127.0.0.2/32".parse().unwrap()]);
    for (host, words) in [("127.0.0.1", "loopback"), ("[::1]", "loopback"), ("10.0.0.1", "private")] {
        let receiver = Receiver::answering(OK).await;
        let mut claim = claim_of(&receiver, credentials(&format!("http://{host}:{port}/")));
        // The receiver itself may be sent to.
        Arc::get_mut(&mut claim.target).unwrap().url = TargetUrl::parse("https://example.com/").unwrap();
        let attempt = sender.send(&claim, None, SystemClock.now()).await;
        assert_failed(&attempt, Failure::Authentication, words);
    }
    assert_eq!(endpoint.pending_requests(), 0);
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_told() {
    let receiver = Receiver::answering(OK).await;
    let claim = claim_of(&receiver, credentials(&format!("http://{}/", nobody())));
    let attempt = sender().send(&claim, None, SystemClock.now()).await;
    let words = "no access token: of the token endpoint: could not connect: connection refused";
    assert_failed(&attempt, Failure::Authentication, words);
}
