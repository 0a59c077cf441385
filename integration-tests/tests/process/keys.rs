//! An encryption key is replaced and retired, with the real binary.

use postrider_integration_tests::{ProcessBuilder, Receiver, TestDatabase, an_event, on_both_databases};
use postrider_sdk::Subscription;

const OLD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const NEW: &str = "HxweHRwbGhkYFxYVFBMSERAPDg0MCwoJCAcGBQQDAgE=";

fn node(database: &TestDatabase, keys: &str) -> ProcessBuilder {
    ProcessBuilder::serve(database).with("POSTRIDER_SECRETS_KEYS", keys)
}

fn reseal(database: &TestDatabase, keys: &str) -> ProcessBuilder {
    ProcessBuilder::new(&["secrets", "reseal", "--data-dir", database.folder().to_str().unwrap()])
        .with("POSTRIDER_DATABASE_URL", database.url())
        .with("POSTRIDER_SECRETS_KEYS", keys)
}

on_both_databases! {
    async fn a_key_is_replaced_while_the_server_runs_and_then_removed(kind: Kind) {
        let database = TestDatabase::new(kind).await;
        let receiver = Receiver::start().await;
        let process = node(&database, OLD).start().await;
        let subscription = Subscription::to(receiver.url()).event_types(["**"]);
        let created = process.client().await.subscriptions().create(subscription).await.unwrap();
        let (name, secret) = (created.subscription.name, created.secret);
        process.stop().await;

        let early = node(&database, NEW).run().await;
        assert_eq!(early.code, Some(1));
        assert!(early.stderr.contains("secrets.keys"), "{}", early.stderr);

        let both = format!("{NEW},{OLD}");
        let process = node(&database, &both).start().await;
        let resealed = reseal(&database, &both).run().await;
        assert_eq!(resealed.code, Some(0), "{}", resealed.stderr);
        assert!(resealed.stdout.starts_with("signing secrets encrypted anew: 1\nsettings of subscriptions encrypted anew: 0\nkey retired: "), "{}", resealed.stdout);
        let again = reseal(&database, &both).run().await;
        assert!(again.stdout.starts_with("signing secrets encrypted anew: 0\nsettings of subscriptions encrypted anew: 0\nnothing needs"), "{}", again.stdout);
        let client = process.client().await;
        client.publish(an_event()).await.unwrap();
        receiver.arrived(1).await;
        assert_eq!(client.subscriptions().secret(&name).await.unwrap().expose(), secret.expose());
        process.stop().await;

        let process = node(&database, NEW).start().await;
        let client = process.client().await;
        assert_eq!(client.subscriptions().secret(&name).await.unwrap().expose(), secret.expose());
        client.publish(an_event()).await.unwrap();
        receiver.arrived(2).await;
        process.stop().await;
        for command in [node(&database, OLD), reseal(&database, OLD)] {
            let refused = command.run().await;
            assert_eq!(refused.code, Some(1));
            assert!(refused.stderr.contains("encryption key") && refused.stderr.contains("secrets.keys"), "{}", refused.stderr);
        }
    }
}
