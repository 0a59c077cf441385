//! What is wanted can be changed, and every change is seen by whoever publishes next.

use std::time::Duration;

use postrider_integration_tests::{default_tenant, on_both_databases};
use postrider_server::{
    domain::{
        authentication::Authentication,
        client_credentials::{ClientCredentials, SentIn, TokenUrl},
        conditions::{AttributeCondition, AttributeTest, Conditions},
        failing::{Disable, FailurePolicy},
        form::{BodyForm, CloudEventsMode, Form, Headers, Method, StaticHeader},
        handshake::Handshake,
        hidden::Hidden,
        id::{SubscriptionId, SubscriptionUid, TenantId},
        page::Page,
        rate_limit::RateLimit,
        receiver_tls::{Identity, ReceiverTls},
        retry::{Growth, OwnRetry, Pauses},
        settings::Settings,
        signing::{CustomHmac, Profile, SignatureHeader, Signing, Template},
        subscription::{Description, Filter, Pace, Subscription, SubscriptionSpec, SubscriptionState},
        target_url::TargetUrl,
    },
    publish::Journal,
    store::{Error, subscriptions::Change},
};
use sea_orm::{ConnectionTrait, Statement};

use crate::{
    fixtures::{NOW, SECOND, a_page, a_secret, a_spec, name, one_page, over, set, tenant},
    node::{Node, done},
};

/// Everything there is to say of a subscription.
fn parts(subscription: &Subscription) -> impl PartialEq + std::fmt::Debug + use<> {
    let Subscription {
        uid,
        tenant,
        id,
        spec,
        paused_at,
        disabled,
        health,
        failing,
        handshake,
        revision,
        created_at,
        updated_at,
    } = subscription.clone();
    let SubscriptionSpec { description, target_url, filter, pace, settings } = spec;
    (
        (uid, tenant, id),
        (description, target_url, filter, pace, settings),
        (paused_at, disabled, health, failing, handshake, revision, created_at, updated_at),
    )
}

fn describe(text: &str) -> impl FnOnce(&mut SubscriptionSpec) {
    let description = Description::parse(text).unwrap();
    |spec| spec.description = description
}

fn ids(page: &Page<Subscription>) -> Vec<&str> {
    page.items.iter().map(|subscription| subscription.id.as_str()).collect()
}

/// The version that a publish is checked against.
async fn version(node: &Node, tenant: &TenantId) -> i64 {
    node.interests(tenant).await.version.unwrap()
}

/// Settings with something in every part.
fn some_settings() -> Settings {
    let growth = Growth { first: SECOND, factor: 1.5, longest: Duration::from_mins(1), attempts: 7 };
    let custom = CustomHmac::new(
        SignatureHeader::parse("header", "X-Acme-Signature").unwrap(),
        Template::signed("{timestamp}.{{{body}}}").unwrap(),
    );
    Settings {
        retry: Some(OwnRetry {
            pauses: Some(Pauses::growing(growth).unwrap()),
            max_age: Some(Duration::from_hours(3)),
        }),
        timeout: Some(Duration::from_millis(4_500)),
        authentication: Some(Authentication::ClientCredentials(ClientCredentials {
            token_url: TokenUrl::parse("https://id.example.com/token?a=b").unwrap(),
            client_id: "me".to_owned(),
            client_secret: Hidden::new("s3cret"),
            scope: "a b".to_owned(),
            audience: String::new(),
            extra: [("resource".to_owned(), "ü".to_owned())].into(),
            sent_in: SentIn::Body,
        })),
        tls: Some(ReceiverTls {
            identity: Some(Identity { certificate: "a certificate".to_owned(), key: Hidden::new("a key") }),
            authorities: None,
        }),
        signing: Some(Signing::new(vec![Profile::Stripe, Profile::CustomHmac(custom)]).unwrap()),
        filter: Some(Conditions {
            attributes: vec![AttributeCondition {
                key: "region".to_owned(),
                test: AttributeTest::Prefix("eu-".to_owned()),
            }],
            expression: Some("data.amount > 100".to_owned()),
        }),
        failure: Some(FailurePolicy {
            disable: Some(Disable::After(Duration::from_hours(7))),
            probe_interval: Some(Duration::from_mins(9)),
        }),
        form: Some(Form {
            body: BodyForm::CloudEvents(CloudEventsMode::Structured),
            method: Method::Put,
            headers: Headers::parse(vec![
                StaticHeader::parse("x-key", "hidden", true).unwrap(),
                StaticHeader::parse("x-version", "2", false).unwrap(),
            ])
            .unwrap(),
        }),
        handshake: Some(Handshake::meta("s3cret").unwrap()),
    }
}

