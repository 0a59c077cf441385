//! Calls that are answered on another runtime than that of their connection.
//!
//! The threads that take calls are for many small steps. What changes a subscription, or the catalogue, may compute for long, opens connections to
//! the database, and on SQLite keeps everybody else from writing until its next step: it goes where the other users of the database are.

use std::{
    convert::Infallible,
    panic::resume_unwind,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use tonic::{body::Body, service::Routes};
use tower::Service;
use tracing::Instrument;

/// Services, and where they answer.
#[derive(Debug, Clone)]
pub(super) struct Elsewhere {
    services: Routes,
    runtime: Handle,
}

impl Elsewhere {
    pub(super) fn new(services: Routes, runtime: Handle) -> Self {
        Self { services, runtime }
    }
}

impl Service<Request<Body>> for Elsewhere {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.services, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (answer, runtime) = (self.services.call(request), self.runtime.clone());
        Box::pin(async move {
            // In the span of the call, and no longer than somebody waits for it.
            let answered = AbortOnDropHandle::new(runtime.spawn(answer.in_current_span())).await;
            answered.unwrap_or_else(|ended| match ended.try_into_panic() {
                Ok(defect) => resume_unwind(defect),
                // That runtime ends with the process.
                Err(_) => Ok(tonic::Status::unavailable("the server is stopping").into_http()),
            })
        })
    }
}
