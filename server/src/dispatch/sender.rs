//! What the dispatcher asks of whoever makes the requests.

use std::{future::Future, time::Duration};

use tokio::runtime::Handle;

use crate::domain::{
    attempt::Attempt,
    claim::{Claim, Target},
    timestamp::Timestamp,
    trace_context::TraceContext,
};

/// Makes the attempt that a claim calls for.
pub trait Sender: Send + Sync + 'static {
    /// Always comes to an attempt with an outcome: what the receiver or the network does is no error of ours.
    ///
    /// `trace` is what the receiver gets as its trace context. The attempt's `span` is left for the caller to fill in.
    fn send(
        &self,
        claim: &Claim,
        trace: Option<&TraceContext>,
        now: Timestamp,
    ) -> impl Future<Output = Attempt> + Send;

    /// The longest that an attempt at this target can take: one is only begun while this still fits into its lease.
    fn timeout(&self, target: &Target) -> Duration;

    /// Where attempts at this target are best made; none: wherever they are begun.
    fn runtime(&self, _target: &Target) -> Option<&Handle> {
        None
    }
}
