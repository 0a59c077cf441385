//! The catalogue of event types from files and back.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

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

    async fn all_that_is_said_of_types_goes_out_and_into_an_empty_installation(kind: Kind) {
        let database = TestDatabase::new(kind).await;
        let server = ProcessBuilder::serve(&database).start().await;
        let types = server.client().await.event_types();
        let paid = EventType::named("order.paid").description("Money\ncame \"in\"").group("orders");
        let paid = paid.schema(1, r#"{"type": "object"}"#).schema(3, "true").current_version(1).enforce(true);
        types.create(paid).await.unwrap();
        types.create(EventType::named("order.gone").schema(1, "{}").deprecated(true)).await.unwrap();
        types.archive("order.gone").await.unwrap();
        types.create(EventType::named("user.seen").group("users")).await.unwrap();
        let first = tempfile::tempdir().unwrap();
        let exit = run(&database, "export", first.path().to_str().unwrap()).await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        assert!(exit.stdout.contains("3 schemas of 3 event types were written"), "{}", exit.stdout);

        let empty = TestDatabase::new(kind).await;
        let server = ProcessBuilder::serve(&empty).start().await;
        let types = server.client().await.event_types();
        // Twice: what is there already is made the same.
        for _ in 0..2 {
            let exit = run(&empty, "import", first.path().to_str().unwrap()).await;
            assert_eq!(exit.code, Some(0), "{}", exit.stderr);
            assert!(exit.stdout.contains("3 schemas of 3 event types"), "{}", exit.stdout);
            let second = tempfile::tempdir().unwrap();
            let exit = run(&empty, "export", second.path().to_str().unwrap()).await;
            assert_eq!(exit.code, Some(0), "{}", exit.stderr);
            assert_eq!(files(first.path()), files(second.path()));
        }
        let paid = types.get("order.paid").await.unwrap();
        assert_eq!((paid.current_version, paid.enforce, paid.group.as_str()), (Some(1), true, "orders"));
        assert!(types.get("order.gone").await.unwrap().archived_at.is_some());

        let file = first.path().join("@catalogue.json");
        let good = fs::read_to_string(&file).unwrap();
        // Of a version that is nowhere; the type before it is not touched either.
        let bad = good.replace("\"current_version\": 1", "\"current_version\": 2");
        fs::write(&file, bad.replace("\"deprecated\": true", "\"deprecated\": false")).unwrap();
        let exit = run(&empty, "import", first.path().to_str().unwrap()).await;
        assert_eq!(exit.code, Some(1));
        let message = "@catalogue.json: at `/event_types/1/current_version`: is 2, of which there is no schema";
        assert!(exit.stderr.contains(message), "{}", exit.stderr);
        assert!(types.get("order.gone").await.unwrap().deprecated);
    }
}

/// The files below a directory, with what is in them.
fn files(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(directory).unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(below, text)| (name.join(below), text)));
        } else {
            found.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
    found
}

async fn run(database: &TestDatabase, what: &str, directory: &str) -> Exit {
    ProcessBuilder::new(&["event-types", what, directory, "--data-dir", database.folder().to_str().unwrap()])
        .with("POSTRIDER_DATABASE_URL", database.url())
        .run()
        .await
}
