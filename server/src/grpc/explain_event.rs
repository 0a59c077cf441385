//! `ExplainEvent`: which subscriptions would get an event, why the others not, and what the catalogue has against it.

use postrider_proto::v1 as pb;

use super::{
    Parts, convert,
    failure::{Failure, to_field_violation},
    name,
    page_token::Query,
};
use crate::{
    domain::{event::EventContent, id::TenantId, invalid::Invalid, timestamp::Timestamp},
    publish::explain,
};

impl Parts {
    /// Explains one page of the tenant's subscriptions.
    pub(super) async fn explain_event(
        &self,
        request: pb::ExplainEventRequest,
    ) -> Result<pb::ExplainEventResponse, Failure> {
        let tenant = name::tenant("parent", &request.parent)?;
        let query = Query::new("ExplainEvent", &(&tenant, &request.subject));
        let page = query.page(request.page_size, &request.page_token)?;
        let (event, time) = self.subject(&tenant, request.subject).await?;
        self.check_tenant(Some(&tenant)).await?;
        let page = self.store.subscriptions(Some(&tenant), page).await?;
        let names: Vec<_> =
            page.items.iter().map(|subscription| name::of_subscription(&tenant, &subscription.id)).collect();
        // A node hears of a new catalogue by events that are let through, and none is here.
        self.renew_rules().await?;
        let violations = self.publisher.violations(&event).await;
        let explanations = explain(event, time, page.items).await.ok_or(Failure::Internal)?;
        let explanations = names.into_iter().zip(explanations);
        Ok(pb::ExplainEventResponse {
            explanations: explanations
                .map(|(name, explanation)| convert::filter::to_explanation(name, explanation))
                .collect(),
            next_page_token: query.token(page.next),
            violations: violations.iter().map(to_field_violation).collect(),
        })
    }

    /// The event in question, and when it happened if it does not say so.
    async fn subject(
        &self,
        tenant: &TenantId,
        subject: Option<pb::explain_event_request::Subject>,
    ) -> Result<(EventContent, Timestamp), Failure> {
        match subject {
            Some(pb::explain_event_request::Subject::Event(event)) => {
                let now = self.clock.now();
                Ok((convert::event::imagined_event(event, self.max_data_bytes, now)?, now))
            }
            Some(pb::explain_event_request::Subject::EventName(name)) => {
                let (owner, id) = name::event("event_name", &name)?;
                if owner != *tenant {
                    let reason = format!("must be an event of `{}`", name::of_tenant(tenant));
                    return Err(Invalid::new("event_name", reason).into());
                }
                let stored = self.store.event(tenant, id).await?;
                let event = stored.ok_or(Failure::NotFound { field: "event_name", name })?.event;
                // JSON is never empty: it was pruned.
                if event.content.payload.is_json() && event.content.payload.data.is_empty() {
                    return Err(Failure::DataExpired);
                }
                Ok((event.content, event.created_at))
            }
            None => Err(Invalid::new("event", "is missing: set `event` or `event_name`").into()),
        }
    }
}
