//! A handshake is made by one node at a time, what it came to counts only for what it was made for, and until it is done nothing goes
//! out, whoever claims or publishes.

use std::time::Duration;

use postrider_integration_tests::{Kind, default_tenant, on_both_databases};
use postrider_server::{
    dispatch::Queue,
    domain::{
        handshake::{Consent, Handshake, HandshakeState, HandshakeStatus},
        rate_limit::RateLimit,
        settings::Settings,
        subscription::{DisabledReason, Pace, Subscription, SubscriptionSpec, SubscriptionState},
        target_url::TargetUrl,
        timestamp::Timestamp,
    },
    store::{
        handshakes::{Followed, Take, Turn},
        secrets::{Rotation, Takeover},
        subscriptions::Change,
    },
};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::{
    fixtures::{LEASE, NOW, SECOND, TICK, a_draft, a_secret, a_spec, acknowledged, ask, set, tenant},
    node::{Node, done},
};

fn asking(handshake: Handshake) -> SubscriptionSpec {
    SubscriptionSpec { settings: Settings { handshake: Some(handshake), ..Settings::default() }, ..a_spec() }
}

async fn subscribe(node: &Node, id: &str) -> Subscription {
    node.subscribe_with(&default_tenant(), id, &asking(Handshake::Trello), NOW).await
}

async fn try_take(node: &Node, subscription: &Subscription, now: Timestamp) -> Option<Turn> {
    match node.store.take_handshake(subscription.uid, now, now + LEASE).await.unwrap() {
        Take::Taken(turn) => Some(turn),
        Take::NotDue => None,
        Take::Unreadable => panic!("unreadable"),
    }
}

async fn take(node: &Node, subscription: &Subscription, now: Timestamp) -> Turn {
    try_take(node, subscription, now).await.expect("it is due")
}

async fn agree(node: &Node, turn: &Turn, now: Timestamp) -> Followed {
    node.store.settle_handshake(turn, &Ok(Consent::default()), now).await.unwrap()
}

async fn refuse(node: &Node, turn: &Turn, now: Timestamp) -> Followed {
    node.store.settle_handshake(turn, &Err("no \0 thanks".to_owned()), now).await.unwrap()
}

async fn status(node: &Node, subscription: &Subscription) -> HandshakeStatus {
    node.subscription(subscription).await.handshake.unwrap()
}

async fn due(node: &Node, now: Timestamp) -> usize {
    node.store.due_handshakes(&[], now, 100).await.unwrap().len()
}

/// Where its events go from now on.
async fn move_to(node: &Node, subscription: &Subscription, url: &str) -> Subscription {
    let url = TargetUrl::parse(url).unwrap();
    let edit = set(|spec| spec.target_url = url);
    done(
        node.store
            .update_subscription(&subscription.tenant, &subscription.id, None, edit, NOW)
            .await
            .unwrap(),
    )
}

