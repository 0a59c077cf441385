//! What the server does not start with, and how it says so.

use postrider_integration_tests::{Kind, ProcessBuilder, TestDatabase};

/// Runs `serve`, which must end by itself with an error that says all of this.
async fn refuses(server: ProcessBuilder, said: &[&str]) {
    let exit = server.run().await;
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    for part in said {
        assert!(exit.stderr.contains(part), "`{part}` is not in: {}", exit.stderr);
    }
}

async fn sqlite() -> TestDatabase {
    TestDatabase::new(Kind::Sqlite).await
}

#[tokio::test]
async fn an_address_that_others_can_reach_needs_keys() {
    let database = sqlite().await;
    for (variable, field) in
        [("POSTRIDER_GRPC_LISTEN", "grpc.listen"), ("POSTRIDER_HTTP_LISTEN", "http.listen")]
    {
        let server = ProcessBuilder::serve(&database).with(variable, "0.0.0.0:0");
        refuses(server, &[field, "postrider key", "auth.key_hashes", "127.0.0.1"]).await;
    }
}

#[tokio::test]
async fn an_unknown_key_and_a_lease_shorter_than_the_timeout_are_named() {
    let database = sqlite().await;
    let file = database.folder().join("postrider.toml");
    std::fs::write(&file, "[sender]\ntimeuot = \"5s\"\n").unwrap();
    refuses(ProcessBuilder::serve(&database).with("POSTRIDER_CONFIG", file.to_str().unwrap()), &["timeuot"])
        .await;
    let server = ProcessBuilder::serve(&database).with("POSTRIDER_DISPATCH_LEASE", "15s");
    refuses(server, &["dispatch.lease", "sender.timeout"]).await;
    let server = ProcessBuilder::serve(&database).with("POSTRIDER_SENDER_TIMEUOT", "15s");
    refuses(server, &["timeuot"]).await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_said_to_be_so() {
    let database = sqlite().await;
    let server =
        ProcessBuilder::serve(&database).with("POSTRIDER_DATABASE_URL", "postgres://127.0.0.1:1/none");
    refuses(server, &["the database cannot be opened"]).await;
}

#[tokio::test]
async fn a_node_with_another_encryption_key_does_not_start() {
    let database = TestDatabase::new(Kind::Postgres).await;
    ProcessBuilder::serve(&database).start().await.stop().await;
    let other = sqlite().await;
    let server = ProcessBuilder::serve(&other).with("POSTRIDER_DATABASE_URL", database.url());
    refuses(server, &["encryption key", "secrets.keys"]).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let database = sqlite().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let server = ProcessBuilder::serve(&database).with("POSTRIDER_GRPC_LISTEN", &address);
    refuses(server, &["cannot listen on", &address]).await;
}

#[tokio::test]
async fn the_key_file_is_for_its_owner_only_and_the_log_is_json() {
    use std::os::unix::fs::PermissionsExt;
    let database = sqlite().await;
    let process = ProcessBuilder::serve(&database).with("POSTRIDER_LOG_FILTER", "debug").start().await;
    let client = process.client().await;
    let subscription =
        postrider_sdk::Subscription::to("http://127.0.0.1:1/hook?token=querysecret").event_types(["**"]);
    let created = client.subscriptions().create(subscription).await.unwrap();
    client.publish(postrider_integration_tests::an_event()).await.unwrap();
    let exit = process.stop().await;
    assert_eq!(exit.code, Some(0));
    let mode = std::fs::metadata(database.folder().join("secret.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for line in exit.stderr.lines().filter(|line| !line.is_empty()) {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
    let secret = created.secret.expose().trim_start_matches("whsec_");
    assert!(!exit.stderr.contains(secret), "the log tells the secret");
    assert!(!exit.stderr.contains("querysecret"), "the log tells the query of a target");
}

#[tokio::test]
async fn migrate_check_config_and_key_do_what_they_say() {
    use std::os::unix::fs::PermissionsExt;
    let database = sqlite().await;
    let folder = database.folder().join("data");
    let folder = folder.to_str().unwrap();
    let run = async |arguments: &[&str]| ProcessBuilder::new(arguments).run().await;
    let migrated = run(&["migrate", "--data-dir", folder]).await;
    assert_eq!((migrated.code, &*migrated.stdout), (Some(0), "the schema is up to date\n"));
    assert!(database.folder().join("data/postrider.db").exists());
    let mode = std::fs::metadata(folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "the data is for its owner only");
    let checked = run(&["check-config"]).await;
    assert_eq!((checked.code, &*checked.stdout), (Some(0), "the configuration is valid\n"));
    let key = run(&["key"]).await.stdout;
    let (token, hash) = key.trim().split_once('\n').unwrap();
    assert!(token.starts_with("token: prk_") && hash.starts_with("hash:  sha256:"), "{key}");
}
