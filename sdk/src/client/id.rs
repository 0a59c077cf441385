//! Request ids for the events whose publisher did not choose one.

/// Time-ordered, because the server keeps these in an index.
#[expect(clippy::disallowed_methods, reason = "the SDK's one place where ids are made")]
pub(crate) fn new_request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}
