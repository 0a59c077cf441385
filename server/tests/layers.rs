//! Dependencies go one way: reads every path that `src` names and fails on one that it should not.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use syn::{UseTree, visit::Visit};

/// The parts of the library, each with those of them that it may know besides itself.
const MAY_KNOW: [(&str, &[&str]); 19] = [
    ("domain", &[]),
    ("clock", &["domain"]),
    ("places", &["domain"]),
    ("shutdown", &["domain"]),
    ("telemetry", &["domain"]),
    ("accept", &["domain", "telemetry"]),
    ("template", &["domain"]),
    ("threads", &[]),
    // The traits that are declared by those who use them.
    ("store", &["domain", "dispatch", "publish"]),
    ("sender", &["domain", "dispatch", "places", "template", "threads"]),
    ("dispatch", &["domain", "clock", "shutdown", "telemetry"]),
    ("publish", &["domain", "clock", "shutdown", "telemetry"]),
    // It probes by the sender, whose trait is the dispatcher's, and publishes operational events.
    ("maintenance", &["domain", "store", "dispatch", "publish", "clock", "telemetry"]),
    ("handshakes", &["domain", "store", "sender", "clock", "places"]),
    // It judges the dispatcher and the fan-out.
    ("readiness", &["domain", "store", "dispatch", "publish", "clock", "telemetry"]),
    ("http", &["accept", "domain", "readiness", "telemetry"]),
    ("grpc", &["accept", "domain", "publish", "store", "clock", "telemetry", "template", "threads"]),
    // Collects what each component lets be configured.
    ("config", &["domain", "dispatch", "grpc", "http", "sender", "shutdown", "store", "telemetry"]),
    (
        "app",
        &[
            "domain",
            "clock",
            "config",
            "dispatch",
            "grpc",
            "handshakes",
            "http",
            "maintenance",
            "publish",
            "readiness",
            "sender",
            "shutdown",
            "store",
            "telemetry",
            "threads",
        ],
    ),
];

/// Libraries that only these parts may name.
const KEPT_TO: [(&str, &[&str]); 12] = [
    ("sea_orm", &["store"]),
    ("sea_orm_migration", &["store"]),
    ("hyper", &["grpc", "sender"]),
    ("hyper_rustls", &["sender"]),
    ("hyper_util", &["sender"]),
    ("hickory_resolver", &["sender"]),
    ("minijinja", &["template"]),
    ("tonic", &["grpc"]),
    ("prost_types", &["grpc"]),
    ("axum", &["http", "cli"]),
    ("postrider_sdk", &["cli"]),
    (
        "tokio",
        &[
            "accept",
            "app",
            "cli",
            "dispatch",
            "grpc",
            "handshakes",
            "http",
            "maintenance",
            "publish",
            "readiness",
            "sender",
            "shutdown",
            "store",
            "threads",
        ],
    ),
];

#[test]
fn dependencies_go_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in rust_files(&src) {
        let place = file.strip_prefix(&src).unwrap();
        let part = place.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        if part == "lib" || part == "main" {
            continue;
        }
        for path in paths(&fs::read_to_string(&file).unwrap()) {
            if let Some(complaint) = complaint(part, &path) {
                wrong.push(format!("{}: {complaint}", place.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_points_the_wrong_way_is_seen() {
    let complaints = |part, code| paths(code).iter().filter_map(|path| complaint(part, path)).count();
    assert_eq!(complaints("domain", "use crate::{domain::id, store::Store};"), 1);
    assert_eq!(complaints("domain", "fn f() { crate::clock::jitter(); tokio::spawn(async {}); }"), 2);
    assert_eq!(complaints("grpc", "use sea_orm::{self, Value}; use tonic::Status;"), 2);
    assert_eq!(complaints("store", "use crate::{dispatch::Queue, domain}; use sea_orm::Value;"), 0);
    assert_eq!(complaints("dispatch", "struct S(postrider_sdk::Client);"), 1);
}

/// What is wrong with a path in this part of the library, if anything is.
fn complaint(part: &str, path: &[String]) -> Option<String> {
    let first = path.first()?.as_str();
    if let Some((_, keepers)) = KEPT_TO.iter().find(|(library, _)| *library == first) {
        return (!keepers.contains(&part)).then(|| format!("`{part}` must not name the library `{first}`"));
    }
    let (_, known) = MAY_KNOW.iter().find(|(name, _)| *name == part)?;
    let other = path.get(1).filter(|_| first == "crate")?.as_str();
    let is_fine = other == part || known.contains(&other);
    (!is_fine).then(|| format!("`{part}` must not know `{other}`"))
}

/// Every path that a file names, in imports and in code.
fn paths(code: &str) -> Vec<Vec<String>> {
    #[derive(Default)]
    struct Paths(Vec<Vec<String>>);

    impl Visit<'_> for Paths {
        fn visit_path(&mut self, path: &syn::Path) {
            self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
            syn::visit::visit_path(self, path);
        }

        fn visit_use_tree(&mut self, tree: &UseTree) {
            fn walk(tree: &UseTree, before: &[String], found: &mut Vec<Vec<String>>) {
                let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
                match tree {
                    UseTree::Path(path) => walk(&path.tree, &with(&path.ident), found),
                    UseTree::Group(group) => group.items.iter().for_each(|item| walk(item, before, found)),
                    UseTree::Name(name) => found.push(with(&name.ident)),
                    UseTree::Rename(rename) => found.push(with(&rename.ident)),
                    UseTree::Glob(_) => found.push(before.to_vec()),
                }
            }
            walk(tree, &[], &mut self.0);
        }
    }

    let mut paths = Paths::default();
    paths.visit_file(&syn::parse_file(code).unwrap());
    paths.0
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = |path: PathBuf| {
        if path.is_dir() { rust_files(&path) } else { vec![path] }
    };
    entries.flat_map(files).collect()
}
