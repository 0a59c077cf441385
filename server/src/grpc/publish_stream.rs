//! `PublishEventStream`: answers one after another, in the order of the requests.
//!
//! Events are handed to the writer as they come, so their order is that of the stream, and up to [`MAX_IN_HAND`] of them wait for
//! their commits together, if there is room for them. Then nothing more is read, and HTTP/2's flow control holds the producer back.

use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use postrider_proto::v1 as pb;
use tonic::{Status, Streaming};

use super::{
    Parts,
    failure::{Failure, explained},
    intake::{InHand, size, to_result},
    name,
};
use crate::{
    domain::{id::TenantId, invalid::Invalid, trace_context::TraceContext},
    publish::Room,
};

/// How many events of one stream may wait for their commit.
const MAX_IN_HAND: usize = 1_024;

struct Reader {
    parts: Arc<Parts>,
    requests: Streaming<pb::PublishEventStreamRequest>,
    trace: Option<TraceContext>,
    /// The tenant of the latest message that named one.
    tenant: Option<TenantId>,
    index: i64,
    ended: bool,
}

/// Publishes what comes in and yields the answers.
pub(super) fn answers(
    parts: Arc<Parts>,
    requests: Streaming<pb::PublishEventStreamRequest>,
    trace: Option<TraceContext>,
) -> impl Stream<Item = Result<pb::PublishEventStreamResponse, Status>> {
    let reader = Reader { parts: Arc::clone(&parts), requests, trace, tenant: None, index: 0, ended: false };
    stream::unfold(reader, Reader::next)
        .map(move |read| {
            let parts = Arc::clone(&parts);
            async move {
                let (index, in_hand) = read?;
                let result = Some(to_result(parts.published(in_hand).await));
                Ok(pb::PublishEventStreamResponse { index, result })
            }
        })
        .buffered(MAX_IN_HAND)
}

impl Reader {
    /// Reads one request and hands its event to the writer; ends with the stream, or with the server.
    async fn next(mut self) -> Option<(Result<(i64, Result<InHand, Failure>), Status>, Self)> {
        if self.ended {
            return None;
        }
        let message = tokio::select! {
            biased;
            () = self.parts.stop.cancelled() => Err(Failure::Stopping.into()),
            message = self.requests.message() => message,
        };
        match message {
            Ok(Some(request)) => {
                let index = self.index;
                self.index += 1;
                let in_hand = self.submit(request).await;
                Some((Ok((index, in_hand)), self))
            }
            Ok(None) => None,
            Err(status) => {
                let status = explained(&status).unwrap_or(status);
                // What was read before is still answered; this comes last.
                self.ended = true;
                Some((Err(status), self))
            }
        }
    }

    async fn submit(&mut self, request: pb::PublishEventStreamRequest) -> Result<InHand, Failure> {
        if !request.parent.is_empty() {
            // A name that is refused must not leave the tenant before in force for what follows.
            self.tenant = None;
            self.tenant = Some(name::tenant("parent", &request.parent)?);
        }
        let missing = |field: &str, why: &str| Failure::from(Invalid::new(field, why));
        let tenant = self
            .tenant
            .clone()
            .ok_or_else(|| missing("parent", "is missing: the first message must name a tenant"))?;
        let item = request.item.ok_or_else(|| missing("item", "is missing"))?;
        let room = Room::of(self.parts.budget.wait(&tenant, size(&item)).await?);
        self.parts.submit(tenant, item, self.trace.clone(), room).await
    }
}
