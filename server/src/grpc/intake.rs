//! Events on their way from a request to the writer, and back as an answer: what the three publish methods share.

use std::time::Instant;

use postrider_proto::v1 as pb;

use super::{Parts, convert, failure::Failure, name, trace};
use crate::{
    domain::{id::TenantId, trace_context::TraceContext},
    publish::{Published, Route, Submitted},
    telemetry::metrics::PublishResult,
};

/// An event that was read and handed to the writer, and for whom.
pub(super) struct InHand {
    tenant: TenantId,
    submitted: Submitted,
    arrived: Instant,
}

impl Parts {
    /// Reads an event and hands it to the writer.
    pub(super) async fn submit(
        &self,
        tenant: TenantId,
        item: pb::PublishItem,
        trace: Option<TraceContext>,
    ) -> Result<InHand, Failure> {
        let arrived = Instant::now();
        let trace = trace::of_item(&item).or(trace);
        let read = convert::event::new_event(
            tenant.clone(),
            item.event,
            &item.request_id,
            trace,
            self.max_data_bytes,
            self.clock.now(),
        );
        let submitted = match read {
            Ok(event) => self.publisher.submit(event, Route::Matching).await.map_err(Failure::from),
            Err(invalid) => Err(invalid.into()),
        };
        match submitted {
            Ok(submitted) => Ok(InHand { tenant, submitted, arrived }),
            Err(failure) => {
                self.metrics.published(PublishResult::Refused, arrived.elapsed());
                Err(failure)
            }
        }
    }

    /// Waits for the commit of an event.
    pub(super) async fn published(
        &self,
        in_hand: Result<InHand, Failure>,
    ) -> Result<pb::PublishedEvent, Failure> {
        let InHand { tenant, submitted, arrived } = in_hand?;
        let published = submitted.published().await.map_err(Failure::from);
        let result = match &published {
            Ok(Published { duplicate: false, .. }) => PublishResult::Stored,
            Ok(Published { duplicate: true, .. }) => PublishResult::Duplicate,
            Err(Failure::RequestIdReused) => PublishResult::Refused,
            Err(_) => PublishResult::Failed,
        };
        self.metrics.published(result, arrived.elapsed());
        Ok(convert::event::to_published(&tenant, published?))
    }

    /// Refuses a tenant that does not exist.
    pub(super) async fn check_tenant(&self, tenant: Option<&TenantId>) -> Result<(), Failure> {
        match tenant {
            Some(tenant) if !self.store.tenant_exists(tenant).await? => {
                Err(Failure::NotFound { field: "parent", name: name::of_tenant(tenant) })
            }
            _ => Ok(()),
        }
    }
}

/// How much memory an item takes until it is committed; beside its data only what is small.
pub(super) fn size(item: &pb::PublishItem) -> usize {
    item.event.as_ref().map_or(0, |event| event.data.len())
}

/// Shows what became of one item of a batch or a stream.
pub(super) fn to_result(published: Result<pb::PublishedEvent, Failure>) -> pb::PublishResult {
    let result = match published {
        Ok(published) => pb::publish_result::Result::Published(published),
        Err(failure) => pb::publish_result::Result::Error(failure.into()),
    };
    pb::PublishResult { result: Some(result) }
}
