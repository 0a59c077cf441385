//! Seeing from the command line whether a target can be reached.

use postrider_integration_tests::{Exit, ProcessBuilder, Receiver};

async fn run(url: &str) -> Exit {
    ProcessBuilder::new(&["check-target", url])
        .with("POSTRIDER_SENDER_ALLOW_HTTP", "true")
        .with("POSTRIDER_SENDER_ALLOWED_NETWORKS", "127.0.0.0/8")
        .run()
        .await
}

#[tokio::test]
async fn it_says_what_was_found_and_fails_if_there_is_no_answer() {
    let receiver = Receiver::start().await;
    let exit = run(&receiver.url()).await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(exit.stdout.contains("address      127.0.0.1\nconnected    127.0.0.1\n"), "{}", exit.stdout);
    assert!(
        exit.stdout.ends_with("The target can be reached: it answered `HEAD` with 204.\n"),
        "{}",
        exit.stdout
    );
    for (url, found, words) in [
        ("https://10.0.0.1/", "address      10.0.0.1, refused: private\n", "may not be sent to"),
        (&receiver.url().replace("http:", "https:"), "connected    127.0.0.1\n", "does not speak TLS"),
        ("example.com", "", "target_url: is not absolute"),
    ] {
        let exit = run(url).await;
        assert_eq!(exit.code, Some(1), "{}", exit.stdout);
        assert!(
            exit.stdout.contains(found) && exit.stderr.contains(words),
            "{} {}",
            exit.stdout,
            exit.stderr
        );
    }
    assert_eq!(receiver.requests().len(), 1);
}