on_both_databases! {
    async fn settings_go_with_the_deliveries_and_are_taken_away_again(kind: Kind) {
        let node = Node::new(kind).await;
        let spec = SubscriptionSpec { settings: some_settings(), ..a_spec() };
        let created = node.subscribe_with(&default_tenant(), "orders", &spec, NOW).await;
        let interests = node.store.interests(&default_tenant()).await.unwrap();
        let target = &interests.subscriptions[0].target;
        assert_eq!(target.settings.as_deref(), Some(&some_settings()));
        assert_eq!(target.revision, 1);

        let edit = set(|spec| spec.settings = Settings::default());
        let (tenant, id) = (&created.tenant, &created.id);
        let changed = done(node.store.update_subscription(tenant, id, None, edit, NOW + SECOND).await.unwrap());
        assert!(changed.spec.settings.is_plain());
        let interests = node.store.interests(&default_tenant()).await.unwrap();
        let target = &interests.subscriptions[0].target;
        assert_eq!((target.settings.as_deref(), target.revision), (Some(&Settings::default()), 2));
    }

    async fn settings_are_encrypted_and_a_subscription_is_matched_also_where_their_key_is_missing(kind: Kind) {
        let node = Node::new(kind).await;
        let spec = SubscriptionSpec { settings: some_settings(), ..a_spec() };
        let created = node.subscribe_with(&default_tenant(), "orders", &spec, NOW).await;
        let connection = node.database.connect().await;
        let row = connection.query_one_raw(Statement::from_string(
            connection.get_database_backend(),
            "SELECT settings FROM subscriptions",
        ));
        let stored: Vec<u8> = row.await.unwrap().unwrap().try_get("", "settings").unwrap();
        assert!(!stored.windows(7).any(|part| part == b"timeout" || part == b"longest"));
        assert!(!stored.windows(6).any(|part| part == b"hidden"));

        node.execute("UPDATE subscriptions SET settings_key_id = 'another'").await;
        let interests = node.store.interests(&default_tenant()).await.unwrap();
        assert_eq!(interests.subscriptions[0].target.settings, None);
        let read = node.store.subscription(&created.tenant, &created.id).await;
        assert!(matches!(read, Err(Error::Secret(_))), "{read:?}");
    }

    async fn a_subscription_is_read_as_it_was_created(kind: Kind) {
        let node = Node::new(kind).await;
        let spec = SubscriptionSpec {
            description: Description::parse("Zürich \u{1f4ee}\n'\"\\").unwrap(),
            target_url: TargetUrl::parse("https://example.com:8443/h%C3%B8k?token=a%20b").unwrap(),
            filter: Filter::parse(&["order.*", "invoice.**", "a_b-c"]).unwrap(),
            pace: Pace {
                rate: Some(RateLimit::parse(0.1, 7).unwrap()),
                max_in_flight: Pace::parse_max_in_flight(3).unwrap(),
            },
            settings: some_settings(),
        };
        let created = node.subscribe_with(&default_tenant(), "my-sub_1", &spec, NOW).await;
        assert_eq!((created.revision, created.created_at, created.updated_at), (1, NOW, NOW));
        assert_eq!(
            (created.state(), created.paused_at, created.disabled),
            (SubscriptionState::AwaitingHandshake, None, None)
        );
        assert_eq!((&created.id, &created.tenant), (&name("my-sub_1"), &default_tenant()));
        assert_eq!((&created.spec.description, created.spec.pace), (&spec.description, spec.pace));
        assert_eq!((&created.spec.target_url, &created.spec.filter), (&spec.target_url, &spec.filter));
        assert_eq!(parts(&node.subscription(&created).await), parts(&created));
    }

    async fn whatever_target_url_is_accepted_is_read_back(kind: Kind) {
        let node = Node::new(kind).await;
        let long = format!("https://example.com/{}", "a".repeat(2_048 - 20));
        // As long as it may be, and longer when it is escaped.
        let growing = format!("https://example.com/{}", "ü".repeat(1_014));
        let accepted = [
            "https://example.com",
            "HTTPS://Example.COM:443/a/../b/./c?d=e",
            "http://0x7f.1/",
            "https://[::1]:8443/",
            "https://bücher.example/süß?ß=ü",
            &long,
            &growing,
        ]
        .into_iter()
        .filter_map(|text| TargetUrl::parse(text).ok());
        let mut count = 0;
        for url in accepted {
            let spec = SubscriptionSpec { target_url: url.clone(), ..a_spec() };
            let (tenant, secret) = (default_tenant(), a_secret(1));
            let created = node.store.create_subscription(&tenant, None, &spec, &secret, NOW).await;
            let created = created.unwrap().unwrap();
            assert_eq!(node.subscription(&created).await.spec.target_url, url);
            count += 1;
        }
        assert!(count >= 6);
        assert_eq!(node.interests(&default_tenant()).await.subscriptions.len(), count);
    }

    async fn a_subscription_without_a_chosen_id_is_named_after_its_uid(kind: Kind) {
        let node = Node::new(kind).await;
        let created =
            node.store.create_subscription(&default_tenant(), None, &a_spec(), &a_secret(1), NOW).await;
        let created = created.unwrap().unwrap();
        assert_eq!(created.id, SubscriptionId::from(created.uid));
        assert_eq!(parts(&node.subscription(&created).await), parts(&created));
    }

    async fn an_id_is_taken_once_per_tenant(kind: Kind) {
        let node = Node::new(kind).await;
        let first = node.subscribe("sub").await;
        let mut spec = a_spec();
        spec.description = Description::parse("second").unwrap();
        let (tenant_id, id) = (default_tenant(), Some(name("sub")));
        let again = node.store.create_subscription(&tenant_id, id, &spec, &a_secret(2), NOW).await;
        assert!(again.unwrap().is_none());
        assert_eq!(parts(&node.subscription(&first).await), parts(&first));
        let secret = node.store.secret(&default_tenant(), &name("sub")).await.unwrap();
        assert_eq!(secret.unwrap().secret, a_secret(1));
        let elsewhere = node.subscribe_in(&tenant("other"), "sub").await;
        assert_ne!(elsewhere.uid, first.uid);
    }

    async fn two_nodes_cannot_both_take_an_id(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        for n in 0..5 {
            let (id, newcomer) = (name(&format!("sub{n}")), tenant(&format!("tenant{n}")));
            let spec = a_spec();
            let secrets = [a_secret(1), a_secret(2)];
            let (one, other) = tokio::join!(
                a.store.create_subscription(&newcomer, Some(id.clone()), &spec, &secrets[0], NOW),
                b.store.create_subscription(&newcomer, Some(id.clone()), &spec, &secrets[1], NOW),
            );
            let (one, other) = (one.unwrap(), other.unwrap());
            assert!(one.is_some() != other.is_some(), "{one:?} {other:?}");
            let secret = a.store.secret(&newcomer, &id).await.unwrap().unwrap();
            assert_eq!(secret.secret, secrets[usize::from(one.is_none())]);
            assert_eq!(version(&a, &newcomer).await, 1);
        }
    }

    async fn a_tenant_comes_into_being_with_its_first_subscription(kind: Kind) {
        let node = Node::new(kind).await;
        let newcomer = tenant("newcomer");
        assert!(!node.store.tenant_exists(&newcomer).await.unwrap());
        node.subscribe_in(&newcomer, "sub").await;
        assert!(node.store.tenant_exists(&newcomer).await.unwrap());
    }

    async fn a_subscription_is_not_found_in_another_tenant(kind: Kind) {
        let node = Node::new(kind).await;
        node.subscribe("sub").await;
        let (other, id) = (tenant("other"), name("sub"));
        node.subscribe_in(&other, "else").await;
        assert!(node.store.subscription(&other, &id).await.unwrap().is_none());
        for change in [
            node.store.update_subscription(&other, &id, None, set(describe("mine")), NOW).await,
            node.store.pause_subscription(&other, &id, NOW).await,
            node.store.resume_subscription(&other, &id, NOW).await,
            node.store.enable_subscription(&other, &id, NOW).await,
            node.store.delete_subscription(&other, &id, None, NOW).await,
        ] {
            assert!(matches!(change, Ok(Change::NotFound)), "{change:?}");
        }
    }

    async fn an_update_is_read_as_it_was_made(kind: Kind) {
        let node = Node::new(kind).await;
        let created = node.subscribe("sub").await;
        let edit = |spec: &mut SubscriptionSpec| {
            assert_eq!(spec.target_url, created.spec.target_url);
            spec.target_url = TargetUrl::parse("https://example.com/new").unwrap();
            spec.filter = Filter::parse(&["invoice.*"]).unwrap();
            spec.description = Description::parse("").unwrap();
        };
        let update =
            node.store.update_subscription(&created.tenant, &created.id, None, set(edit), NOW + SECOND).await;
        let updated = done(update.unwrap());
        assert_eq!((updated.revision, updated.created_at, updated.updated_at), (2, NOW, NOW + SECOND));
        assert_eq!(updated.spec.target_url.as_str(), "https://example.com/new");
        assert_eq!(updated.spec.filter.patterns().collect::<Vec<_>>(), ["invoice.*"]);
        assert_eq!(updated.spec.description.as_str(), "");
        assert_ne!(updated.etag(), created.etag());
        assert_eq!(parts(&node.subscription(&created).await), parts(&updated));
        let interests = node.interests(&created.tenant).await;
        assert_eq!(interests.subscriptions[0].filter, updated.spec.filter);
        assert_eq!(interests.subscriptions[0].target.url, updated.spec.target_url);
    }

    async fn an_update_that_changes_nothing_is_none(kind: Kind) {
        let node = Node::new(kind).await;
        let created = node.subscribe("sub").await;
        let before = version(&node, &created.tenant).await;
        let update =
            node.store.update_subscription(&created.tenant, &created.id, None, set(|_| ()), NOW + SECOND).await;
        assert_eq!(parts(&done(update.unwrap())), parts(&created));
        assert_eq!(parts(&node.subscription(&created).await), parts(&created));
        assert_eq!(version(&node, &created.tenant).await, before);
    }

    async fn a_change_with_an_old_etag_is_refused(kind: Kind) {
        let node = Node::new(kind).await;
        let created = node.subscribe("sub").await;
        let (tenant, id, etag) = (&created.tenant, &created.id, created.etag());
        let first = node.store.update_subscription(tenant, id, Some(&etag), set(describe("one")), NOW).await;
        let first = done(first.unwrap());
        let second = node.store.update_subscription(tenant, id, Some(&etag), set(describe("two")), NOW).await;
        assert!(matches!(second, Ok(Change::EtagMismatch)), "{second:?}");
        let deleted = node.store.delete_subscription(tenant, id, Some(&etag), NOW).await;
        assert!(matches!(deleted, Ok(Change::EtagMismatch)), "{deleted:?}");
        assert_eq!(parts(&node.subscription(&created).await), parts(&first));
        done(node.store.delete_subscription(tenant, id, Some(&first.etag()), NOW).await.unwrap());
    }

    async fn of_two_changes_with_one_etag_one_is_made(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        let created = a.subscribe("sub").await;
        let (tenant, id, etag) = (&created.tenant, &created.id, created.etag());
        let (one, other) = tokio::join!(
            a.store.update_subscription(tenant, id, Some(&etag), set(describe("one")), NOW),
            b.store.update_subscription(tenant, id, Some(&etag), set(describe("other")), NOW),
        );
        let made = [&one, &other].map(|change| matches!(change, Ok(Change::Done(_))));
        let refused = [&one, &other].map(|change| matches!(change, Ok(Change::EtagMismatch)));
        assert!(made[0] != made[1] && refused[0] != refused[1], "{one:?} {other:?}");
        assert_eq!(a.subscription(&created).await.revision, 2);
    }

    async fn changes_at_once_are_made_one_after_another(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        let created = a.subscribe("sub").await;
        let before = version(&a, &created.tenant).await;
        let add = |pattern: &'static str| {
            move |spec: &mut SubscriptionSpec| {
                let patterns: Vec<_> = spec.filter.patterns().chain([pattern]).collect();
                spec.filter = Filter::parse(&patterns).unwrap();
            }
        };
        let (tenant, id) = (&created.tenant, &created.id);
        let (one, two, three) = tokio::join!(
            a.store.update_subscription(tenant, id, None, set(add("one")), NOW),
            b.store.update_subscription(tenant, id, None, set(add("two")), NOW),
            a.store.update_subscription(tenant, id, None, set(add("three")), NOW),
        );
        for change in [one, two, three] {
            done(change.unwrap());
        }
        let after = a.subscription(&created).await;
        let mut patterns: Vec<_> = after.spec.filter.patterns().collect();
        patterns.sort_unstable();
        assert_eq!(patterns, ["**", "one", "three", "two"], "no change was lost");
        assert_eq!(after.revision, 4);
        assert_eq!(version(&a, tenant).await, before + 3);
    }

    async fn a_deleted_subscription_is_gone(kind: Kind) {
        let node = Node::new(kind).await;
        let (created, kept) = (node.subscribe("sub").await, node.subscribe("kept").await);
        let (tenant, id) = (&created.tenant, &created.id);
        let deleted = node.store.delete_subscription(tenant, id, None, NOW + SECOND).await;
        assert_eq!(done(deleted.unwrap()).uid, created.uid);
        assert!(node.store.subscription(tenant, id).await.unwrap().is_none());
        assert!(node.store.secret(tenant, id).await.unwrap().is_none());
        assert_eq!(ids(&node.store.subscriptions(Some(tenant), one_page()).await.unwrap()), ["kept"]);
        let interests = node.interests(tenant).await;
        let wanting: Vec<SubscriptionUid> = interests.subscriptions.iter().map(|i| i.target.uid).collect();
        assert_eq!(wanting, [kept.uid]);
        let again = node.store.delete_subscription(tenant, id, None, NOW + SECOND).await;
        assert!(matches!(again, Ok(Change::NotFound)), "{again:?}");
    }

    async fn the_id_of_a_deleted_subscription_may_be_taken_again(kind: Kind) {
        let node = Node::new(kind).await;
        let mut etags = Vec::new();
        let mut uids = Vec::new();
        for round in 0..3 {
            let created = node.subscribe("sub").await;
            assert_eq!(created.revision, 1);
            assert!(!etags.contains(&created.etag()), "round {round}");
            assert!(!uids.contains(&created.uid), "round {round}");
            etags.push(created.etag());
            uids.push(created.uid);
            if round < 2 {
                node.delete(&created).await;
            }
        }
        let stale =
            node.store.delete_subscription(&default_tenant(), &name("sub"), Some(&etags[0]), NOW).await;
        assert!(matches!(stale, Ok(Change::EtagMismatch)), "an etag of its predecessor names another");
    }

    async fn a_pause_may_be_repeated_and_ended(kind: Kind) {
        let node = Node::new(kind).await;
        let created = node.subscribe("sub").await;
        let (tenant, id) = (&created.tenant, &created.id);
        let resumed = done(node.store.resume_subscription(tenant, id, NOW + SECOND).await.unwrap());
        assert_eq!(parts(&resumed), parts(&created), "there was nothing to resume");
        let paused = done(node.store.pause_subscription(tenant, id, NOW + SECOND).await.unwrap());
        assert_eq!((paused.state(), paused.paused_at), (SubscriptionState::Paused, Some(NOW + SECOND)));
        assert_eq!(paused.revision, 2);
        let again = done(node.store.pause_subscription(tenant, id, NOW + SECOND * 2).await.unwrap());
        assert_eq!(parts(&again), parts(&paused), "it was paused already");
        assert!(node.interests(tenant).await.subscriptions[0].held);
        let resumed = done(node.store.resume_subscription(tenant, id, NOW + SECOND * 3).await.unwrap());
        assert_eq!(
            (resumed.state(), resumed.paused_at, resumed.revision),
            (SubscriptionState::Active, None, 3)
        );
        assert!(!node.interests(tenant).await.subscriptions[0].held);
        assert_eq!(parts(&node.subscription(&created).await), parts(&resumed));
    }

    async fn a_disabled_subscription_is_not_matched_until_it_is_enabled(kind: Kind) {
        let node = Node::new(kind).await;
        let created = node.subscribe("sub").await;
        let (tenant, id) = (&created.tenant, &created.id);
        let enabled = done(node.store.enable_subscription(tenant, id, NOW + SECOND).await.unwrap());
        assert_eq!(parts(&enabled), parts(&created), "there was nothing to take back");
        node.disable(&created).await;
        assert_eq!(node.subscription(&created).await.state(), SubscriptionState::Disabled);
        assert!(node.interests(tenant).await.subscriptions.is_empty());
        assert_eq!(ids(&node.store.subscriptions(Some(tenant), one_page()).await.unwrap()), ["sub"]);
        let enabled = done(node.store.enable_subscription(tenant, id, NOW + SECOND).await.unwrap());
        assert_eq!(
            (enabled.state(), enabled.disabled, enabled.revision),
            (SubscriptionState::Active, None, 3)
        );
        let again = done(node.store.enable_subscription(tenant, id, NOW + SECOND * 2).await.unwrap());
        assert_eq!(parts(&again), parts(&enabled));
        assert_eq!(node.interests(tenant).await.subscriptions.len(), 1);
    }

    async fn a_subscription_that_is_paused_and_disabled_stays_paused_when_it_is_enabled(kind: Kind) {
        let node = Node::new(kind).await;
        let created = node.subscribe("sub").await;
        node.pause(&created).await;
        node.disable(&created).await;
        node.enable(&created).await;
        assert_eq!(node.subscription(&created).await.state(), SubscriptionState::Paused);
    }

    async fn every_change_is_told_to_whoever_publishes(kind: Kind) {
        let node = Node::new(kind).await;
        let default = default_tenant();
        let other = node.subscribe_in(&tenant("other"), "sub").await;
        let elsewhere = version(&node, &other.tenant).await;
        let mut versions = vec![version(&node, &default).await];
        let created = node.subscribe("sub").await;
        versions.push(version(&node, &default).await);
        let update = node.store.update_subscription(&default, &created.id, None, set(describe("new")), NOW).await;
        done(update.unwrap());
        versions.push(version(&node, &default).await);
        node.pause(&created).await;
        versions.push(version(&node, &default).await);
        node.resume(&created).await;
        versions.push(version(&node, &default).await);
        node.store.rotate_secret(&default, &created.id, &a_secret(2), over(SECOND), NOW).await.unwrap();
        versions.push(version(&node, &default).await);
        node.disable(&created).await;
        versions.push(version(&node, &default).await);
        node.enable(&created).await;
        versions.push(version(&node, &default).await);
        node.delete(&created).await;
        versions.push(version(&node, &default).await);
        assert_eq!(versions.len(), 9);
        assert!(versions.windows(2).all(|pair| pair[0] < pair[1]), "{versions:?}");
        assert_eq!(version(&node, &other.tenant).await, elsewhere, "other tenants are not bothered");
    }

    async fn changes_of_one_tenants_subscriptions_at_once_are_all_counted(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        let before = version(&a, &default_tenant()).await;
        let (spec, secret, tenant) = (a_spec(), a_secret(1), default_tenant());
        for _ in 0..5 {
            let (one, other) = tokio::join!(
                a.store.create_subscription(&tenant, None, &spec, &secret, NOW),
                b.store.create_subscription(&tenant, None, &spec, &secret, NOW),
            );
            assert!(one.unwrap().is_some() && other.unwrap().is_some());
        }
        assert_eq!(version(&a, &tenant).await, before + 10);
    }

    async fn subscriptions_are_listed_newest_first_in_pages(kind: Kind) {
        let node = Node::new(kind).await;
        let (mine, other) = (default_tenant(), tenant("other"));
        for n in 0..7_u8 {
            let owner = if n % 3 == 2 { &other } else { &mine };
            node.subscribe_with(owner, &format!("s{n}"), &a_spec(), NOW + SECOND * u32::from(n)).await;
        }
        let first = node.store.subscriptions(Some(&mine), a_page(2, None)).await.unwrap();
        assert_eq!(ids(&first), ["s6", "s4"]);
        node.subscribe_with(&mine, "newer", &a_spec(), NOW + SECOND * 9).await;
        let second = node.store.subscriptions(Some(&mine), a_page(2, first.next)).await.unwrap();
        assert_eq!(ids(&second), ["s3", "s1"]);
        let last = node.store.subscriptions(Some(&mine), a_page(2, second.next)).await.unwrap();
        assert_eq!((ids(&last), last.next), (vec!["s0"], None));
        let all = node.store.subscriptions(None, one_page()).await.unwrap();
        assert_eq!(ids(&all), ["newer", "s6", "s5", "s4", "s3", "s2", "s1", "s0"]);
        assert_eq!(all.items[2].tenant, other);
        let theirs = node.store.subscriptions(Some(&other), a_page(2, None)).await.unwrap();
        assert_eq!((ids(&theirs), theirs.next), (vec!["s5", "s2"], None), "a full last page has no next");
        let nobodys = node.store.subscriptions(Some(&tenant("nobody")), one_page()).await.unwrap();
        assert_eq!((ids(&nobodys), nobodys.next), (vec![], None));
    }
}