on_both_databases! {
    async fn nothing_is_claimed_or_overdue_before_the_receiver_agrees(kind: Kind) {
        let node = Node::new(kind).await;
        let (waiting, other) = (subscribe(&node, "waiting").await, node.subscribe("other").await);
        node.publish([a_draft().to([&waiting])]).await;
        // Also where there are subscriptions that claims look at specially.
        for special in [false, true] {
            if special {
                node.execute("UPDATE subscriptions SET rate_per_second = 1, rate_burst = 1").await;
            }
            assert!(node.claim(NOW + SECOND, 10).await.is_empty());
            assert_eq!(node.store.overdue(&ask(NOW + SECOND, 10)).await.unwrap(), None);
        }
        node.execute("UPDATE subscriptions SET rate_per_second = NULL, rate_burst = NULL").await;
        let held = |interests: postrider_server::publish::Interests| {
            interests.subscriptions.iter().map(|interest| interest.held).collect::<Vec<_>>()
        };
        let before = node.interests(&default_tenant()).await;
        let version = before.version;
        assert_eq!(held(before).iter().filter(|held| **held).count(), 1);

        let turn = take(&node, &waiting, NOW).await;
        assert_eq!(turn.target.uid, waiting.uid);
        assert!(node.claim(NOW + SECOND, 10).await.is_empty(), "it is under way");
        assert_eq!(agree(&node, &turn, NOW).await, Followed::Agreed);
        let after = node.interests(&default_tenant()).await;
        assert!(after.version > version, "every node learns it");
        assert_eq!(held(after), [false, false]);
        let claims = node.claim(NOW + SECOND, 10).await;
        assert_eq!((claims.len(), claims[0].target.uid), (1, waiting.uid));
        assert_eq!(node.subscription(&other).await.handshake, None);
    }

    async fn what_is_claimed_on_the_way_to_the_update_is_left_alone(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        node.publish([a_draft().to([&sub]), a_draft().to([&sub])]).await;
        let claim = node.claim(NOW, 1).await.remove(0);
        let edit = set(|spec| spec.settings.handshake = Some(Handshake::Trello));
        done(node.store.update_subscription(&sub.tenant, &sub.id, None, edit, NOW).await.unwrap());
        assert!(node.claim(NOW, 10).await.is_empty());
        assert!(node.settle([acknowledged(&claim, NOW)]).await.lost.is_empty());
    }

    async fn a_handshake_is_taken_once(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        for nth in 0..10 {
            let sub = subscribe(&a, &format!("sub{nth}")).await;
            assert_eq!(due(&b, NOW).await, 1);
            let (one, other) = tokio::join!(try_take(&a, &sub, NOW), try_take(&b, &sub, NOW));
            assert!(one.is_some() != other.is_some());
            assert_eq!(due(&a, NOW + LEASE.checked_sub(TICK).unwrap()).await, 0);
            let turn = take(&b, &sub, NOW + LEASE).await;
            // The first one comes back late.
            let first = one.or(other).unwrap();
            assert_eq!(agree(&a, &first, NOW + LEASE).await, Followed::Overtaken);
            assert_eq!(status(&a, &sub).await.attempts, 2);
            assert_eq!(agree(&b, &turn, NOW + LEASE).await, Followed::Agreed);
            assert!(try_take(&a, &sub, NOW + LEASE * 2).await.is_none());
        }
    }

    async fn what_it_came_to_counts_only_for_what_it_was_made_for(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = subscribe(&node, "sub").await;
        let (tenant, id) = (&sub.tenant, &sub.id);
        // There and back, at one moment.
        let turn = take(&node, &sub, NOW).await;
        move_to(&node, &sub, "https://example.com/other").await;
        move_to(&node, &sub, "https://example.com/hook").await;
        assert_eq!(agree(&node, &turn, NOW).await, Followed::Overtaken);
        let turn = take(&node, &sub, NOW).await;
        let edit = set(|spec| spec.settings.handshake = Some(Handshake::HookSecret));
        done(node.store.update_subscription(tenant, id, None, edit, NOW).await.unwrap());
        assert_eq!(refuse(&node, &turn, NOW).await, Followed::Overtaken);
        let turn = take(&node, &sub, NOW).await;
        let takeover = Takeover { overlap: SECOND, starts_at: None };
        let rotation = node.store.rotate_secret(tenant, id, &a_secret(2), takeover, NOW).await.unwrap();
        assert!(matches!(rotation, Rotation::Done(_)));
        assert_eq!(agree(&node, &turn, NOW).await, Followed::Overtaken);
        let takeover = Takeover { overlap: SECOND, starts_at: Some(NOW + SECOND) };
        let rotation = node.store.rotate_secret(tenant, id, &a_secret(3), takeover, NOW).await.unwrap();
        assert!(matches!(rotation, Rotation::HandedOver));
        let turn = take(&node, &sub, NOW).await;
        assert_eq!(turn.target.secrets.single(NOW), Some(&a_secret(2)));
        // A name is nothing that it is made with.
        let edit = set(|spec| spec.pace.max_in_flight = Pace::parse_max_in_flight(2).unwrap());
        done(node.store.update_subscription(tenant, id, None, edit, NOW).await.unwrap());
        assert_eq!(agree(&node, &turn, NOW).await, Followed::Agreed);
        let turn = {
            move_to(&node, &sub, "https://example.com/other").await;
            take(&node, &sub, NOW).await
        };
        node.delete(&sub).await;
        assert_eq!(agree(&node, &turn, NOW).await, Followed::Overtaken);
        assert_eq!(due(&node, NOW + LEASE).await, 0);
    }

    async fn a_secret_is_not_handed_over_while_another_one_is_to_take_over(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        let takeover = Takeover { overlap: SECOND, starts_at: Some(NOW + SECOND) };
        node.store.rotate_secret(&sub.tenant, &sub.id, &a_secret(2), takeover, NOW).await.unwrap();
        let update = async |now| {
            let edit = set(|spec| spec.settings.handshake = Some(Handshake::HookSecret));
            node.store.update_subscription(&sub.tenant, &sub.id, None, edit, now).await.unwrap()
        };
        let Change::Invalid(invalid) = update(NOW).await else { panic!("it was not refused") };
        assert_eq!(invalid.field, "subscription.handshake.hook_secret");
        assert!(done(update(NOW + SECOND).await).handshake.is_some());
    }

    async fn a_failure_is_repeated_on_schedule_and_disables_at_last(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = subscribe(&node, "sub").await;
        let mut now = NOW;
        for attempts in 1..=7 {
            let turn = take(&node, &sub, now).await;
            let Followed::Again(at) = refuse(&node, &turn, now).await else { panic!("too early") };
            let failed = status(&node, &sub).await;
            assert_eq!(failed.state, HandshakeState::Awaited { next_attempt_at: at });
            assert_eq!((failed.attempts, failed.last_failure.as_deref()), (attempts, Some("no \u{fffd} thanks")));
            assert_eq!(due(&node, at.before(TICK)).await, 0);
            now = at;
        }
        let turn = take(&node, &sub, now).await;
        let version = node.interests(&sub.tenant).await.version;
        assert_eq!(refuse(&node, &turn, now).await, Followed::Disabled);
        let disabled = node.subscription(&sub).await;
        assert_eq!(disabled.disabled, Some((now, DisabledReason::HandshakeFailed)));
        let (_, told) = node.store.operational_events(None, 10).await.unwrap().remove(0);
        assert_eq!(told.content.event_type.as_str(), "postrider.subscription.disabled");
        assert!(String::from_utf8_lossy(&told.content.payload.data).contains("HANDSHAKE_FAILED"));
        assert_eq!(disabled.handshake.as_ref().unwrap().state, HandshakeState::Failed);
        assert_eq!((disabled.revision, disabled.updated_at), (sub.revision + 1, now));
        let interests = node.interests(&sub.tenant).await;
        assert!(interests.subscriptions.is_empty() && interests.version > version);
        assert_eq!(due(&node, now + LEASE * 1_000).await, 0);
        node.enable(&sub).await;
        let enabled = node.subscription(&sub).await;
        assert_eq!((enabled.state(), due(&node, NOW).await), (SubscriptionState::AwaitingHandshake, 1));
        assert_eq!(status(&node, &sub).await.attempts, 0);
    }

    async fn whoever_was_disabled_for_another_reason_is_not_asked_again(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = subscribe(&node, "sub").await;
        agree(&node, &take(&node, &sub, NOW).await, NOW).await;
        node.disable(&sub).await;
        node.enable(&sub).await;
        assert_eq!(node.subscription(&sub).await.state(), SubscriptionState::Active);
    }

    async fn a_person_does_not_use_up_the_schedule(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = subscribe(&node, "sub").await;
        let turn = take(&node, &sub, NOW).await;
        let Followed::Again(at) = refuse(&node, &turn, NOW).await else { panic!("too early") };
        for _ in 0..20 {
            let taken = node.store.take_handshake_now(&sub.tenant, &sub.id, NOW, NOW + LEASE).await.unwrap();
            let Take::Taken(turn) = taken else { panic!("{taken:?}") };
            assert_eq!(refuse(&node, &turn, NOW).await, Followed::Again(at));
        }
        assert_eq!(status(&node, &sub).await.attempts, 21);
        let turn = take(&node, &sub, at).await;
        assert_eq!(refuse(&node, &turn, at).await, Followed::Again(at + Duration::from_secs(30)));
    }

    async fn an_allowed_rate_and_the_owners_are_kept_apart(kind: Kind) {
        let node = Node::new(kind).await;
        let own = RateLimit::parse(2.0, 5).unwrap();
        let pace = Pace { rate: Some(own), max_in_flight: None };
        let spec = SubscriptionSpec { pace, ..asking(Handshake::Trello) };
        let sub = node.subscribe_with(&default_tenant(), "sub", &spec, NOW).await;
        let allow = async |rate: u32| {
            let turn = take(&node, &sub, NOW).await;
            let consent = Consent { allowed_rate: Some(rate) };
            node.store.settle_handshake(&turn, &Ok(consent), NOW).await.unwrap();
            let interests = node.interests(&sub.tenant).await;
            let in_force = interests.subscriptions[0].target.pace.rate;
            (node.subscription(&sub).await.spec.pace.rate, in_force)
        };
        assert_eq!(allow(60).await, (Some(own), Some(RateLimit::per_minute(60))));
        move_to(&node, &sub, "https://example.com/quick").await;
        assert_eq!(node.subscription(&sub).await.handshake.unwrap().allowed_rate, None);
        assert_eq!(allow(6_000).await, (Some(own), Some(own)));
        let edit = set(|spec| spec.pace.rate = None);
        done(node.store.update_subscription(&sub.tenant, &sub.id, None, edit, NOW).await.unwrap());
        let interests = node.interests(&sub.tenant).await;
        assert_eq!(interests.subscriptions[0].target.pace.rate, Some(RateLimit::per_minute(6_000)));
        assert_eq!(node.subscription(&sub).await.spec.pace.rate, None);
        let edit = set(|spec| spec.settings.handshake = None);
        let changed = done(node.store.update_subscription(&sub.tenant, &sub.id, None, edit, NOW).await.unwrap());
        assert_eq!((changed.handshake, changed.spec.pace.rate), (None, None));
        assert_eq!(node.interests(&sub.tenant).await.subscriptions[0].target.pace.rate, None);
    }

    async fn a_handshake_that_this_node_cannot_read_is_left_to_others(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = subscribe(&node, "sub").await;
        let connection = node.database.connect().await;
        let row = connection.query_one_raw(Statement::from_string(
            connection.get_database_backend(),
            "SELECT settings_key_id FROM subscriptions",
        ));
        let key: String = row.await.unwrap().unwrap().try_get("", "settings_key_id").unwrap();
        node.execute("UPDATE subscriptions SET settings_key_id = 'another'").await;
        let mut now = NOW;
        for _ in 0..10 {
            let taken = node.store.take_handshake(sub.uid, now, now + LEASE).await.unwrap();
            assert!(matches!(taken, Take::Unreadable));
            assert_eq!((due(&node, now).await, due(&node, now + LEASE).await), (0, 1));
            now = now + LEASE;
        }
        node.execute(&format!("UPDATE subscriptions SET settings_key_id = '{key}'")).await;
        let turn = take(&node, &sub, now).await;
        assert_eq!(refuse(&node, &turn, now).await, Followed::Again(now + Duration::from_secs(5)), "the first step");
    }

    async fn tenants_that_have_their_share_are_left_out(kind: Kind) {
        let node = Node::new(kind).await;
        subscribe(&node, "sub").await;
        let other = tenant("other");
        node.subscribe_with(&other, "sub", &asking(Handshake::Trello), NOW + TICK).await;
        let due = async |besides: &[_], most| {
            let due = node.store.due_handshakes(besides, NOW + SECOND, most).await.unwrap();
            due.into_iter().map(|(_, tenant)| tenant).collect::<Vec<_>>()
        };
        assert_eq!(due(&[], 10).await, [default_tenant(), other.clone()]);
        assert_eq!(due(&[], 1).await, [default_tenant()]);
        assert_eq!(due(&[default_tenant()], 10).await, [other]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_due_is_found_by_an_index() {
    let node = Node::new(Kind::Sqlite).await;
    subscribe(&node, "sub").await;
    let connection = node.database.connect().await;
    let plan = connection.query_all_raw(Statement::from_string(
        DbBackend::Sqlite,
        "EXPLAIN QUERY PLAN SELECT uid, tenant_id FROM subscriptions
             WHERE handshake_due_at IS NOT NULL AND disabled_at IS NULL AND deleted_at IS NULL
                 AND handshake_due_at <= 1 AND 1 = 1
             ORDER BY handshake_due_at ASC LIMIT 1",
    ));
    let plan: Vec<String> =
        plan.await.unwrap().iter().map(|row| row.try_get("", "detail").unwrap()).collect();
    assert_eq!(plan.len(), 1, "{plan:?}");
    assert!(plan[0].contains("INDEX subscriptions_awaiting_handshake"), "{plan:?}");
}
