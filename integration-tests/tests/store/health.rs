//! Receivers that fail are left alone, those that are limited get no more than that, and all of it holds over nodes.

use std::{collections::BTreeMap, time::Duration};

use postrider_integration_tests::{Kind, default_tenant, on_both_databases};
use postrider_server::{
    dispatch::{Ask, Claimed, Queue, RECOVERY, Settled},
    domain::{
        breaker::{Health, HealthChange, Probe},
        claim::Claim,
        id::TenantId,
        rate_limit::RateLimit,
        subscription::{Pace, Subscription},
        target_url::TargetUrl,
        timestamp::Timestamp,
    },
};

use crate::{
    fixtures::{LEASE, NOW, SECOND, TICK, a_draft, a_spec, acknowledged, ask, gone, retried, set, tenant},
    node::{Node, count, done},
};

/// The first pause of a block that begins now.
const UNTIL: Timestamp = Timestamp::from_micros(NOW.as_micros() + 5_000_000);
const REASON: &str = "10 attempts in a row failed; the last one: timeout";

fn opening(failing_since: Timestamp, until: Timestamp) -> HealthChange {
    HealthChange::Open { until, failing_since, reason: REASON.to_owned() }
}

/// The probe that a claim is.
#[track_caller]
fn probe(claim: &Claim) -> Probe {
    claim.probe.expect("it is a probe")
}

fn reopening(claim: &Claim, until: Timestamp) -> HealthChange {
    let Probe { held_until, pauses } = probe(claim);
    HealthChange::Reopen { held_until, until, pauses: pauses + 1, reason: "the probe failed".to_owned() }
}

fn closing(claim: &Claim) -> HealthChange {
    HealthChange::Close { held_until: probe(claim).held_until }
}

/// Settles a failed attempt that changes its subscription's health; says whether it did.
async fn fail(node: &Node, claim: &Claim, at: Timestamp, change: HealthChange) -> bool {
    let mut settled = retried(claim, at, at + Duration::from_hours(1));
    settled.health = Some(change);
    node.settle([settled]).await.breakers_turned.contains(&claim.target.uid)
}

/// Settles a successful attempt that changes its subscription's health; says whether it did.
async fn succeed(node: &Node, claim: &Claim, at: Timestamp, change: HealthChange) -> bool {
    let mut settled = acknowledged(claim, at);
    settled.health = Some(change);
    node.settle([settled]).await.breakers_turned.contains(&claim.target.uid)
}

/// Blocks a subscription until [`UNTIL`] by one attempt that fails now.
async fn block(node: &Node, subscription: &Subscription) {
    let claim = node.claimed(subscription).await;
    assert!(fail(node, &claim, NOW, opening(NOW, UNTIL)).await);
}

async fn publish(node: &Node, subscription: &Subscription, events: usize) {
    let drafts = (0..events).map(|_| a_draft().of(&subscription.tenant).to([subscription]));
    node.publish(drafts).await;
}

async fn subscribe_at(node: &Node, id: &str, pace: Pace) -> Subscription {
    let mut spec = a_spec();
    spec.pace = pace;
    node.subscribe_with(&default_tenant(), id, &spec, NOW).await
}

fn a_rate(per_second: f64, burst: i32) -> Pace {
    Pace { rate: Some(RateLimit::parse(per_second, burst).unwrap()), max_in_flight: None }
}

async fn claim_all(node: &Node, now: Timestamp) -> Claimed {
    node.store.claim(&ask(now, 500)).await.unwrap()
}

fn by<K: Ord>(claims: &[Claim], key: impl Fn(&Claim) -> K) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    for claim in claims {
        *counts.entry(key(claim)).or_default() += 1;
    }
    counts
}

