//! The catalogue of event types from files and back.

use std::fs;

use postrider_integration_tests::{Exit, ProcessBuilder, TestDatabase, on_both_databases};
use postrider_sdk::model::EventType;

on_both_databases! {
    async fn a_directory_of_schemas_goes_in_and_comes_out(kind: Kind) {
        let database = TestDatabase::new(kind).await;
        let schemas = tempfile::tempdir().unwrap();
        let created = r#"{"type": "object", "required": ["id"]}"#;
        fs::write(schemas.path().join("order.created.json"), created).unwrap();
        fs::create_dir(schemas.path().join("order.paid")).unwrap();
        fs::write(schemas.path().join("order.paid/1.json"), "{}").unwrap();
        fs::write(schemas.path().join("order.paid/2.json"), "true").unwrap();
        fs::write(schemas.path().join("README.md"), "no schema").unwrap();
        // While a server runs on the database, for which it holds at once.
        let server = ProcessBuilder::serve(&database).start().await;
        let types = server.client().await.event_types();
        types.create(EventType::named("order.paid").description("Kept").schema(3, "{}")).await.unwrap();
        for _ in 0..2 {
            let exit = run(&database, "import", schemas.path().to_str().unwrap()).await;
            assert_eq!(exit.code, Some(0), "{}", exit.stderr);
            assert!(exit.stdout.contains("3 schemas"), "{}", exit.stdout);
            assert_eq!(types.get("order.created").await.unwrap().schemas[&1], created);
            let paid = types.get("order.paid").await.unwrap();
            assert_eq!((paid.description.as_str(), paid.schemas.len()), ("Kept", 3));
        }
        let out = tempfile::tempdir().unwrap();
        let exit = run(&database, "export", out.path().to_str().unwrap()).await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        assert_eq!(fs::read_to_string(out.path().join("order.created/1.json")).unwrap(), created);
        assert_eq!(fs::read_to_string(out.path().join("order.paid/2.json")).unwrap(), "true");

        fs::write(schemas.path().join("order.paid/4.json"), "{").unwrap();
        let exit = run(&database, "import", schemas.path().to_str().unwrap()).await;
        assert_eq!(exit.code, Some(1));
        assert!(exit.stderr.contains("4.json"), "{}", exit.stderr);
    }
}

async fn run(database: &TestDatabase, what: &str, directory: &str) -> Exit {
    ProcessBuilder::new(&["event-types", what, directory, "--data-dir", database.folder().to_str().unwrap()])
        .with("POSTRIDER_DATABASE_URL", database.url())
        .run()
        .await
}
