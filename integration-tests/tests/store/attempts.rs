//! What an attempt came to is read as it was recorded, and listed in order.

use std::time::Duration;

use bytes::Bytes;
use postrider_integration_tests::{default_tenant, on_both_databases};
use postrider_server::domain::attempt::{Attempt, AttemptNumber, Failure, Outcome, Response, Timings};

use crate::{
    fixtures::{DAY, NOW, SECOND, a_draft, acknowledged, an_attempt, retried},
    node::Node,
};

/// Everything an attempt records, which has no `==` because of its span.
fn parts(attempt: &Attempt) -> impl PartialEq + std::fmt::Debug {
    let Attempt { number, started_at, target_url, outcome, wish: _, response, timings, span: _ } =
        attempt.clone();
    (number, started_at, target_url, outcome, response, timings)
}

/// Records an attempt and reads it.
async fn recorded(node: &Node, attempt: impl FnOnce(Attempt) -> Attempt) -> (Attempt, Attempt) {
    let claim = node.claimed(&node.subscribe("sub").await).await;
    let mut settled = retried(&claim, NOW, NOW + SECOND);
    let written = attempt(an_attempt(claim.attempt, NOW));
    settled.attempt = Some(written.clone());
    node.settle([settled]).await;
    (written, node.attempts(claim.delivery).await.remove(0))
}

on_both_databases! {
    async fn an_attempt_is_recorded_as_it_was_first_settled(kind: Kind) {
        let node = Node::new(kind).await;
        let claim = node.claimed(&node.subscribe("sub").await).await;
        node.settle([retried(&claim, NOW, NOW + SECOND)]).await;
        node.settle([acknowledged(&claim, NOW + SECOND)]).await;
        let attempts = node.attempts(claim.delivery).await;
        assert_eq!(attempts.len(), 1);
        assert_eq!(attempts[0].outcome, Outcome::Rejected { status: 500, retry_after: None });
    }

    async fn an_attempt_is_read_as_it_was_recorded(kind: Kind) {
        let node = Node::new(kind).await;
        let (written, read) = recorded(&node, |attempt| Attempt {
            target_url: "https://example.com/høøk".to_owned(),
            outcome: Outcome::Rejected { status: 599, retry_after: None },
            response: Some(Response {
                status: 599,
                headers: vec![
                    ("set-cookie".to_owned(), "a=1".to_owned()),
                    ("set-cookie".to_owned(), "b=\"\\\u{0}\u{e9}".to_owned()),
                    ("x-empty".to_owned(), String::new()),
                ],
                body: Bytes::from((0..=255).collect::<Vec<u8>>()),
                truncated: true,
            }),
            timings: Timings {
                total: Duration::from_micros(1),
                dns: Some(Duration::from_micros(2)),
                connect: Some(Duration::ZERO),
                tls: Some(Duration::from_secs(15)),
                first_byte: Some(Duration::from_micros(3)),
            },
            ..attempt
        })
        .await;
        assert_eq!(parts(&read), parts(&written));
    }

    async fn an_attempt_without_a_response_is_read_as_it_was_recorded(kind: Kind) {
        let node = Node::new(kind).await;
        let (written, read) = recorded(&node, |attempt| Attempt {
            outcome: Outcome::Failed {
                failure: Failure::Tls,
                message: "das Zertifikat ist abgelaufen \u{1f4a5}\n'\"\\".to_owned(),
            },
            response: None,
            ..attempt
        })
        .await;
        assert_eq!(parts(&read), parts(&written));
    }

    async fn an_attempt_that_broke_off_keeps_what_had_arrived(kind: Kind) {
        let node = Node::new(kind).await;
        let (written, read) = recorded(&node, |attempt| Attempt {
            outcome: Outcome::Failed { failure: Failure::Timeout, message: String::new() },
            response: Some(Response { status: 200, truncated: true, ..Response::default() }),
            ..attempt
        })
        .await;
        assert_eq!(parts(&read), parts(&written));
    }

    async fn each_kind_of_failure_is_read_as_it_was_recorded(kind: Kind) {
        let node = Node::new(kind).await;
        let failures = [
            Failure::Timeout,
            Failure::Dns,
            Failure::Connect,
            Failure::Tls,
            Failure::AddressRefused,
            Failure::Protocol,
            Failure::Internal,
            Failure::Authentication,
        ];
        let claim = node.claimed(&node.subscribe("sub").await).await;
        let outcome = |failure| Outcome::Failed { failure, message: "it is broken".to_owned() };
        node.settle((1..).zip(failures).map(|(number, failure)| {
            let mut settled = retried(&claim, NOW, NOW);
            let number = AttemptNumber::new(number).unwrap();
            settled.number = number;
            let attempt = Attempt { outcome: outcome(failure), response: None, ..an_attempt(number, NOW) };
            settled.attempt = Some(attempt);
            settled
        }))
        .await;
        let read = node.attempts(claim.delivery).await;
        let read: Vec<_> = read.into_iter().map(|attempt| attempt.outcome).collect();
        assert_eq!(read, failures.map(outcome));
    }

    async fn a_failure_whose_message_holds_a_nul_is_recorded(kind: Kind) {
        // PostgreSQL cannot store it, and a receiver must not be able to keep its attempts from being recorded.
        let node = Node::new(kind).await;
        let (_, read) = recorded(&node, |attempt| Attempt {
            outcome: Outcome::Failed { failure: Failure::Protocol, message: "got \0, not HTTP".to_owned() },
            response: None,
            ..attempt
        })
        .await;
        let message = "got \u{fffd}, not HTTP".to_owned();
        assert_eq!(read.outcome, Outcome::Failed { failure: Failure::Protocol, message });
    }

    async fn attempts_are_listed_in_their_order_from_where_one_stopped(kind: Kind) {
        let node = Node::new(kind).await;
        let claim = node.claimed(&node.subscribe("sub").await).await;
        let mut now = NOW;
        let mut settled = retried(&claim, now, now + SECOND);
        let bystander = node.claimed(&node.subscribe("bystander").await).await;
        node.settle([retried(&bystander, NOW, NOW + DAY)]).await;
        for _ in 1..12 {
            node.settle([settled]).await;
            now = now + SECOND;
            let next = node.claim(now, 1).await.remove(0);
            settled = retried(&next, now, now + SECOND);
        }
        node.settle([settled]).await;
        let listed = async |after, limit| {
            let attempts = node.store.attempts(&default_tenant(), claim.delivery, after, limit).await;
            attempts.unwrap().unwrap().iter().map(|attempt| attempt.number.get()).collect::<Vec<_>>()
        };
        assert_eq!(listed(0, 100).await, (1..=12).collect::<Vec<_>>());
        assert_eq!(listed(0, 5).await, [1, 2, 3, 4, 5]);
        assert_eq!(listed(5, 5).await, [6, 7, 8, 9, 10]);
        assert_eq!(listed(10, 5).await, [11, 12]);
        assert!(listed(12, 5).await.is_empty());
        assert!(listed(u32::MAX, 5).await.is_empty());
    }

    async fn a_delivery_without_attempts_lists_none(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        let event = node.publish([a_draft().to([&sub])]).await.remove(0);
        let id = node.deliveries_of(&event).await[0].id;
        assert!(node.attempts(id).await.is_empty());
    }
}
