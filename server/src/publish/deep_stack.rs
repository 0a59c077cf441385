//! Work that takes its time and recurses, on a thread of its own.

use std::thread;

use tokio::sync::oneshot;

use crate::domain::expression::EVALUATION_STACK;

/// Does the work with a stack that every expression fits into; none if it could not be done or was defective.
pub(super) async fn on_deep_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = oneshot::channel();
    let spawned =
        thread::Builder::new().name("expressions".to_owned()).stack_size(EVALUATION_STACK).spawn(move || {
            // Nobody may be waiting any more.
            let _ = done.send(work());
        });
    if let Err(cause) = spawned {
        tracing::error!(cause = &cause as &dyn std::error::Error, "there is no thread for expressions");
        return None;
    }
    result.await.ok()
}
