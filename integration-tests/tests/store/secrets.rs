//! Signing secrets: in force for as long as they are said to be, and never to be read from the database.

use std::time::Duration;

use postrider_integration_tests::{TestDatabase, default_tenant, on_both_databases};
use postrider_server::{
    dispatch::Queue,
    domain::{
        id::TenantId, secret::SigningSecret, settings::Settings, subscription::SubscriptionSpec,
        timestamp::Timestamp,
    },
    publish::Journal,
    store::{
        self, Error, OpenError, Store,
        keyring::{self, EncryptionKey, Keyring, draw_signing_secret},
        reseal::{ResealError, Resealed},
        secrets::Rotation,
    },
};
use sea_orm::{ConnectionTrait, Statement};

use crate::{
    fixtures::{DAY, NOW, SECOND, TICK, a_draft, a_secret, a_spec, ask, name, over, tenant},
    node::{Node, open},
};

/// Makes the secret of this byte the current one.
async fn rotate(node: &Node, byte: u8, overlap: Duration, now: Timestamp) -> Rotation {
    node.store
        .rotate_secret(&default_tenant(), &name("sub"), &a_secret(byte), over(overlap), now)
        .await
        .unwrap()
}

/// What callbacks to the one subscription are signed with, the current secret first.
async fn signing(node: &Node, now: Timestamp) -> Vec<u8> {
    let interests = node.interests(&default_tenant()).await;
    interests.subscriptions[0].target.secrets.in_force(now).map(|secret| secret.expose()[0]).collect()
}

async fn current(store: &Store, tenant: &TenantId) -> Option<SigningSecret> {
    store.secret(tenant, &name("sub")).await.unwrap().map(|held| held.secret)
}

/// All that is stored of secrets.
async fn ciphertexts(database: &TestDatabase) -> Vec<Vec<u8>> {
    let connection = database.connect().await;
    let all = Statement::from_string(
        connection.get_database_backend(),
        "SELECT ciphertext FROM subscription_secrets",
    );
    let rows = connection.query_all_raw(all).await.unwrap();
    rows.iter().map(|row| row.try_get("", "ciphertext").unwrap()).collect()
}

