//! Events on their way from a request to the writer, and back as an answer: what the three publish methods share.

use std::time::Instant;

use futures_util::future::BoxFuture;
use postrider_proto::v1 as pb;
use prost::Message;

use super::{Parts, convert, failure::Failure, name, trace};
use crate::{
    domain::{
        event::NewEvent, id::TenantId, invalid::Invalid, timestamp::Timestamp, trace_context::TraceContext,
    },
    publish::{self, Fate, Published, Room, Route, Submitted},
    telemetry::metrics::PublishResult,
};

/// An event that was read and handed to the writer, and for whom.
pub(super) struct InHand {
    tenant: TenantId,
    answer: Answer,
    arrived: Instant,
}

/// What an event's publisher is told.
enum Answer {
    /// It comes with the commit.
    Awaited(Submitted),
    /// It is known.
    Given(Published),
}

impl Parts {
    /// Reads an event and hands it to the writer.
    pub(super) async fn submit(
        &self,
        tenant: TenantId,
        item: pb::PublishItem,
        trace: Option<TraceContext>,
        room: Room,
    ) -> Result<InHand, Failure> {
        let (arrived, now) = (Instant::now(), self.clock.now());
        let trace = trace::of_item(&item).or(trace);
        let read = convert::event::new_event(
            tenant.clone(),
            item.event,
            &item.request_id,
            trace,
            self.max_data_bytes,
            now,
        );
        let answer = match read {
            Ok(event) => self.hand_over(event, now, room).await,
            Err(invalid) => Err(invalid.into()),
        };
        match answer {
            Ok(answer) => Ok(InHand { tenant, answer, arrived }),
            Err(failure) => {
                self.metrics.published(came_to(&failure), arrived.elapsed());
                Err(failure)
            }
        }
    }

    /// Hands an event to the writer. One that has expired or that the catalogue refuses is answered here: it is refused, unless it is
    /// published once more.
    async fn hand_over(&self, event: NewEvent, now: Timestamp, room: Room) -> Result<Answer, Failure> {
        let Err(expired) = event.content.handling.check_new(now) else {
            return self.submit_by_rules(event, room).await;
        };
        Ok(Answer::Given(self.known(&event).await?.ok_or_else(|| expired.within("event"))??))
    }

    /// Hands an event to the writer unless the catalogue refuses it. A refusal is only believed by the rules of this moment: a node hears of
    /// new ones by events that are let through.
    async fn submit_by_rules(&self, event: NewEvent, room: Room) -> Result<Answer, Failure> {
        let mut submitted = self.publisher.submit(event, Route::Matching, room.clone()).await;
        if let Err(publish::Error::Refused { event, reasons }) = submitted {
            submitted = Box::pin(self.submit_refused(event, reasons, room)).await?;
        }
        match submitted {
            Ok(submitted) => {
                if submitted.is_deprecated() {
                    self.metrics.deprecated();
                }
                Ok(Answer::Awaited(submitted))
            }
            Err(publish::Error::Refused { event, reasons }) => {
                Ok(Answer::Given(self.known(&event).await?.ok_or(Failure::Violations(reasons))??))
            }
            Err(cause) => Err(cause.into()),
        }
    }

    /// Hands an event over once more that was refused, if there are later rules.
    async fn submit_refused(
        &self,
        event: Box<NewEvent>,
        reasons: Vec<Invalid>,
        room: Room,
    ) -> Result<Result<Submitted, publish::Error>, Failure> {
        if !self.renew_rules().await? {
            return Ok(Err(publish::Error::Refused { event, reasons }));
        }
        Ok(self.publisher.submit(*event, Route::Matching, room).await)
    }

    /// Goes by the catalogue of this moment; says whether there was a later one.
    pub(super) async fn renew_rules(&self) -> Result<bool, Failure> {
        if self.store.catalogue_version().await? == self.publisher.rules_version() {
            return Ok(false);
        }
        let (version, types) = self.store.whole_catalogue().await?;
        self.publisher.renew_rules(version, types).await;
        Ok(true)
    }

    /// The answer to an event that is only accepted if it was published before. Boxed, as it is rare: what a call may have to wait
    /// for is part of every call's size.
    fn known<'a>(
        &'a self,
        event: &'a NewEvent,
    ) -> BoxFuture<'a, Result<Option<Result<Published, publish::Error>>, Failure>> {
        Box::pin(async move { Ok(self.store.known(event).await?.and_then(Fate::of_known)) })
    }

    /// Waits for the commit of an event.
    pub(super) async fn published(
        &self,
        in_hand: Result<InHand, Failure>,
    ) -> Result<pb::PublishedEvent, Failure> {
        let InHand { tenant, answer, arrived } = in_hand?;
        let published = match answer {
            Answer::Awaited(submitted) => submitted.published().await.map_err(Failure::from),
            Answer::Given(published) => Ok(published),
        };
        let result = match &published {
            Ok(Published { duplicate: false, .. }) => PublishResult::Stored,
            Ok(Published { duplicate: true, .. }) => PublishResult::Duplicate,
            Err(failure) => came_to(failure),
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

/// What a publish came to that failed.
fn came_to(failure: &Failure) -> PublishResult {
    match failure {
        Failure::Invalid(_) | Failure::Violations(_) | Failure::RequestIdReused => PublishResult::Refused,
        _ => PublishResult::Failed,
    }
}

/// How much memory an item takes until it is committed.
pub(super) fn size(item: &pb::PublishItem) -> usize {
    item.encoded_len()
}

/// Shows what became of one item of a batch or a stream.
pub(super) fn to_result(published: Result<pb::PublishedEvent, Failure>) -> pb::PublishResult {
    let result = match published {
        Ok(published) => pb::publish_result::Result::Published(published),
        Err(failure) => pb::publish_result::Result::Error(failure.into()),
    };
    pb::PublishResult { result: Some(result) }
}
