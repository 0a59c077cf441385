//! Takes due deliveries over.
//!
//! Find the subscriptions that are [open](super::open), take the most overdue of each as far as it has room, round by
//! round until the node has none (an attempt that is under way counts as a round that the subscription has had), tenants taking turns
//! in the same way, and push their due date behind the lease. Who is blocked or limited to a rate is looked at before ([`special`]).
//!
//! The most overdue of a subscription are found level by level of their priority, each a range of the index, and put in one order
//! by their due dates with the handicap of their level. What waits for an earlier delivery of its lane is never due.
//!
//! On PostgreSQL that is one statement ([`postgres`]). On SQLite it is two, as there whoever writes keeps all others from writing ([`sqlite`]).
//!
//! How much data it is shows when it is taken over. If there is no room for that much, it is let go, and fewer are taken.
//!
//! What has expired, and what [nobody can read](crate::store::sending), is ended instead of returned, and takes nobody's turn: neither a
//! probe's nor one that a rate allows.

use std::collections::HashMap;

use sea_orm::{DatabaseTransaction, DbBackend, FromQueryResult, Statement, prelude::Uuid};

use super::{
    special::{self, Admitted},
    stretch::Stretch,
};
use crate::{
    dispatch::{self, Ask, Claimed, Settled},
    domain::{
        claim::Claim,
        delivery::EndReason,
        id::{DeliveryId, SubscriptionUid},
        timestamp::Timestamp,
        trace_context::TraceContext,
    },
    store::{
        Error, Store,
        ending::{self, Ending},
        rows,
        sending::{self, Contents, Unreadable},
    },
};

mod postgres;
mod sqlite;

/// In how many rounds a claim may find nothing but deliveries that are to end. What comes due meanwhile is for the next claim, and a lease that
/// is given at last has begun with the first look.
const ROUNDS: usize = 4;

/// The end of what was taken over at `$1` and cannot be read. There was no attempt, so none counts.
const UNREADABLE: Ending = Ending { reason: EndReason::Unreadable, condition: "due_at > $1", uncounted: 1 };

/// What is read of a delivery that was taken over.
#[derive(Debug, FromQueryResult)]
struct Taken {
    id: Uuid,
    event_id: Uuid,
    subscription_uid: Uuid,
    attempt_count: i32,
    last_traceparent: Option<String>,
}

/// What was taken over, by what is to become of it.
#[derive(Debug, Default)]
struct Sorted {
    claims: Vec<Claim>,
    expired: Vec<Claim>,
    unreadable: Vec<DeliveryId>,
    throttled: Vec<(SubscriptionUid, Timestamp)>,
}

impl Sorted {
    /// That nothing was taken over, which may be for a rate.
    fn nothing(admitted: Admitted) -> Self {
        Self { throttled: admitted.throttled, ..Self::default() }
    }

    /// What is to become of each of those that were taken over.
    fn by(ask: &Ask, taken: Vec<Taken>, contents: &Contents) -> Self {
        let mut sorted = Self::default();
        for taken in taken {
            let delivery = DeliveryId::from_uuid(taken.id);
            match claim(taken, contents, ask.leased_until) {
                Ok(claim) if claim.expired(ask.now) => sorted.expired.push(claim),
                Ok(claim) => sorted.claims.push(claim),
                Err(cause) => {
                    tracing::error!(
                        cause = &cause as &dyn std::error::Error,
                        delivery.id = %delivery,
                        "a delivery is ended because it cannot be read"
                    );
                    sorted.unreadable.push(delivery);
                }
            }
        }
        sorted
    }

    fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.expired.is_empty() && self.unreadable.is_empty()
    }
}

impl Store {
    pub(super) async fn claim_due(&self, ask: &Ask) -> Result<Claimed, Error> {
        let mut claimed = Claimed::default();
        for _ in 0..ROUNDS {
            let Sorted { claims, expired, unreadable, throttled } = self.take_due(ask).await?;
            let none_ends = expired.is_empty() && unreadable.is_empty();
            let ended = self.end_taken(expired, &unreadable, ask.now, &mut claimed).await;
            claimed.throttled = throttled;
            if none_ends || !claims.is_empty() {
                claimed.claims = claims;
                if let Err(cause) = ended {
                    // Their leases run out, and they are found again. The others are ours and must be sent.
                    tracing::error!(
                        cause = &cause as &dyn std::error::Error,
                        "deliveries that have expired or cannot be read were not ended"
                    );
                }
                break;
            }
            // Behind those that ended there may be others that are due.
            ended?;
        }
        Ok(claimed)
    }