on_both_databases! {
    async fn a_blocked_subscription_is_left_out_and_then_asked_by_one_probe(kind: Kind) {
        let node = Node::new(kind).await;
        let (blocked, other) = (node.subscribe("blocked").await, node.subscribe("other").await);
        block(&node, &blocked).await;
        publish(&node, &blocked, 3).await;
        publish(&node, &other, 1).await;
        let claims = node.claim(UNTIL.before(TICK), 10).await;
        assert_eq!(by(&claims, |claim| claim.target.id.to_string()), [("other".to_owned(), 1)].into());
        assert_eq!(claims[0].probe, None);
        let claims = node.claim(UNTIL, 10).await;
        assert_eq!(claims.len(), 1);
        assert_eq!(probe(&claims[0]), Probe { held_until: UNTIL + LEASE, pauses: 1 });
        assert!(node.claim(UNTIL, 10).await.is_empty(), "one probe at a time");
    }

    async fn a_probe_that_succeeds_ends_the_block(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        block(&node, &sub).await;
        publish(&node, &sub, 5).await;
        let claim = node.claim(UNTIL, 10).await.remove(0);
        assert!(succeed(&node, &claim, UNTIL, closing(&claim)).await);
        assert_eq!(node.subscription(&sub).await.health, Health::Healthy);
        assert!(node.store.trouble(NOW).await.unwrap().blocked.is_empty());
        let claims = node.claim(UNTIL + RECOVERY + TICK, 10).await;
        assert_eq!((claims.len(), claims[0].probe), (4, None));
    }

    async fn a_probe_that_fails_is_followed_by_a_longer_pause(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        block(&node, &sub).await;
        publish(&node, &sub, 5).await;
        let claim = node.claim(UNTIL, 10).await.remove(0);
        let until = UNTIL + SECOND * 10;
        assert!(fail(&node, &claim, UNTIL, reopening(&claim, until)).await);
        let health = node.subscription(&sub).await.health;
        let reason = "the probe failed".to_owned();
        assert_eq!(health, Health::Blocked { failing_since: NOW, reason, next_probe_at: until });
        assert!(node.claim(until.before(TICK), 10).await.is_empty());
        assert_eq!(probe(&node.claim(until, 10).await[0]).pauses, 2);
    }

    async fn a_probe_goes_out_once_however_many_nodes_there_are(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        let sub = a.subscribe("sub").await;
        block(&a, &sub).await;
        publish(&a, &sub, 50).await;
        let mut now = UNTIL;
        for _ in 0..10 {
            let (one, other) = tokio::join!(a.claim(now, 10), b.claim(now, 10));
            let probes: Vec<_> = one.iter().chain(&other).collect();
            assert_eq!(probes.len(), 1);
            let until = now + SECOND;
            assert!(fail(&b, probes[0], now, reopening(probes[0], until)).await);
            now = until;
        }
    }

    async fn a_probe_whose_node_died_is_followed_by_another_when_its_lease_is_over(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        block(&node, &sub).await;
        publish(&node, &sub, 5).await;
        let lost = node.claim(UNTIL, 10).await.remove(0);
        let other = node.another().await;
        assert!(other.claim((UNTIL + LEASE).before(TICK), 10).await.is_empty());
        let next = other.claim(UNTIL + LEASE, 10).await.remove(0);
        assert_eq!(probe(&next), Probe { held_until: UNTIL + LEASE + LEASE, pauses: 1 });
        // It was not dead after all, but it has been overtaken.
        assert!(!succeed(&node, &lost, UNTIL + LEASE, closing(&lost)).await);
        assert_ne!(node.subscription(&sub).await.health, Health::Healthy);
        assert!(succeed(&other, &next, UNTIL + LEASE, closing(&next)).await);
    }

    async fn a_probe_is_not_used_up_when_nothing_is_due_or_nothing_may_be_sent(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        block(&node, &sub).await;
        assert!(node.claim(UNTIL, 10).await.is_empty(), "the only delivery is due in an hour");
        publish(&node, &sub, 1).await;
        node.execute("UPDATE subscriptions SET paused_at = 1").await;
        assert!(node.claim(UNTIL, 10).await.is_empty());
        node.execute("UPDATE subscriptions SET paused_at = NULL").await;
        assert_eq!(node.claim(UNTIL, 10).await.len(), 1);
    }

    async fn a_probe_is_made_by_the_next_delivery_where_the_first_has_expired(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        block(&node, &sub).await;
        node.publish([a_draft().expire_at(UNTIL).to([&sub])]).await;
        node.publish([a_draft().at(NOW + TICK).to([&sub])]).await;
        let claimed = claim_all(&node, UNTIL).await;
        assert_eq!((claimed.claims.len(), claimed.expired), (1, 1));
        assert_eq!(probe(&claimed.claims[0]), Probe { held_until: UNTIL + LEASE, pauses: 1 });
    }

    async fn a_probe_is_not_used_up_where_all_that_is_due_has_expired(kind: Kind) {
        let node = Node::new(kind).await;
        let (sub, other) = (node.subscribe("sub").await, node.subscribe("other").await);
        block(&node, &sub).await;
        node.publish([a_draft().expire_at(UNTIL).to([&sub, &other])]).await;
        publish(&node, &other, 1).await;
        let claimed = claim_all(&node, UNTIL).await;
        assert_eq!((claimed.claims.len(), claimed.expired), (1, 2));
        publish(&node, &sub, 1).await;
        assert!(claim_all(&node, UNTIL).await.claims[0].probe.is_some(), "at the same moment");
    }

    async fn a_probe_that_came_to_no_attempt_is_followed_by_another_at_once(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        block(&node, &sub).await;
        publish(&node, &sub, 5).await;
        let before = node.subscription(&sub).await.health;
        for give_back in [Settled::returned, Settled::expired] {
            let claim = node.claim(UNTIL, 10).await.remove(0);
            assert_eq!(probe(&claim), Probe { held_until: UNTIL + LEASE, pauses: 1 });
            assert_eq!(node.settle([give_back(claim, UNTIL)]).await.breakers_turned, [sub.uid].into());
            assert_eq!(node.subscription(&sub).await.health, before);
        }
        assert_eq!(node.claim(UNTIL, 10).await.len(), 1);
    }

    async fn a_probe_that_was_overtaken_gives_nothing_back(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        block(&node, &sub).await;
        publish(&node, &sub, 5).await;
        let lost = node.claim(UNTIL, 10).await.remove(0);
        assert_eq!(node.claim(UNTIL + LEASE, 10).await.len(), 1);
        assert!(node.settle([Settled::returned(lost, UNTIL + LEASE)]).await.breakers_turned.is_empty());
        assert!(node.claim(UNTIL + LEASE, 10).await.is_empty(), "one probe at a time");
    }

    async fn a_breaker_opens_once_and_for_the_failures_since_it_was_closed(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        let claims = [node.claimed(&sub).await, node.claimed(&sub).await, node.claimed(&sub).await];
        assert!(fail(&node, &claims[0], NOW, opening(NOW, UNTIL)).await);
        assert!(!fail(&node, &claims[1], NOW, opening(NOW, UNTIL + SECOND)).await, "it is open");
        let reason = REASON.to_owned();
        let health = Health::Blocked { failing_since: NOW, reason, next_probe_at: UNTIL };
        assert_eq!(node.subscription(&sub).await.health, health);

        publish(&node, &sub, 1).await;
        let claim = node.claim(UNTIL, 10).await.remove(0);
        assert!(succeed(&node, &claim, UNTIL, closing(&claim)).await);
        let late = opening(UNTIL.before(TICK), UNTIL + SECOND * 20);
        assert!(!fail(&node, &claims[2], UNTIL + SECOND * 15, late).await, "they were begun before it closed");
        assert_eq!(node.subscription(&sub).await.health, Health::Healthy);
    }

    async fn a_block_outlives_the_node_that_found_it_and_changes_no_etag(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        block(&node, &sub).await;
        let other = node.another().await;
        node.store.close().await;
        let shown = other.subscription(&sub).await;
        assert_ne!(shown.health, Health::Healthy);
        assert_eq!((shown.etag(), shown.updated_at), (sub.etag(), sub.updated_at));
        assert_eq!(other.store.trouble(NOW).await.unwrap().blocked, [sub.uid].into());
        publish(&other, &sub, 2).await;
        assert!(other.claim(NOW, 10).await.is_empty());
        assert_eq!(other.claim(UNTIL, 10).await.len(), 1);
    }

    async fn a_person_ends_a_block_and_what_failed_before_does_not_bring_it_back(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        let late = node.claimed(&sub).await;
        publish(&node, &sub, 2).await;
        for way in ["resume", "enable", "target"] {
            node.execute(&format!("UPDATE subscriptions SET blocked_until = {}, blocked_reason = 'x', block_pauses = 3", UNTIL.as_micros())).await;
            let before = node.subscription(&sub).await;
            assert_ne!(before.health, Health::Healthy);
            let (tenant, id) = (&sub.tenant, &sub.id);
            let at = NOW + SECOND;
            let after = match way {
                "resume" => node.store.resume_subscription(tenant, id, at).await,
                "enable" => node.store.enable_subscription(tenant, id, at).await,
                _ => {
                    let url = TargetUrl::parse("https://example.com/elsewhere").unwrap();
                    node.store.update_subscription(tenant, id, None, set(|spec| spec.target_url = url), at).await
                }
            };
            let after = done(after.unwrap());
            assert_eq!(after.health, Health::Healthy, "{way}");
            assert_eq!(after.etag() == before.etag(), way != "target", "{way}");
            assert_eq!(node.subscription(&sub).await.health, Health::Healthy, "{way}");
            assert!(!fail(&node, &late, at, opening(NOW, UNTIL)).await, "{way}");
        }
        let unchanged = node.store.update_subscription(&sub.tenant, &sub.id, None, set(|_| ()), NOW).await;
        assert_eq!(done(unchanged.unwrap()).health, Health::Healthy);
    }

    async fn a_change_of_something_else_leaves_a_block_as_it_is(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        block(&node, &sub).await;
        let health = node.subscription(&sub).await.health;
        let pace = a_rate(1.0, 1);
        let (tenant, id) = (&sub.tenant, &sub.id);
        let changed = node.store.update_subscription(tenant, id, None, set(|spec| spec.pace = pace), NOW).await;
        assert_eq!(done(changed.unwrap()).health, health);
        assert_eq!(node.subscription(&sub).await.health, health);
        node.pause(&sub).await;
        assert_eq!(node.subscription(&sub).await.health, health);
    }

    async fn a_target_that_is_gone_and_a_block_fit_into_one_batch(kind: Kind) {
        let node = Node::new(kind).await;
        let (a, b) = (node.subscribe("a").await, node.subscribe("b").await);
        let claims = [node.claimed(&b).await, node.claimed(&a).await];
        let mut blocked = retried(&claims[0], NOW, NOW + SECOND);
        blocked.health = Some(opening(NOW, UNTIL));
        let settling = node.settle([blocked, gone(&claims[1], NOW)]).await;
        assert!(settling.disabled);
        assert_eq!(settling.breakers_turned, [b.uid].into());
    }

    async fn an_outage_touches_no_delivery_that_waits(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        block(&node, &sub).await;
        publish(&node, &sub, 1_000).await;
        let (mut now, mut probes) = (UNTIL, 0);
        for _ in 0..60 {
            for claim in node.claim(now, 500).await {
                probes += 1;
                assert!(fail(&node, &claim, now, reopening(&claim, now + SECOND * 20)).await);
            }
            now = now + SECOND;
        }
        assert_eq!(probes, 3, "one minute, a pause of twenty seconds");
        let touched = match kind {
            Kind::Sqlite => "attempt_count > 0 OR due_at <> (SELECT created_at FROM deliveries AS d WHERE d.id = p.id)",
            // Each version of a row has the transaction that wrote it; all were published in one.
            Kind::Postgres => "xmin <> (SELECT xmin FROM pending_deliveries GROUP BY xmin ORDER BY COUNT(*) DESC LIMIT 1)",
        };
        let sql = format!("SELECT COUNT(*) AS n FROM pending_deliveries AS p WHERE {touched}");
        // The one that led to the block, and the probes.
        assert_eq!(count(&node.database.connect().await, &sql).await, 1 + 3);
    }

    async fn a_node_that_did_not_see_a_recovery_begins_with_one_and_one_that_did_has_its_window(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        block(&node, &sub).await;
        publish(&node, &sub, 20).await;
        let claim = node.claim(UNTIL, 10).await.remove(0);
        assert!(succeed(&node, &claim, UNTIL, closing(&claim)).await);
        let claims = node.another().await.claim(UNTIL, 10).await;
        assert_eq!((claims.len(), claims[0].target.recovered_at), (1, Some(UNTIL)));
        let with_window = Ask { limits: vec![(sub.uid, 4)], held: vec![(sub.uid, 1)], ..ask(UNTIL, 10) };
        assert_eq!(node.claim_as(&with_window).await.len(), 3);
        assert_eq!(node.claim(UNTIL + RECOVERY + TICK, 10).await.len(), 10, "it was a while ago");
    }

    async fn a_window_and_a_subscriptions_own_limit_take_room_and_no_turns(kind: Kind) {
        let node = Node::new(kind).await;
        let own = Pace { rate: None, max_in_flight: Pace::parse_max_in_flight(2).unwrap() };
        let (own, reduced) = (subscribe_at(&node, "own", own).await, node.subscribe("reduced").await);
        let free = node.subscribe("free").await;
        for sub in [&own, &reduced, &free] {
            publish(&node, sub, 10).await;
        }
        let ask_for = |max| Ask { limits: vec![(reduced.uid, 1)], ..ask(NOW, max) };
        let counts = |claims: Vec<Claim>| by(&claims, |claim| claim.target.id.to_string()).into_values().collect::<Vec<_>>();
        // In the order of the names: free, own, reduced.
        assert_eq!(counts(node.claim_as(&ask_for(3)).await), [1, 1, 1], "each has its first turn");
        let busy = Ask { held: vec![(own.uid, 1), (reduced.uid, 1)], ..ask_for(100) };
        assert_eq!(counts(node.claim_as(&busy).await), [9, 1]);
        let none = Ask { limits: vec![(reduced.uid, 0), (own.uid, 0)], ..ask(NOW, 100) };
        assert!(node.claim_as(&none).await.is_empty());
    }

    async fn a_tenant_at_its_limit_leaves_room_for_the_others(kind: Kind) {
        let node = Node::new(kind).await;
        let (noisy, quiet) = (tenant("noisy"), tenant("quiet"));
        for id in ["a", "b", "c"] {
            publish(&node, &node.subscribe_in(&noisy, id).await, 20).await;
        }
        publish(&node, &node.subscribe_in(&quiet, "d").await, 5).await;
        let by_tenant = |claims: &[Claim]| by(claims, |claim| claim.target.tenant.clone());
        let busy = |under_way| Ask {
            max_per_tenant: 10,
            tenants: vec![(noisy.clone(), under_way), (TenantId::parse("idle").unwrap(), 10)],
            ..ask(NOW, 100)
        };
        let claims = node.claim_as(&busy(4)).await;
        assert_eq!(by_tenant(&claims), [(noisy.clone(), 6), (quiet.clone(), 5)].into());
        assert_eq!(by(&claims, |claim| claim.target.id.to_string()).into_values().collect::<Vec<_>>(), [2, 2, 2, 5]);
        assert!(node.claim_as(&busy(10)).await.is_empty());
    }

    async fn tenants_take_turns_however_many_subscriptions_they_have(kind: Kind) {
        let node = Node::new(kind).await;
        let (noisy, quiet) = (tenant("noisy"), tenant("quiet"));
        for id in ["a", "b", "c", "d"] {
            publish(&node, &node.subscribe_in(&noisy, id).await, 20).await;
        }
        publish(&node, &node.subscribe_in(&quiet, "e").await, 20).await;
        let by_tenant = |claims: &[Claim]| by(claims, |claim| claim.target.tenant.clone());
        assert_eq!(by_tenant(&node.claim(NOW, 10).await), [(noisy.clone(), 5), (quiet.clone(), 5)].into());
        let busy = Ask { tenants: vec![(noisy.clone(), 6)], ..ask(NOW, 6) };
        assert_eq!(by_tenant(&node.claim_as(&busy).await), [(quiet, 6)].into(), "what is under way counts");
    }

    async fn a_rate_holds_over_all_nodes_and_its_backlog_drains_evenly(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        let sub = subscribe_at(&a, "sub", a_rate(10.0, 5)).await;
        publish(&a, &sub, 100).await;
        let (one, other) = tokio::join!(claim_all(&a, NOW), claim_all(&b, NOW));
        assert_eq!(one.claims.len() + other.claims.len(), 5);
        let again = NOW + SECOND / 10;
        let throttled = claim_all(&a, NOW).await.throttled;
        assert_eq!(throttled, [(sub.uid, again)], "it is told when to look again");
        let (mut now, mut taken) = (again, 0);
        for nth in 0..20 {
            let node = if nth % 2 == 0 { &a } else { &b };
            let claimed = claim_all(node, now).await;
            taken += claimed.claims.len();
            assert_eq!(claimed.throttled, [(sub.uid, now + SECOND / 10)]);
            assert!(claim_all(&a, now).await.claims.is_empty());
            now = now + SECOND / 10;
        }
        assert_eq!(taken, 20);
    }

    async fn a_rate_that_is_not_used_costs_nothing_and_one_that_is_changed_begins_anew(kind: Kind) {
        let node = Node::new(kind).await;
        let (limited, other) = (subscribe_at(&node, "sub", a_rate(0.01, 2)).await, node.subscribe("other").await);
        publish(&node, &other, 1).await;
        let claimed = claim_all(&node, NOW).await;
        assert_eq!((claimed.claims.len(), claimed.throttled), (1, Vec::new()));
        publish(&node, &limited, 10).await;
        assert_eq!(claim_all(&node, NOW).await.claims.len(), 2);
        assert_eq!(claim_all(&node, NOW + SECOND).await.claims.len(), 0);
        for (pace, room) in [(a_rate(0.01, 3), 3), (Pace::default(), 5)] {
            let (tenant, id) = (&limited.tenant, &limited.id);
            let changed = node.store.update_subscription(tenant, id, None, set(|spec| spec.pace = pace), NOW).await;
            done(changed.unwrap());
            assert_eq!(claim_all(&node, NOW + SECOND).await.claims.len(), room);
        }
    }

    async fn a_probe_of_a_limited_subscription_uses_its_rate(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = subscribe_at(&node, "sub", a_rate(0.1, 1)).await;
        publish(&node, &sub, 5).await;
        let claim = node.claim(NOW, 10).await.remove(0);
        assert!(fail(&node, &claim, NOW, opening(NOW, UNTIL)).await);
        let claimed = claim_all(&node, UNTIL).await;
        assert_eq!((claimed.claims.len(), claimed.throttled), (0, vec![(sub.uid, NOW + SECOND * 10)]));
        let claims = node.claim(NOW + SECOND * 10, 10).await;
        assert_eq!((claims.len(), probe(&claims[0]).pauses), (1, 1));
    }

    async fn many_throttled_subscriptions_do_not_stand_in_the_way(kind: Kind) {
        let node = Node::new(kind).await;
        for nth in 0..20 {
            let sub = subscribe_at(&node, &format!("slow-{nth}"), a_rate(0.001, 1)).await;
            publish(&node, &sub, 2).await;
        }
        assert_eq!(claim_all(&node, NOW).await.claims.len(), 20);
        let (limited, free) = (subscribe_at(&node, "limited", a_rate(1.0, 1)).await, node.subscribe("free").await);
        for sub in [&limited, &free] {
            publish(&node, sub, 1).await;
        }
        let claimed = claim_all(&node, NOW).await;
        assert_eq!(by(&claimed.claims, |claim| claim.target.id.to_string()).len(), 2);
        assert_eq!(claimed.throttled.len(), 21, "the limited one has just used up its rate");
    }
}
