//! Subscriptions that fail: noted once for all nodes, decided on by one of them, and never against a success.

use std::time::Duration;

use postrider_integration_tests::{Kind, default_tenant, on_both_databases};
use postrider_server::{
    dispatch::Settled,
    domain::{
        claim::Claim,
        failing::{Disable, Failed, FailurePolicy, Probed, Sign},
        handshake::Handshake,
        settings::Settings,
        subscription::{DisabledReason, Filter, Subscription, SubscriptionSpec, SubscriptionState},
        target_url::TargetUrl,
        timestamp::Timestamp,
    },
    store::failing::Looked,
};

use crate::{
    fixtures::{DAY, LEASE, NOW, SECOND, a_draft, a_spec, acknowledged, exhausted, gone, retried, set},
    node::{Node, count, done},
    scale::rows_of_scans,
};

const MINUTE: Duration = Duration::from_mins(1);
const POLICY: Disable = Disable::After(Duration::from_hours(5 * 24));

/// Settles a failure that counts, at this time.
fn failed(claim: &Claim, at: Timestamp) -> Settled {
    let sign = Sign::Failed(Failed { told: "status 500".to_owned(), sure_before: at.before(MINUTE * 2) });
    Settled { sign: Some(sign), ..retried(claim, at, at + DAY * 100) }
}

/// Settles a success that has to be told.
fn succeeded(claim: &Claim, at: Timestamp) -> Settled {
    Settled { sign: Some(Sign::Succeeded), ..acknowledged(claim, at) }
}

/// Fails at `NOW` and again when that is certain, two minutes later; returns that time.
async fn fail(node: &Node, subscription: &Subscription) -> Timestamp {
    let certain = NOW + MINUTE * 2;
    for at in [NOW, certain] {
        let claim = node.claimed(subscription).await;
        node.settle([failed(&claim, at)]).await;
    }
    certain
}

/// Has a subscription disabled that began to fail at `since`; returns when that was.
async fn disable(node: &Node, subscription: &Subscription, since: Timestamp) -> Timestamp {
    look(node, since + DAY * 4).await;
    let claim = node.claimed(subscription).await;
    node.settle([failed(&claim, since + DAY * 4)]).await;
    assert_eq!(look(node, since + DAY * 5).await.disabled, 1);
    since + DAY * 5
}

async fn look(node: &Node, now: Timestamp) -> Looked {
    node.store.look_after_failing(POLICY, now).await.unwrap()
}

async fn version(node: &Node) -> i64 {
    node.interests(&default_tenant()).await.version.unwrap()
}

async fn is_suspected(node: &Node) -> bool {
    node.interests(&default_tenant()).await.subscriptions[0].target.suspected
}

/// What waits to be told, oldest first.
async fn notices(node: &Node) -> Vec<String> {
    let waiting = node.store.operational_events(None, 1_000).await.unwrap();
    waiting.iter().map(|(_, event)| event.content.event_type.to_string()).collect()
}

fn probed_every(interval: Duration) -> SubscriptionSpec {
    let failure = Some(FailurePolicy { disable: None, probe_interval: Some(interval) });
    SubscriptionSpec { settings: Settings { failure, ..Settings::default() }, ..a_spec() }
}

