//! Tries a receiver of `docs/receiving.md` out: callbacks of the real server, and what nobody should take for one.
//!
//! ```text
//! try-receivers COMMAND…      (starts a receiver on port `PORT` for `WEBHOOK_SECRETS`; `postrider` must have been built)
//! ```
//!
//! A receiver says `listening on port …`, and `event …` for each event that it sees for the first time.

#![expect(clippy::unwrap_used, reason = "a harness for tests")]
#![expect(clippy::print_stdout, reason = "it says what it found")]

use std::{net::SocketAddr, process::Stdio, time::Duration};

use postrider_integration_tests::{Kind, ProcessBuilder, TestDatabase};
use postrider_sdk::{Client, Subscription, model::AttemptOutcome};
use postrider_server::clock::{Clock, SystemClock};
use standardwebhooks::Webhook;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const OLD: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const NEW: &str = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
const BODY: &str = "{\"price\": 1.10, \"to\": \"Zürich ☕\"}";
const PATH: &str = "/hooks";
/// A receiver may have to be compiled first.
const PATIENCE: Duration = Duration::from_mins(2);

/// A receiver that runs, killed when dropped.
struct Receiver {
    _process: Child,
    said: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
}

impl Receiver {
    async fn start(command: &[String]) -> Self {
        let (program, arguments) = command.split_first().expect("usage: try-receivers COMMAND…");
        let mut process = Command::new(program)
            .args(arguments)
            .env("PORT", "0")
            // Whoever writes these by hand may leave a space too many.
            .env("WEBHOOK_SECRETS", format!(" {NEW}  {OLD} "))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = timeout(PATIENCE, said.next_line()).await.expect("it does not begin").unwrap().unwrap();
        let port = first.strip_prefix("listening on port ").unwrap_or_else(|| panic!("it says: {first}"));
        Self { _process: process, said, address: ([127, 0, 0, 1], port.parse().unwrap()).into() }
    }

    /// The next event that it has seen for the first time.
    async fn event(&mut self) -> String {
        let said = timeout(PATIENCE, self.said.next_line()).await.expect("it says nothing").unwrap().unwrap();
        said.strip_prefix("event ").unwrap_or_else(|| panic!("it says: {said}")).to_owned()
    }

    /// Sends a request to it; these headers of ours are left out that are empty.
    async fn post(&self, id: &str, timestamp: &str, signature: &str, body: &str) -> u16 {
        let mut request = http::Request::post(PATH);
        for (name, value) in
            [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)]
        {
            if !value.is_empty() {
                request = request.header(name, value);
            }
        }
        let request = request.body(bytes::Bytes::copy_from_slice(body.as_bytes())).unwrap();
        postrider_integration_tests::send_http1(self.address, request).await.status().as_u16()
    }
}

fn sign(secret: &str, id: &str, at: i64) -> String {
    Webhook::new(secret).unwrap().sign(id, at, BODY.as_bytes()).unwrap()
}

/// What a test event comes to.
async fn test(client: &Client, subscription: &str) -> (String, AttemptOutcome) {
    let sent = client.subscriptions().send_test_event(subscription).await.unwrap();
    let attempt = sent.attempt.unwrap_or_else(|| panic!("{}", sent.summary));
    (sent.event.rsplit('/').next().unwrap().to_owned(), attempt.outcome)
}

/// Callbacks as the server sends them: by one secret, by two during a rotation, and by one that the receiver does not know.
async fn try_callbacks(receiver: &mut Receiver, client: &Client) {
    let subscriptions = client.subscriptions();
    let url = format!("http://{}{PATH}", receiver.address);
    let new = |id: &str| Subscription::to(&url).event_types(["nothing"]).id(id);
    subscriptions.create(new("known").secret(OLD)).await.unwrap();
    subscriptions.create(new("unknown")).await.unwrap();
    let check = subscriptions.check_target("known").await.unwrap();
    assert!(check.is_reachable(), "{}", check.summary);
    for rotated in [false, true] {
        if rotated {
            subscriptions.rotate_secret("known").to(NEW).await.unwrap();
        }
        let (event, outcome) = test(client, "known").await;
        assert_eq!(outcome, AttemptOutcome::Acknowledged { status: 204 });
        assert_eq!(receiver.event().await, event);
    }
    assert_eq!(test(client, "unknown").await.1, AttemptOutcome::Rejected { status: 401 });
}

/// What is no callback, or one that was seen before.
async fn try_others(receiver: &mut Receiver) {
    let now = SystemClock.now().unix_seconds();
    let (at, good) = (now.to_string(), sign(NEW, "evt_1", now));
    assert_eq!(receiver.post("evt_1", &at, &good, BODY).await, 204);
    assert_eq!(receiver.event().await, "evt_1");
    // The same again, from a retry of its own time; and beside signatures of other kinds.
    assert_eq!(
        receiver.post("evt_1", &(now - 60).to_string(), &sign(OLD, "evt_1", now - 60), BODY).await,
        204
    );
    assert_eq!(receiver.post("evt_1", &at, &format!("v1a,AAAA v2,AAAA {good}"), BODY).await, 204);

    for (what, at, signature, body) in [
        ("another body", &at, good.as_str(), &BODY.replace("1.10", "9.99")),
        ("nothing signed", &at, &good, &String::new()),
        ("no signature", &at, "", &BODY.to_owned()),
        ("no time", &String::new(), &good, &BODY.to_owned()),
        ("another time", &(now - 1).to_string(), &good, &BODY.to_owned()),
        ("too old", &(now - 310).to_string(), &sign(NEW, "evt_2", now - 310), &BODY.to_owned()),
        ("too young", &(now + 310).to_string(), &sign(NEW, "evt_2", now + 310), &BODY.to_owned()),
        ("no number", &"soon".to_owned(), &good, &BODY.to_owned()),
        ("no list", &at, "v1", &BODY.to_owned()),
        ("an empty signature", &at, "v1,", &BODY.to_owned()),
        ("another version", &at, &good.replace("v1,", "v2,"), &BODY.to_owned()),
        ("no base64", &at, "v1,ä", &BODY.to_owned()),
    ] {
        let status = receiver.post("evt_2", at, signature, body).await;
        assert_eq!(status, 401, "{what}");
    }
    assert_eq!(receiver.post("", &at, &good, BODY).await, 401, "no id");
    assert_eq!(receiver.post("evt_2", &at, &good, BODY).await, 401, "the id of another event");

    // None of that was taken for an event, and it still works.
    assert_eq!(receiver.post("evt_3", &at, &sign(NEW, "evt_3", now), BODY).await, 204);
    assert_eq!(receiver.event().await, "evt_3");
}

#[tokio::main]
async fn main() {
    let command: Vec<_> = std::env::args().skip(1).collect();
    let database = TestDatabase::new(Kind::Sqlite).await;
    let server = ProcessBuilder::serve(&database).start().await;
    let client = server.client().await;
    let mut receiver = Receiver::start(&command).await;
    try_callbacks(&mut receiver, &client).await;
    try_others(&mut receiver).await;
    println!("{}: takes what it should", command.join(" "));
    server.stop().await;
}
