//! The README's first command.

use postrider_integration_tests::{Kind, ProcessBuilder, TestDatabase};

#[tokio::test]
async fn the_demo_shows_a_success_a_retry_and_a_farewell_and_ends_well() {
    let exit = ProcessBuilder::new(&["demo"]).run().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let row = |event: &str, subscription: &str| {
        let is_row = |line: &&str| {
            let mut cells = line.split_whitespace();
            cells.next() == Some(event) && cells.next() == Some(subscription)
        };
        exit.stdout.lines().find(is_row).unwrap_or_else(|| panic!("no row for {event}: {}", exit.stdout))
    };
    assert!(row("order.created", "steady").contains("1: 204"));
    assert!(row("order.created", "flaky").contains("3: 503 503 204"));
    assert!(row("order.created", "gone").contains("410"));
    assert!(exit.stdout.contains("0 with a bad one"));
}

#[tokio::test]
async fn the_demo_takes_events_from_a_file_and_says_which_line_is_wrong() {
    let folder = TestDatabase::new(Kind::Sqlite).await.folder();
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("events.jsonl");
    std::fs::write(
        &file,
        "{\"type\": \"a.b-c\", \"data\": {\"x\": 1.50}}\n\n{\"type\": \"d\", \"data\": [null]}\n",
    )
    .unwrap();
    let exit = ProcessBuilder::new(&["demo", "--events", file.to_str().unwrap()]).run().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(exit.stdout.contains("a.b-c"), "{}", exit.stdout);
    std::fs::write(&file, "{\"type\": \"a\", \"data\": 1}\n{\"type\": 2}\n").unwrap();
    let exit = ProcessBuilder::new(&["demo", "--events", file.to_str().unwrap()]).run().await;
    assert_eq!(exit.code, Some(1));
    assert!(exit.stderr.contains("line 2"), "{}", exit.stderr);
    std::fs::remove_dir_all(folder).unwrap();
}