on_both_databases! {
    async fn a_suspicion_is_part_of_every_target_and_a_success_ends_it(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        let before = version(&node).await;
        let claim = node.claimed(&sub).await;
        node.settle([acknowledged(&claim, NOW)]).await;
        assert_eq!((version(&node).await, is_suspected(&node).await), (before, false), "all is well");
        let (one, two, three) = (node.claimed(&sub).await, node.claimed(&sub).await, node.claimed(&sub).await);
        node.settle([failed(&one, NOW)]).await;
        assert_eq!((version(&node).await, is_suspected(&node).await), (before + 1, true));
        assert_eq!(node.subscription(&sub).await.failing.unwrap().since, None);
        node.settle([failed(&two, NOW + MINUTE * 2)]).await;
        assert_eq!(version(&node).await, before + 1, "it is known");
        let failing = node.subscription(&sub).await.failing.unwrap();
        assert_eq!(failing.since, Some(NOW + MINUTE * 2));
        assert!(node.claimed(&sub).await.target.suspected);
        node.settle([succeeded(&three, NOW + MINUTE * 3)]).await;
        assert_eq!((version(&node).await, is_suspected(&node).await), (before + 2, false));
        let after = node.subscription(&sub).await;
        assert_eq!((after.etag(), after.failing), (sub.etag(), None));
        assert!(notices(&node).await.is_empty(), "nobody was told that it failed");
    }

    async fn of_a_batch_with_a_success_the_success_counts(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        let (one, two, three) = (node.claimed(&sub).await, node.claimed(&sub).await, node.claimed(&sub).await);
        node.settle([failed(&one, NOW)]).await;
        node.settle([succeeded(&two, NOW + SECOND), failed(&three, NOW + SECOND * 2)]).await;
        assert_eq!(node.subscription(&sub).await.failing, None);
    }

    async fn what_another_target_or_a_paused_one_did_is_not_noted(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        let (one, two) = (node.claimed(&sub).await, node.claimed(&sub).await);
        let elsewhere = TargetUrl::parse("https://example.com/other").unwrap();
        let edit = set(|spec| spec.target_url = elsewhere);
        done(node.store.update_subscription(&sub.tenant, &sub.id, None, edit, NOW).await.unwrap());
        node.settle([failed(&one, NOW)]).await;
        assert_eq!(node.subscription(&sub).await.failing, None);
        let other = node.subscribe("other").await;
        let claim = node.claimed(&other).await;
        node.pause(&other).await;
        node.settle([failed(&claim, NOW), failed(&two, NOW)]).await;
        assert_eq!(node.subscription(&other).await.failing, None);
    }

    async fn of_two_nodes_one_announces_and_one_disables(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        let mut subs = Vec::new();
        let mut since = NOW;
        for id in ["one", "two", "three", "four", "five"] {
            let sub = a.subscribe(id).await;
            since = fail(&a, &sub).await;
            subs.push(sub);
        }
        let both = async |now| {
            let (one, other) = tokio::join!(look(&a, now), look(&b, now));
            (one.announced + other.announced, one.disabled + other.disabled)
        };
        assert_eq!(both(since).await, (0, 0));
        assert_eq!(both((since + DAY * 4).before(SECOND)).await, (0, 0));
        assert_eq!(both(since + DAY * 4).await, (5, 0));
        for sub in &subs {
            let claim = a.claimed(sub).await;
            a.settle([failed(&claim, since + DAY * 4)]).await;
        }
        let before = version(&a).await;
        assert_eq!(both(since + DAY * 5).await, (0, 5));
        assert!(version(&a).await > before);
        for sub in &subs {
            let disabled = a.subscription(sub).await;
            assert_eq!(disabled.disabled, Some((since + DAY * 5, DisabledReason::Failing)));
            assert_eq!(disabled.revision, sub.revision + 1);
        }
        let told = notices(&a).await;
        assert_eq!(told.iter().filter(|what| *what == "postrider.subscription.failing").count(), 5);
        assert_eq!(told.iter().filter(|what| *what == "postrider.subscription.disabled").count(), 5);
        assert_eq!(told.len(), 10);
    }

    async fn a_success_at_the_last_moment_keeps_a_subscription_from_being_disabled(kind: Kind) {
        let node = Node::new(kind).await;
        let other = node.another().await;
        let sub = node.subscribe("sub").await;
        let since = fail(&node, &sub).await;
        look(&node, since + DAY * 4).await;
        let (one, two) = (node.claimed(&sub).await, node.claimed(&sub).await);
        node.settle([failed(&one, since + DAY * 4)]).await;
        let at = since + DAY * 5;
        node.settle([succeeded(&two, at)]).await;
        assert_eq!(look(&other, at).await, Looked::default());
        assert_eq!(node.subscription(&sub).await.state(), SubscriptionState::Active);
        assert_eq!(notices(&node).await, ["postrider.subscription.failing", "postrider.subscription.recovered"]);
    }

    async fn a_success_and_a_look_at_once_leave_no_third_state(kind: Kind) {
        let node = Node::new(kind).await;
        let other = node.another().await;
        for round in 0..8 {
            let sub = node.subscribe(&format!("sub-{round}")).await;
            let since = fail(&node, &sub).await;
            look(&node, since + DAY * 4).await;
            let (one, two) = (node.claimed(&sub).await, node.claimed(&sub).await);
            node.settle([failed(&one, since + DAY * 4)]).await;
            let at = since + DAY * 5;
            tokio::join!(node.settle([succeeded(&two, at)]), look(&other, at));
            let after = node.subscription(&sub).await;
            match after.state() {
                SubscriptionState::Active => assert_eq!(after.failing, None),
                SubscriptionState::Disabled => assert_eq!(after.failing.unwrap().since, Some(since)),
                other @ (SubscriptionState::Paused | SubscriptionState::AwaitingHandshake) => panic!("{other:?}"),
            }
        }
    }

    async fn a_probe_belongs_to_one_node_until_its_lease_is_over(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        let sub = a.subscribe_with(&default_tenant(), "sub", &probed_every(MINUTE * 30), NOW).await;
        let disabled_at = disable(&a, &sub, fail(&a, &sub).await).await;
        let due = disabled_at + MINUTE * 30;
        let take = async |node: &Node, now: Timestamp| node.store.take_probe(now, now + LEASE).await.unwrap();
        assert!(take(&a, due.before(SECOND)).await.is_none());
        let (one, other) = tokio::join!(take(&a, due), take(&b, due));
        let lost = one.xor(other).expect("one of them has it");
        assert_eq!(lost.target.uid, sub.uid);
        assert!(take(&b, (due + LEASE).before(SECOND)).await.is_none());
        let next = take(&b, due + LEASE).await.unwrap();
        let settle = async |probe, probed, now| a.store.settle_probe(probe, &probed, now).await.unwrap();
        assert!(!settle(&lost, Probed::Recovered, due + LEASE).await, "it was overtaken");
        assert_eq!(a.subscription(&sub).await.state(), SubscriptionState::Disabled);
        let at = due + LEASE + SECOND;
        assert!(settle(&next, Probed::Failed("timeout".to_owned()), at).await);
        let failing = a.subscription(&sub).await.failing.unwrap();
        assert_eq!((failing.last_failure.as_str(), failing.look_at), ("timeout", Some(at + MINUTE * 30)));
        let before = version(&a).await;
        let last = take(&b, at + MINUTE * 30).await.unwrap();
        assert!(settle(&last, Probed::Recovered, at + MINUTE * 30).await);
        let enabled = a.subscription(&sub).await;
        assert_eq!((enabled.state(), enabled.failing), (SubscriptionState::Active, None));
        assert!(version(&a).await > before);
        assert_eq!(notices(&a).await.last().unwrap(), "postrider.subscription.recovered");
        // Who sends to it begins slowly.
        assert_eq!(a.claimed(&sub).await.target.recovered_at, Some(at + MINUTE * 30));
    }

    async fn a_probe_waits_for_a_pause_and_a_handshake_and_says_nothing_of_another_target(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe_with(&default_tenant(), "sub", &probed_every(MINUTE * 30), NOW).await;
        let due = disable(&node, &sub, fail(&node, &sub).await).await + MINUTE * 30;
        let take = async |now: Timestamp| node.store.take_probe(now, now + LEASE).await.unwrap();
        let update = async |spec: SubscriptionSpec| {
            let edit = |before: &mut SubscriptionSpec| { *before = spec; Ok(()) };
            done(node.store.update_subscription(&sub.tenant, &sub.id, None, edit, NOW).await.unwrap());
        };
        node.pause(&sub).await;
        assert!(take(due).await.is_none());
        node.resume(&sub).await;
        let probe = take(due).await.unwrap();
        let elsewhere = TargetUrl::parse("https://other.example.com/").unwrap();
        update(SubscriptionSpec { target_url: elsewhere, ..probed_every(MINUTE * 30) }).await;
        assert!(!node.store.settle_probe(&probe, &Probed::Recovered, due).await.unwrap());
        assert_eq!(node.subscription(&sub).await.state(), SubscriptionState::Disabled);
        assert!(take(due + LEASE).await.is_some(), "the other target is probed in its turn");
        let mut asked = probed_every(MINUTE * 30);
        asked.settings.handshake = Some(Handshake::Trello);
        update(asked).await;
        assert!(take(due + DAY).await.is_none());
    }

    async fn another_policy_is_announced_anew(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        let since = fail(&node, &sub).await;
        assert_eq!(look(&node, since + DAY * 4).await.announced, 1);
        let edit = |spec: &mut SubscriptionSpec| {
            let disable = Some(Disable::After(DAY * 10));
            spec.settings.failure = Some(FailurePolicy { disable, probe_interval: None });
            Ok(())
        };
        done(node.store.update_subscription(&sub.tenant, &sub.id, None, edit, since + DAY * 4).await.unwrap());
        let claim = node.claimed(&sub).await;
        node.settle([failed(&claim, since + DAY * 5)]).await;
        assert_eq!(look(&node, since + DAY * 5).await, Looked { found: 1, ..Looked::default() });
        assert_eq!(look(&node, since + DAY * 9).await.announced, 1);
        assert_eq!(look(&node, since + DAY * 10).await.disabled, 1);
    }

    async fn what_a_person_decides_during_a_probe_stands(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe_with(&default_tenant(), "sub", &probed_every(MINUTE * 30), NOW).await;
        let due = disable(&node, &sub, fail(&node, &sub).await).await + MINUTE * 30;
        let probe = node.store.take_probe(due, due + LEASE).await.unwrap().unwrap();
        node.enable(&sub).await;
        assert!(!node.store.settle_probe(&probe, &Probed::Failed("timeout".to_owned()), due).await.unwrap());
        let enabled = node.subscription(&sub).await;
        assert_eq!((enabled.state(), enabled.failing), (SubscriptionState::Active, None));
        assert!(node.store.take_probe(due + DAY, due + DAY + LEASE).await.unwrap().is_none());
    }

    async fn a_deleted_subscription_is_neither_looked_at_nor_probed(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe_with(&default_tenant(), "sub", &probed_every(MINUTE), NOW).await;
        let since = fail(&node, &sub).await;
        node.delete(&sub).await;
        assert_eq!(look(&node, since + DAY * 9).await, Looked::default());
        let probed = node.subscribe_with(&default_tenant(), "probed", &probed_every(MINUTE), NOW).await;
        let disabled_at = disable(&node, &probed, fail(&node, &probed).await).await;
        node.delete(&probed).await;
        let due = disabled_at + DAY;
        assert!(node.store.take_probe(due, due + LEASE).await.unwrap().is_none());
    }

    async fn what_is_told_is_written_with_what_it_tells_of(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        let (one, two) = (node.claimed(&sub).await, node.claimed(&sub).await);
        // Somebody else has taken the second one over and ended it.
        let second = match kind {
            Kind::Sqlite => format!("id = x'{}'", two.delivery.uuid().simple()),
            Kind::Postgres => format!("id = '{}'", two.delivery.uuid()),
        };
        node.execute(&format!(
            "DELETE FROM pending_deliveries WHERE {second};
             UPDATE deliveries SET state = 3, end_reason = 4, ended_at = 0, attempt_count = 1 WHERE {second}"
        ))
        .await;
        let settling = node.settle([exhausted(&one, NOW), exhausted(&two, NOW)]).await;
        assert_eq!(settling.lost, [two.delivery]);
        let waiting = node.store.operational_events(None, 10).await.unwrap();
        assert_eq!(waiting.len(), 1);
        let (id, event) = &waiting[0];
        assert_eq!(event.content.event_type.as_str(), "postrider.delivery.exhausted");
        assert!(event.content.subject.ends_with(&one.delivery.to_string()));
        assert_eq!(event.request_id.as_ref().unwrap().as_str(), id.to_string());
        let claim = node.claimed(&sub).await;
        assert!(node.settle([gone(&claim, NOW + SECOND)]).await.disabled);
        assert_eq!(notices(&node).await[1], "postrider.subscription.disabled");
        let ids: Vec<_> = node.store.operational_events(None, 10).await.unwrap().iter().map(|(id, _)| *id).collect();
        node.store.delete_operational_events(&ids).await.unwrap();
        assert_eq!(node.count("operational_events").await, 0);
    }

    async fn who_asks_for_operational_events_is_found_by_its_patterns(kind: Kind) {
        let node = Node::new(kind).await;
        let spec = |patterns: &[&str]| SubscriptionSpec {
            filter: Filter::parse(patterns).unwrap(),
            ..a_spec()
        };
        let tenant = default_tenant();
        node.subscribe_with(&tenant, "all", &spec(&["**"]), NOW).await;
        node.subscribe_with(&tenant, "lookalike", &spec(&["my.postrider.**"]), NOW).await;
        let found = async || node.store.operational_interests(&tenant).await.unwrap().len();
        assert_eq!(found().await, 0);
        let asking = node.subscribe_with(&tenant, "asking", &spec(&["order.*", "postrider.**"]), NOW).await;
        assert_eq!(found().await, 1);
        node.delete(&asking).await;
        assert_eq!(found().await, 0);
    }
}

