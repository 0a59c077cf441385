//! Secrets from elsewhere, secrets whose turn is later, and the pairs of keys that come with them.

use std::time::Duration;

use postrider_integration_tests::{default_tenant, on_both_databases};
use postrider_server::{
    domain::{
        claim::Target,
        invalid::Invalid,
        secret::{SecretKind, SigningSecret},
        settings::Settings,
        signing::{Profile, Signing},
        subscription::{Subscription, SubscriptionSpec},
        timestamp::Timestamp,
    },
    publish::Journal,
    store::{
        keyring::{EncryptionKey, Keyring},
        secrets::{Rotation, Takeover},
        subscriptions::Change,
    },
};

use crate::{
    fixtures::{DAY, NOW, SECOND, TICK, a_secret, a_spec, name, over, set},
    node::{Node, done, open},
};

const TEXT: &str = "a text of another system";

fn a_text() -> SigningSecret {
    SigningSecret::parse(TEXT).unwrap()
}

fn signed_by(profiles: impl Into<Vec<Profile>>) -> SubscriptionSpec {
    let settings = Settings { signing: Some(Signing::new(profiles.into()).unwrap()), ..Settings::default() };
    SubscriptionSpec { settings, ..a_spec() }
}

async fn create(node: &Node, profile: Profile, secret: &SigningSecret) -> Subscription {
    let spec = signed_by([profile]);
    let (tenant, id) = (default_tenant(), Some(name("sub")));
    node.store.create_subscription(&tenant, id, &spec, secret, NOW).await.unwrap().unwrap()
}

async fn rotate(node: &Node, secret: &SigningSecret, takeover: Takeover, now: Timestamp) -> Rotation {
    node.store.rotate_secret(&default_tenant(), &name("sub"), secret, takeover, now).await.unwrap()
}

/// Makes these the only profiles.
async fn sign_by(node: &Node, profiles: impl Into<Vec<Profile>>) -> Change<Subscription> {
    let signing = signed_by(profiles).settings.signing;
    let edit = set(|spec| spec.settings.signing = signing);
    node.store.update_subscription(&default_tenant(), &name("sub"), None, edit, NOW).await.unwrap()
}

async fn target(node: &Node) -> std::sync::Arc<Target> {
    let interests = node.store.interests(&default_tenant()).await.unwrap();
    std::sync::Arc::clone(&interests.subscriptions[0].target)
}

fn single(target: &Target, now: Timestamp) -> u8 {
    target.secrets.single(now).unwrap().expose()[0]
}

fn refused(change: Change<Subscription>) -> Invalid {
    match change {
        Change::Invalid(invalid) => invalid,
        other => panic!("{other:?}"),
    }
}

