//! Proves that `src/generated` is what the `.proto` files say, with no `protoc` on the machine.
//! `UPDATE=1 cargo test -p postrider-proto` rewrites it.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{fs, path::Path};

use protox::prost::Message;

const FILES: [&str; 19] = [
    "postrider/v1/authentication.proto",
    "postrider/v1/delivery.proto",
    "postrider/v1/delivery_service.proto",
    "postrider/v1/error.proto",
    "postrider/v1/event.proto",
    "postrider/v1/event_filter.proto",
    "postrider/v1/event_service.proto",
    "postrider/v1/event_type.proto",
    "postrider/v1/event_type_service.proto",
    "postrider/v1/explanation.proto",
    "postrider/v1/failure_policy.proto",
    "postrider/v1/format.proto",
    "postrider/v1/handshake.proto",
    "postrider/v1/receiver_tls.proto",
    "postrider/v1/retry_policy.proto",
    "postrider/v1/signing.proto",
    "postrider/v1/subscription.proto",
    "postrider/v1/subscription_service.proto",
    "postrider/v1/target_check.proto",
];

#[test]
fn every_proto_file_is_generated_from() {
    let mut found: Vec<_> = fs::read_dir(root().join("postrider/v1"))
        .unwrap()
        .map(|entry| format!("postrider/v1/{}", entry.unwrap().file_name().to_string_lossy()))
        .collect();
    found.sort();
    assert_eq!(found, FILES);
}

#[test]
fn generated_code_is_current() {
    let out = tempfile::tempdir().unwrap();
    generate(out.path());
    let checked_in = root().join("src/generated");
    for file in ["postrider.v1.rs", "descriptors.bin"] {
        let fresh = fs::read(out.path().join(file)).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            fs::write(checked_in.join(file), &fresh).unwrap();
        }
        let current = fs::read(checked_in.join(file)).unwrap_or_default();
        assert!(
            fresh == current,
            "src/generated/{file} is not current: run `UPDATE=1 cargo test -p postrider-proto`"
        );
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn generate(out: &Path) {
    // With imports and comments: prost-build needs the former, rustdoc is made of the latter.
    let mut compiler = protox::Compiler::new([root()]).unwrap();
    compiler.include_imports(true).include_source_info(true).open_files(FILES).unwrap();
    tonic_prost_build::configure()
        .out_dir(out)
        // They may hold secrets: `src/redacted.rs` has their `Debug`.
        .skip_debug([
            "postrider.v1.StaticHeader",
            "postrider.v1.SlackUrlVerification",
            "postrider.v1.MetaHandshake",
            "postrider.v1.EbayHandshake",
            "postrider.v1.LinkedinHandshake",
        ])
        .bytes(".postrider.v1.Event.data")
        .bytes(".postrider.v1.Attempt.response_body")
        .bytes(".postrider.v1.RenderEventResponse.body")
        .compile_fds(compiler.file_descriptor_set())
        .unwrap();

    let mut compiler = protox::Compiler::new([root()]).unwrap();
    compiler.include_imports(true).include_source_info(false).open_files(FILES).unwrap();
    let descriptors = compiler.file_descriptor_set().encode_to_vec();
    fs::write(out.join("descriptors.bin"), descriptors).unwrap();
}
