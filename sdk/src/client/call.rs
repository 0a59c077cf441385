//! One call: token, trace context, deadline, and as many tries as its [`Repeat`] allows.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status, transport::Channel};

use super::{Client, TraceContext, Tries};
use crate::{Code, Error, Result};

/// A page of 1,000 attempts, each with 16 KiB of headers and 16 KiB of body, and as much again to spare.
pub(crate) const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Whether a call that failed may be made again without asking the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Twice has the effect of once.
    Safe,
    /// A second time would do something a second time, or fail because the first one succeeded.
    Never,
}

impl Client {
    /// Makes a call until it succeeds or may not be tried again.
    pub(crate) async fn call<Q, A, F>(
        &self,
        repeat: Repeat,
        message: Q,
        rpc: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<A>
    where
        Q: Clone,
        F: Future<Output = std::result::Result<Response<A>, Status>>,
    {
        let mut tries = Tries::begin(self.retry());
        loop {
            // The policy's deadline ends the repeating; the first try has the time that the caller gave it.
            let limit = if tries.is_first() { self.timeout() } else { self.timeout().min(tries.time_left()) };
            match self.call_once(limit, message.clone(), &rpc).await {
                Ok(answer) => return Ok(answer),
                Err(error) => tries.pause_after(error, repeat).await?,
            }
        }
    }

    /// Makes a call once, within `limit`.
    pub(crate) async fn call_once<Q, A, F>(
        &self,
        limit: Duration,
        message: Q,
        rpc: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<A>
    where
        F: Future<Output = std::result::Result<Response<A>, Status>>,
    {
        let mut request = self.request(message, &TraceContext::current());
        request.set_timeout(limit);
        let begun = Instant::now();
        // In a box, as messages can be large, and callers' futures would be as much larger.
        match timeout(limit, Box::pin(rpc(self.channel(), request))).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            // The transport has a timer of its own for the same deadline, and calls its end a cancellation.
            Ok(Err(status)) if status.code() == tonic::Code::Cancelled && begun.elapsed() >= limit => {
                Err(no_answer_within(limit))
            }
            Ok(Err(status)) => Err(Error::from_status(status)),
            Err(_) => Err(no_answer_within(limit)),
        }
    }

    /// A request with everything but a deadline.
    pub(crate) fn request<Q>(&self, message: Q, trace: &TraceContext) -> Request<Q> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        trace.inject(request.metadata_mut());
        request
    }
}

fn no_answer_within(limit: Duration) -> Error {
    Error::new(Code::DeadlineExceeded, format!("no answer within {limit:?}"))
}
