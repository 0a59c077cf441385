//! How the process takes memory.

#![cfg(target_os = "linux")]

use postrider_integration_tests::{Kind, ProcessBuilder, TestDatabase};

#[tokio::test]
async fn it_is_taken_in_small_pages() {
    let server = ProcessBuilder::serve(&TestDatabase::new(Kind::Sqlite).await).start().await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    assert!(status.contains("THP_enabled:\t0"), "{status}");
    server.stop().await;
}
