//! What nodes tell each other beside the tables.

use postrider_integration_tests::{Kind, on_both_databases};
use postrider_server::dispatch::Queue;

use crate::node::Node;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_hears_what_another_one_tells_and_not_itself() {
    let node = Node::new(Kind::Postgres).await;
    let other = node.another().await;
    let mut hints = node.store.hints().await.unwrap().unwrap();
    node.store.hint().await.unwrap();
    other.store.hint().await.unwrap();
    hints.next().await.unwrap();
    // The one hint was the other's: what comes next is the end.
    node.database.go_away().await;
    hints.next().await.unwrap_err();
    node.store.hints().await.unwrap_err();
    node.database.come_back().await;
    let mut hints = node.store.hints().await.unwrap().unwrap();
    other.store.hint().await.unwrap();
    hints.next().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_database_has_nobody_to_hear() {
    let node = Node::new(Kind::Sqlite).await;
    assert!(node.store.hints().await.unwrap().is_none());
    node.store.hint().await.unwrap();
}

on_both_databases! {
    async fn only_a_database_that_nodes_share_tells_the_time(kind: Kind) {
        let node = Node::new(kind).await;
        let (first, second) = (node.store.time().await.unwrap(), node.store.time().await.unwrap());
        assert_eq!(first.is_some(), kind == Kind::Postgres);
        assert!(first <= second);
        assert!(first.is_none_or(|first| first > crate::fixtures::NOW), "it is later than these tests' beginning");
    }
}