on_both_databases! {
    async fn a_rotated_secret_takes_over_and_the_one_before_signs_until_it_expires(kind: Kind) {
        let node = Node::new(kind).await;
        node.subscribe("sub").await;
        assert_eq!(signing(&node, NOW).await, [1]);
        let rotation = rotate(&node, 2, DAY, NOW + SECOND).await;
        assert!(matches!(rotation, Rotation::Done(until) if until == NOW + SECOND + DAY), "{rotation:?}");
        assert_eq!(current(&node.store, &default_tenant()).await, Some(a_secret(2)));
        assert_eq!(signing(&node, NOW + SECOND).await, [2, 1]);
        assert_eq!(signing(&node, (NOW + DAY + SECOND).before(TICK)).await, [2, 1]);
        assert_eq!(signing(&node, NOW + DAY + SECOND).await, [2]);
    }

    async fn a_secret_without_overlap_is_replaced_at_once(kind: Kind) {
        let node = Node::new(kind).await;
        node.subscribe("sub").await;
        rotate(&node, 2, Duration::ZERO, NOW).await;
        assert_eq!(signing(&node, NOW).await, [2]);
    }

    async fn secrets_sign_newest_first(kind: Kind) {
        let node = Node::new(kind).await;
        node.subscribe("sub").await;
        for byte in 2..=4 {
            rotate(&node, byte, DAY, NOW + SECOND * u32::from(byte)).await;
        }
        assert_eq!(signing(&node, NOW + SECOND * 5).await, [4, 3, 2, 1]);
    }

    async fn the_sixth_secret_has_to_wait_until_one_expires(kind: Kind) {
        let node = Node::new(kind).await;
        node.subscribe("sub").await;
        for byte in 2..=5 {
            let rotation = rotate(&node, byte, DAY, NOW + SECOND * u32::from(byte)).await;
            assert!(matches!(rotation, Rotation::Done(_)), "{rotation:?}");
        }
        let version = node.interests(&default_tenant()).await.version;
        let sixth = rotate(&node, 6, DAY, NOW + SECOND * 6).await;
        assert!(matches!(sixth, Rotation::TooMany), "{sixth:?}");
        assert_eq!(signing(&node, NOW + SECOND * 6).await, [5, 4, 3, 2, 1]);
        assert_eq!(node.interests(&default_tenant()).await.version, version);
        // The first one was replaced at second 2 and expires a day later.
        let almost = (NOW + DAY + SECOND * 2).before(TICK);
        assert!(matches!(rotate(&node, 6, DAY, almost).await, Rotation::TooMany));
        assert!(matches!(rotate(&node, 6, DAY, NOW + DAY + SECOND * 2).await, Rotation::Done(_)));
        assert_eq!(signing(&node, NOW + DAY + SECOND * 2).await, [6, 5, 4, 3, 2]);
        assert_eq!(node.count("subscription_secrets").await, 5, "what has expired is deleted");
    }

    async fn rotations_at_once_leave_one_current_secret(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        a.subscribe("sub").await;
        let (one, other) = tokio::join!(rotate(&a, 2, DAY, NOW), rotate(&b, 3, DAY, NOW));
        assert!(matches!((one, other), (Rotation::Done(_), Rotation::Done(_))));
        let mut all = signing(&a, NOW).await;
        assert_eq!(current(&a.store, &default_tenant()).await, Some(a_secret(all[0])));
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
        assert_eq!(a.count("subscription_secrets WHERE expires_at IS NULL").await, 1);
    }

    async fn there_is_no_secret_without_a_subscription(kind: Kind) {
        let node = Node::new(kind).await;
        assert!(matches!(rotate(&node, 2, DAY, NOW).await, Rotation::NotFound));
        assert_eq!(current(&node.store, &default_tenant()).await, None);
        let subscription = node.subscribe("sub").await;
        assert_eq!(current(&node.store, &tenant("other")).await, None);
        node.delete(&subscription).await;
        assert!(matches!(rotate(&node, 2, DAY, NOW).await, Rotation::NotFound));
        assert_eq!(current(&node.store, &default_tenant()).await, None);
    }

    async fn a_successor_does_not_sign_with_its_predecessors_secrets(kind: Kind) {
        let node = Node::new(kind).await;
        let first = node.subscribe("sub").await;
        rotate(&node, 2, DAY, NOW).await;
        node.delete(&first).await;
        let (tenant, id) = (default_tenant(), Some(name("sub")));
        node.store.create_subscription(&tenant, id, &a_spec(), &a_secret(9), NOW).await.unwrap().unwrap();
        assert_eq!(signing(&node, NOW).await, [9]);
        assert_eq!(current(&node.store, &default_tenant()).await, Some(a_secret(9)));
    }

    async fn the_database_does_not_tell_a_secret(kind: Kind) {
        let node = Node::new(kind).await;
        let (first, second) = (draw_signing_secret(), draw_signing_secret());
        let (tenant, id) = (default_tenant(), name("sub"));
        node.store.create_subscription(&tenant, Some(id.clone()), &a_spec(), &first, NOW).await.unwrap();
        node.store.rotate_secret(&tenant, &id, &second, over(DAY), NOW).await.unwrap();
        // The same secret again: nobody may see that it is the same.
        node.store.create_subscription(&tenant, None, &a_spec(), &first, NOW).await.unwrap();
        let stored = ciphertexts(&node.database).await;
        assert_eq!(stored.len(), 3);
        for ciphertext in &stored {
            for secret in [&first, &second] {
                for part in secret.expose().windows(4) {
                    assert!(!ciphertext.windows(4).any(|stored| stored == part));
                }
            }
        }
        let beginnings: std::collections::HashSet<_> = stored.iter().map(|c| c[24..].to_vec()).collect();
        assert_eq!(beginnings.len(), 3);
    }

    async fn a_node_with_another_key_is_refused_by_the_name_of_the_key(kind: Kind) {
        let node = Node::new(kind).await;
        let stranger = open(&node.database, Keyring::new(EncryptionKey::generate(), Vec::new())).await;
        let Err(OpenError::OtherKey(id)) = stranger else { panic!("{stranger:?}") };
        assert_eq!(node.count(&format!("secret_keys WHERE id = '{id}'")).await, 1);
        assert_eq!(node.count("secret_keys").await, 1, "the stranger's key has not got in");
        node.another().await;
    }

    async fn of_several_nodes_with_different_keys_one_gets_a_new_database(kind: Kind) {
        // As it happens when each of them makes its own key file.
        let database = TestDatabase::new(kind).await;
        store::migrate(&database.config(), &database.folder()).await.unwrap();
        let try_open = || open(&database, Keyring::new(EncryptionKey::generate(), Vec::new()));
        for _ in 0..10 {
            let (a, b, c, d) = tokio::join!(try_open(), try_open(), try_open(), try_open());
            let opened = [a, b, c, d].map(|opened| opened.map(drop));
            let refused =
                opened.iter().filter(|opened| matches!(opened, Err(OpenError::OtherKey(_)))).count();
            assert_eq!(refused, 3, "{opened:?}");
            assert!(opened.iter().any(Result::is_ok), "{opened:?}");
            database.connect().await.execute_unprepared("DELETE FROM secret_keys").await.unwrap();
        }
    }

    async fn after_a_new_key_was_put_in_front_old_secrets_are_read_and_new_ones_use_it(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let new = EncryptionKey::generate();
        let rotated = open(&node.database, Keyring::new(new.clone(), vec![node.key()])).await.unwrap();
        assert_eq!(current(&rotated, &default_tenant()).await, Some(a_secret(1)));
        let (tenant, id) = (default_tenant(), name("sub"));
        rotated.rotate_secret(&tenant, &id, &a_secret(2), over(DAY), NOW).await.unwrap();
        assert_eq!(current(&rotated, &default_tenant()).await, Some(a_secret(2)));
        // A claim on the rotated node signs with both; the node that knows only the old key cannot read the new
        // secret and says so instead of signing with the wrong one.
        node.publish([a_draft().to([&subscription])]).await;
        let claims = rotated.claim(&ask(NOW, 1)).await.unwrap().claims;
        let signing: Vec<_> =
            claims[0].target.secrets.in_force(NOW).map(|secret| secret.expose()[0]).collect();
        assert_eq!(signing, [2, 1]);
        let unread = node.store.secret(&tenant, &id).await;
        assert!(matches!(unread, Err(Error::Secret(keyring::Error::UnknownKey(_)))), "{unread:?}");
        let left_behind = open(&node.database, Keyring::new(node.key(), Vec::new())).await;
        assert!(matches!(left_behind, Err(OpenError::OtherKey(_))), "{left_behind:?}");
        let forgetful = open(&node.database, Keyring::new(new, Vec::new())).await;
        assert!(matches!(forgetful, Err(OpenError::OtherKey(_))), "{forgetful:?}");
    }

    async fn when_everything_is_encrypted_anew_the_old_key_can_go(kind: Kind) {
        let node = Node::new(kind).await;
        node.subscribe("sub").await;
        rotate(&node, 2, DAY, NOW).await;
        let settings = Settings { timeout: Some(SECOND), ..Settings::default() };
        let spec = SubscriptionSpec { settings: settings.clone(), ..a_spec() };
        node.subscribe_with(&default_tenant(), "set", &spec, NOW).await;
        let new = EncryptionKey::generate();
        let rotated = open(&node.database, Keyring::new(new.clone(), vec![node.key()])).await.unwrap();
        let Resealed { secrets, settings: of_settings, retired } = rotated.reseal(NOW).await.unwrap();
        assert_eq!((secrets, of_settings, retired.len()), (3, 1, 1));
        let nothing = Resealed { secrets: 0, settings: 0, retired: Vec::new() };
        assert_eq!(rotated.reseal(NOW).await.unwrap(), nothing);
        let only_new = open(&node.database, Keyring::new(new, Vec::new())).await.unwrap();
        assert_eq!(current(&only_new, &default_tenant()).await, Some(a_secret(2)));
        let interests = only_new.interests(&default_tenant()).await.unwrap();
        let sub = interests.subscriptions.iter().find(|interest| interest.target.id.as_str() == "sub").unwrap();
        assert_eq!(sub.target.secrets.in_force(NOW).cloned().collect::<Vec<_>>(), [a_secret(2), a_secret(1)]);
        let set = interests.subscriptions.iter().find(|interest| interest.target.id.as_str() == "set").unwrap();
        assert_eq!(set.target.settings.as_deref(), Some(&settings));
        let only_old = open(&node.database, Keyring::new(node.key(), Vec::new())).await;
        assert!(matches!(only_old, Err(OpenError::OtherKey(_))), "{only_old:?}");
    }

    async fn many_secrets_are_encrypted_anew_in_batches_and_what_has_expired_is_deleted(kind: Kind) {
        let node = Node::new(kind).await;
        for nth in 0..250 {
            node.subscribe(&format!("sub-{nth}")).await;
        }
        node.subscribe("sub").await;
        rotate(&node, 2, SECOND, NOW).await;
        let rotated = open(&node.database, Keyring::new(EncryptionKey::generate(), vec![node.key()])).await.unwrap();
        assert_eq!(rotated.reseal(NOW + SECOND).await.unwrap().secrets, 251);
        assert_eq!(node.count("subscription_secrets").await, 251);
    }

    async fn no_key_is_retired_while_a_secret_cannot_be_read(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let new = EncryptionKey::generate();
        let rotated = open(&node.database, Keyring::new(new.clone(), vec![node.key()])).await.unwrap();
        node.execute("UPDATE subscription_secrets SET key_id = 'lost'").await;
        let refused = rotated.reseal(NOW).await;
        let Err(ResealError::Sealed { owner, source: keyring::Error::UnknownKey(key) }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((owner, key.as_str()), (subscription.uid, "lost"));
        assert_eq!(node.count("secret_keys").await, 2);
        let without_it = open(&node.database, Keyring::new(new, vec![node.key()])).await;
        assert!(matches!(without_it, Err(OpenError::OtherKey(key)) if key == "lost"));
    }

    async fn a_node_that_goes_on_with_a_retired_key_is_noticed(kind: Kind) {
        let left_behind = Node::new(kind).await;
        left_behind.subscribe("sub").await;
        let new = EncryptionKey::generate();
        let rotated = open(&left_behind.database, Keyring::new(new.clone(), vec![left_behind.key()])).await.unwrap();
        rotated.reseal(NOW).await.unwrap();
        rotate(&left_behind, 2, DAY, NOW).await;
        let only_new = open(&left_behind.database, Keyring::new(new.clone(), Vec::new())).await;
        assert!(matches!(only_new, Err(OpenError::OtherKey(_))), "it could not read what that node has encrypted");
        assert_eq!(rotated.reseal(NOW).await.unwrap().secrets, 1);
        open(&left_behind.database, Keyring::new(new, Vec::new())).await.unwrap();
    }

    async fn secrets_that_are_rotated_meanwhile_are_kept(kind: Kind) {
        let node = Node::new(kind).await;
        for nth in 0..40 {
            node.subscribe(&format!("sub-{nth}")).await;
        }
        let new = EncryptionKey::generate();
        let keyring = Keyring::new(new.clone(), vec![node.key()]);
        let (a, b) = (open(&node.database, keyring.clone()).await.unwrap(), open(&node.database, keyring).await.unwrap());
        let rotations = async {
            for nth in (0..40).rev() {
                let id = name(&format!("sub-{nth}"));
                a.rotate_secret(&default_tenant(), &id, &a_secret(7), over(DAY), NOW).await.unwrap();
            }
        };
        let (resealed, ()) = tokio::join!(b.reseal(NOW), rotations);
        // Where a rotation held a row at the very moment it is said so.
        assert!(matches!(resealed, Ok(_) | Err(ResealError::Overtaken(_))), "{resealed:?}");
        b.reseal(NOW).await.unwrap();
        let only_new = open(&node.database, Keyring::new(new, Vec::new())).await.unwrap();
        for interest in only_new.interests(&default_tenant()).await.unwrap().subscriptions {
            let signing: Vec<_> = interest.target.secrets.in_force(NOW).map(|secret| secret.expose()[0]).collect();
            assert_eq!(signing, [7, 1]);
        }
    }

    async fn a_key_is_handed_out_to_all_nodes_before_it_is_used(kind: Kind) {
        // The other order of a rotation: first every node can read it, then it is put in front.
        let node = Node::new(kind).await;
        let new = EncryptionKey::generate();
        open(&node.database, Keyring::new(node.key(), vec![new])).await.unwrap();
        node.another().await;
    }

    async fn a_secret_that_cannot_be_read_keeps_no_other_subscription_from_being_served(kind: Kind) {
        let node = Node::new(kind).await;
        let (broken, whole) = (node.subscribe("broken").await, node.subscribe("whole").await);
        let uid = broken.uid.uuid();
        let row = match kind {
            postrider_integration_tests::Kind::Sqlite => format!("x'{}'", uid.simple()),
            postrider_integration_tests::Kind::Postgres => format!("'{uid}'"),
        };
        let spoil = format!("UPDATE subscription_secrets SET key_id = '0' WHERE subscription_uid = {row}");
        node.execute(&spoil).await;
        node.publish([a_draft().to([&broken, &whole])]).await;
        let claims = node.claim(NOW, 10).await;
        let mut secrets: Vec<_> = claims
            .iter()
            .map(|claim| (claim.target.id.as_str(), claim.target.secrets.in_force(NOW).count()))
            .collect();
        secrets.sort_unstable();
        assert_eq!(secrets, [("broken", 0), ("whole", 1)]);
        assert_eq!(node.interests(&default_tenant()).await.subscriptions.len(), 2);
    }
}