on_both_databases! {
    async fn a_text_of_another_system_comes_back_as_it_was(kind: Kind) {
        let node = Node::new(kind).await;
        create(&node, Profile::Stripe, &a_text()).await;
        let held = node.store.secret(&default_tenant(), &name("sub")).await.unwrap().unwrap();
        assert_eq!((held.secret.kind(), held.secret.text().as_str()), (SecretKind::Text, TEXT));
        let target = target(&node).await;
        assert_eq!(target.secrets.single(NOW), Some(&a_text()));
        // Nobody can turn it into bytes by changing the row.
        node.execute("UPDATE subscription_secrets SET kind = 0").await;
        assert!(node.store.secret(&default_tenant(), &name("sub")).await.is_err());
    }

    async fn what_signs_and_what_it_signs_with_have_to_fit(kind: Kind) {
        let node = Node::new(kind).await;
        create(&node, Profile::Stripe, &a_text()).await;
        let invalid = refused(sign_by(&node, [Profile::Stripe, Profile::Svix]).await);
        assert_eq!(invalid.field, "subscription.signing");
        assert!(invalid.reason.contains("rotate the secret first"), "{invalid}");
        let edit = set(|spec| spec.settings = Settings::default());
        let plain = node.store.update_subscription(&default_tenant(), &name("sub"), None, edit, NOW).await;
        assert_eq!(refused(plain.unwrap()).field, "subscription.signing");
        done(sign_by(&node, [Profile::Slack]).await);

        assert!(matches!(rotate(&node, &a_secret(2), over(DAY), NOW).await, Rotation::Done(_)));
        done(sign_by(&node, [Profile::Svix]).await);
        assert!(matches!(rotate(&node, &a_text(), over(DAY), NOW).await, Rotation::Unfit(_)));
        assert_eq!(node.count("subscription_secrets").await, 2);
    }

    async fn a_secret_takes_its_turn_at_its_time(kind: Kind) {
        let node = Node::new(kind).await;
        node.subscribe("sub").await;
        let start = NOW + Duration::from_hours(48);
        let later = Takeover { overlap: DAY, starts_at: Some(start) };
        // The one before stays until then, though the overlap is shorter.
        let rotation = rotate(&node, &a_secret(2), later, NOW + TICK).await;
        assert!(matches!(rotation, Rotation::Done(until) if until == start), "{rotation:?}");
        let held = node.store.secret(&default_tenant(), &name("sub")).await.unwrap().unwrap();
        assert_eq!((held.secret, held.starts_at), (a_secret(2), Some(start)));
        let two = target(&node).await;
        assert_eq!(two.secrets.in_force(NOW).count(), 2);
        assert_eq!((single(&two, start.before(TICK)), single(&two, start)), (1, 2));

        // Overtaken before its turn by one that takes over at once.
        assert!(matches!(rotate(&node, &a_secret(3), over(DAY), NOW + SECOND).await, Rotation::Done(_)));
        let three = target(&node).await;
        let signing: Vec<_> = three.secrets.in_force(NOW + SECOND).map(|secret| secret.expose()[0]).collect();
        assert_eq!(signing, [3, 2, 1], "newest first, though the oldest expires last");
        assert_eq!((single(&three, NOW + SECOND), single(&three, start)), (3, 3));

        let past = Takeover { overlap: DAY, starts_at: Some(NOW) };
        rotate(&node, &a_secret(4), past, NOW + SECOND * 2).await;
        assert_eq!(single(&*target(&node).await, NOW + SECOND * 2), 4);
    }

    async fn what_signs_nothing_any_more_does_not_keep_another_secret_out(kind: Kind) {
        let node = Node::new(kind).await;
        create(&node, Profile::Github { legacy_sha1: false }, &a_secret(1)).await;
        for byte in 2..=9 {
            let now = NOW + SECOND * u32::from(byte);
            let rotation = rotate(&node, &a_secret(byte), over(DAY), now).await;
            assert!(matches!(rotation, Rotation::Done(_)), "{byte}: {rotation:?}");
            assert_eq!(single(&*target(&node).await, now), byte);
        }
        assert!(node.count("subscription_secrets").await <= 5, "they do not heap up");

        // Those whose turn is to come are not to be forgotten, nor is the one that signs until then.
        let start = NOW + DAY * 2;
        let later = Takeover { overlap: DAY, starts_at: Some(start) };
        for byte in 10..=13 {
            let now = NOW + SECOND * u32::from(byte);
            let rotation = rotate(&node, &a_secret(byte), later, now).await;
            assert!(matches!(rotation, Rotation::Done(_)), "{byte}: {rotation:?}");
        }
        let now = NOW + SECOND * 14;
        assert!(matches!(rotate(&node, &a_secret(14), later, now).await, Rotation::TooMany));
        let target = target(&node).await;
        assert_eq!((single(&target, now), single(&target, start)), (9, 13));
    }

    async fn a_current_secret_is_not_rotated_to(kind: Kind) {
        let node = Node::new(kind).await;
        create(&node, Profile::Stripe, &a_secret(1)).await;
        assert!(matches!(rotate(&node, &a_secret(1), over(DAY), NOW).await, Rotation::Same));
        assert!(matches!(rotate(&node, &a_secret(2), over(DAY), NOW).await, Rotation::Done(_)));
        assert!(matches!(rotate(&node, &a_secret(1), over(DAY), NOW + SECOND).await, Rotation::Done(_)));
        let target = target(&node).await;
        let signing: Vec<_> = target.secrets.in_force(NOW + SECOND).map(|secret| secret.expose()[0]).collect();
        assert_eq!(signing, [1, 2], "what is gone back to signs once");
    }

    async fn a_rotation_can_be_brought_forward(kind: Kind) {
        let node = Node::new(kind).await;
        create(&node, Profile::Slack, &a_secret(1)).await;
        let later = Takeover { overlap: DAY, starts_at: Some(NOW + DAY * 2) };
        assert!(matches!(rotate(&node, &a_secret(2), later, NOW).await, Rotation::Done(_)));
        assert_eq!(single(&*target(&node).await, NOW + SECOND), 1);
        assert!(matches!(rotate(&node, &a_secret(2), over(DAY), NOW + SECOND).await, Rotation::Done(_)));
        assert_eq!(single(&*target(&node).await, NOW + SECOND), 2);
        let again = rotate(&node, &a_secret(2), over(DAY), NOW + SECOND * 2).await;
        assert!(matches!(again, Rotation::Same), "{again:?}");
    }

    async fn a_pair_of_keys_is_made_when_it_is_wanted_and_with_each_rotation(kind: Kind) {
        let node = Node::new(kind).await;
        let (tenant, id) = (default_tenant(), name("sub"));
        node.subscribe("sub").await;
        assert_eq!(node.store.key_pairs(&tenant, &id, NOW).await.unwrap(), []);
        assert_eq!(node.count("subscription_secrets WHERE key_pair IS NOT NULL").await, 0);

        done(sign_by(&node, [Profile::StandardWebhooksEd25519]).await);
        let first = node.store.key_pairs(&tenant, &id, NOW).await.unwrap();
        assert_eq!(first.len(), 1);
        assert_eq!(target(&node).await.secrets.key_pairs(NOW).collect::<Vec<_>>(), [&first[0]]);
        assert_eq!(target(&node).await.secrets.single(NOW), Some(&a_secret(1)), "the secret stays");
        // Another change makes no other.
        done(sign_by(&node, [Profile::StandardWebhooksEd25519, Profile::StandardWebhooks]).await);
        assert_eq!(node.store.key_pairs(&tenant, &id, NOW).await.unwrap(), first);

        rotate(&node, &a_secret(2), over(DAY), NOW).await;
        let both = node.store.key_pairs(&tenant, &id, NOW).await.unwrap();
        assert_eq!((both.len(), &both[1]), (2, &first[0]), "the newest first");
        assert_ne!(both[0], both[1]);
        assert_eq!(node.store.key_pairs(&tenant, &id, NOW + DAY).await.unwrap(), both[..1]);
        assert_eq!(node.store.key_pairs(&tenant, &name("other"), NOW).await.unwrap(), []);
    }

    async fn texts_and_pairs_of_keys_can_be_encrypted_anew(kind: Kind) {
        let node = Node::new(kind).await;
        create(&node, Profile::StandardWebhooksEd25519, &a_text()).await;
        let (tenant, id) = (default_tenant(), name("sub"));
        let before = node.store.key_pairs(&tenant, &id, NOW).await.unwrap();
        assert_eq!(before.len(), 1);
        let new = EncryptionKey::generate();
        let rotated = open(&node.database, Keyring::new(new.clone(), vec![node.key()])).await.unwrap();
        assert_eq!(rotated.reseal(NOW).await.unwrap().secrets, 1);
        let only_new = open(&node.database, Keyring::new(new, Vec::new())).await.unwrap();
        assert_eq!(only_new.secret(&tenant, &id).await.unwrap().unwrap().secret, a_text());
        assert_eq!(only_new.key_pairs(&tenant, &id, NOW).await.unwrap(), before);
    }
}
