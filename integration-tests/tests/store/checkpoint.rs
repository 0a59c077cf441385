//! SQLite's log is brought into the database beside whoever writes.

use postrider_integration_tests::Kind;

use crate::{fixtures::a_draft, node::Node};

/// Publishes so many events with 4 KiB of data each.
async fn publish(node: &Node, events: usize) {
    node.publish((0..events).map(|_| a_draft().data(vec![b'1'; 4_096]))).await;
}

#[tokio::test]
async fn a_long_log_is_brought_into_the_database_and_a_short_one_left() {
    let node = Node::new(Kind::Sqlite).await;
    assert!(node.store.has_log());
    publish(&node, 10).await;
    assert!(!node.store.checkpoint().await.unwrap(), "it is not worth it yet");
    for _ in 0..10 {
        publish(&node, 200).await;
    }
    assert!(node.store.checkpoint().await.unwrap());
    assert!(!node.store.checkpoint().await.unwrap(), "it is in the database");
}

#[tokio::test]
async fn postgres_looks_after_its_log_by_itself() {
    assert!(!Node::new(Kind::Postgres).await.store.has_log());
}