/// The hot path: nothing but successes, of subscriptions that are well.
#[tokio::test]
async fn a_batch_without_signs_touches_no_subscription() {
    let node = Node::new(Kind::Postgres).await;
    let sub = node.subscribe("sub").await;
    node.publish((0..10).map(|_| a_draft().to([&sub]))).await;
    let claims = node.claim(NOW, 10).await;
    let rows = "SELECT xmin::text::bigint AS n FROM subscriptions";
    let connection = node.database.connect().await;
    let before = count(&connection, rows).await;
    node.settle(claims.iter().map(|claim| acknowledged(claim, NOW))).await;
    assert_eq!(count(&connection, rows).await, before);
}

/// Each node looks again and again, however many subscriptions there are and however few of them fail.
#[tokio::test]
async fn looking_for_what_fails_does_not_read_what_does_not() {
    let node = Node::new(Kind::Postgres).await;
    let sub = node.subscribe_with(&default_tenant(), "sub", &probed_every(MINUTE), NOW).await;
    let other = node.subscribe("other").await;
    node.execute(
        "INSERT INTO subscriptions (uid, tenant_id, id, description, target_url, event_types, revision, created_at, updated_at)
         SELECT gen_random_uuid(), 'default', 'well-' || n, '', 'https://example.com/', '[\"order.*\"]', 1, 0, 0
         FROM generate_series(1, 20000) AS n",
    )
    .await;
    let since = fail(&node, &other).await;
    let due = disable(&node, &sub, fail(&node, &sub).await).await + MINUTE;
    for analysed in [false, true] {
        if analysed {
            node.execute("ANALYZE subscriptions").await;
        }
        node.execute("UPDATE subscriptions SET failing_look_at = 0 WHERE failing_suspected_at IS NOT NULL")
            .await;
        let before = rows_of_scans(&node).await;
        assert!(look(&node, since + DAY * 9).await.found > 0);
        assert_eq!(look(&node, since + DAY * 9).await.found, 0);
        assert!(node.store.take_probe(due, due + LEASE).await.unwrap().is_some());
        assert!(node.store.take_probe(due, due + LEASE).await.unwrap().is_none());
        let scanned = rows_of_scans(&node).await - before;
        assert!(scanned <= 200, "{scanned} rows were read by scans of whole tables");
    }
}