    /// Ends what was taken over and is not to be sent, and counts it.
    async fn end_taken(
        &self,
        expired: Vec<Claim>,
        unreadable: &[DeliveryId],
        now: Timestamp,
        claimed: &mut Claimed,
    ) -> Result<(), Error> {
        if !expired.is_empty() {
            // We hold them now like any attempt, and give them back the same way: it releases what waits for them.
            let expired: Vec<_> = expired.into_iter().map(|claim| Settled::expired(claim, now)).collect();
            self.settle_batch(&expired).await?;
            claimed.expired += expired.len();
        }
        if !unreadable.is_empty() {
            let waiting = ending::pending(&self.connections.writer, unreadable).await?;
            claimed.unreadable += self.end(waiting, UNREADABLE, now).await?;
        }
        Ok(())
    }

    /// Takes due deliveries over: of the first stretch that has any, beginning where the claim before ended.
    async fn take_due(&self, ask: &Ask) -> Result<Sorted, Error> {
        let begin = self.claimed_up_to();
        let mut throttled = Vec::new();
        let mut stretch = Stretch::after(&self.connections.looker, begin).await?;
        loop {
            // Where nothing is pending, which is most of the time, this look is all that it takes.
            let mut sorted =
                if stretch.is_empty { Sorted::default() } else { self.take_due_of(ask, stretch).await? };
            throttled.append(&mut sorted.throttled);
            let next = if stretch.is_last() { Uuid::nil() } else { stretch.until };
            self.set_claimed_up_to(next);
            if stretch.comes_around_to(begin) || !sorted.is_empty() {
                return Ok(Sorted { throttled, ..sorted });
            }
            stretch = Stretch::after(&self.connections.looker, next).await?;
        }
    }

    /// Takes over what is due in one stretch.
    async fn take_due_of(&self, ask: &Ask, stretch: Stretch) -> Result<Sorted, Error> {
        match self.connections.backend() {
            DbBackend::Sqlite => self.take_due_on_sqlite(ask, stretch).await,
            _ => self.take_due_on_postgres(ask, stretch).await,
        }
    }

    /// Takes over what `statement` says, and reads it.
    async fn take_over(
        &self,
        transaction: DatabaseTransaction,
        statement: Statement,
        mut admitted: Admitted,
        ask: &Ask,
        stretch: Stretch,
    ) -> Result<Sorted, Error> {
        let taken = Taken::find_by_statement(statement).all(&transaction).await?;
        if taken.is_empty() {
            transaction.rollback().await?;
            return Ok(Sorted::nothing(admitted));
        }
        let events = || taken.iter().map(|taken| taken.event_id);
        let sizes = sending::sizes(&transaction, events()).await?;
        if let Some(max) = room_for(&taken, &sizes, ask.places) {
            transaction.rollback().await?;
            let fewer = Ask { max, ..ask.clone() };
            return Box::pin(self.take_due_of(&fewer, stretch)).await;
        }
        let subscriptions = taken.iter().map(|taken| taken.subscription_uid);
        let contents = Contents::read(&transaction, &self.keyring, events(), subscriptions).await?;
        let Some(contents) = contents else {
            // The next look finds what is left.
            transaction.rollback().await?;
            return Ok(Sorted::nothing(admitted));
        };
        let mut sorted = Sorted::by(ask, taken, &contents);
        let uids = sorted.claims.iter().map(|claim| claim.target.uid.uuid());
        let probes = special::note_taken(&transaction, ask, &mut admitted, uids).await?;
        transaction.commit().await?;
        for claim in &mut sorted.claims {
            claim.probe = probes.get(&claim.target.uid.uuid()).copied();
        }
        sorted.throttled = admitted.throttled;
        Ok(sorted)
    }
}

/// How many to take over instead, if those that were taken need more than these places. One is always taken, or it would never be.
fn room_for(taken: &[Taken], sizes: &HashMap<Uuid, usize>, places: usize) -> Option<usize> {
    let needed = |taken: &Taken| dispatch::places(sizes.get(&taken.event_id).copied().unwrap_or(0));
    let (sum, most) = taken.iter().map(needed).fold((0, 1), |(sum, most), one| (sum + one, most.max(one)));
    (taken.len() > 1 && sum > places).then(|| (places / most).max(1))
}

/// A claim of what was taken over, which is not known to be a probe yet.
fn claim(taken: Taken, contents: &Contents, leased_until: Timestamp) -> Result<Claim, Unreadable> {
    let (event, target) = contents.of(taken.event_id, taken.subscription_uid)?;
    let attempt = rows::attempt_number(taken.attempt_count, "pending_deliveries")?;
    let previous_span = taken.last_traceparent.map(|span| TraceContext::from_stored(span, String::new()));
    Ok(Claim {
        delivery: DeliveryId::from_uuid(taken.id),
        attempt,
        event,
        target,
        leased_until,
        previous_span,
        probe: None,
    })
}
