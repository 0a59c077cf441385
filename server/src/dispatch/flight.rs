//! One attempt, from the claim to its settlement.

use std::{pin::pin, sync::Arc};

use tracing::Instrument;

use super::{Permit, Queue, Sender, Settled, Shared, turns};
use crate::{
    clock,
    domain::{claim::Claim, delivery, failing::Sign},
    telemetry::trace_context,
};

/// Makes the attempt that `claim` calls for and hands over what follows.
pub(super) async fn fly<Q: Queue, S: Sender>(shared: Arc<Shared<Q, S>>, permit: Permit, claim: Claim) {
    let Some(mut turn) = permit.turn(&claim, &shared.clock).await else {
        let now = shared.clock.now();
        return shared.settled.put(Settled::returned(claim, now), permit);
    };
    let now = shared.clock.now();
    if now + shared.sender.timeout(&claim.target) >= claim.leased_until {
        // We were held up for so long that somebody else could send it too, now or while we do. If nobody has taken it over yet, that need
        // not wait for the end of the lease.
        tracing::warn!(delivery.id = %claim.delivery, "an attempt was not begun as it no longer fits into its lease");
        drop(turn);
        return shared.settled.put(Settled::returned(claim, now), permit);
    }
    if claim.expired(now) {
        shared.metrics.expired(1);
        // Before its permit, without which nothing is known of the line.
        drop(turn);
        return shared.settled.put(Settled::expired(claim, now), permit);
    }
    let span = trace_context::attempt_span(&claim);
    let own = trace_context::of_span(&span);
    // Without a tracer of our own we pass on what the producer gave us (W3C Trace Context, section 2.3).
    let trace = own.as_ref().or(claim.event.trace.as_ref());
    let mut attempt = {
        let mut sending = pin!(shared.sender.send(&claim, trace, now).instrument(span.clone()));
        if let Ok(attempt) = tokio::time::timeout(turns::SLOW, &mut sending).await {
            attempt
        } else {
            turn.slow_down();
            sending.await
        }
    };
    attempt.span = own;
    let at = shared.clock.now();
    let policy = &shared.policy;
    let retry =
        policy.retry.with(claim.target.settings.as_ref().and_then(|settings| settings.retry.as_ref()));
    let handling = &claim.event.content.handling;
    let due_since = handling.deliver_at.unwrap_or(claim.event.created_at).max(claim.event.created_at);
    let settlement = delivery::settle(
        attempt.number,
        &attempt.outcome,
        &retry,
        due_since,
        handling.expire_at,
        at,
        clock::jitter(),
    )
    .heeding(attempt.wish);
    let health = match claim.probe {
        Some(probe) => policy.breaker.after_probe(probe, &attempt, at, clock::jitter()),
        None => shared.permits.record(&claim.target, &attempt, &policy.breaker, at, clock::jitter()),
    };
    if settlement.disables(attempt.wish).is_some() {
        shared.permits.send_away(claim.target.uid);
    }
    let lately = || shared.permits.is_well(&claim.target, at);
    let sign = Sign::of(&claim, &attempt, settlement, lately, shared.config.lease, at);
    drop(turn);
    trace_context::record_outcome(&span, &attempt, settlement);
    shared.metrics.attempted(&attempt, settlement);
    let settled = Settled::attempted(claim, attempt, settlement, at);
    shared.settled.put(Settled { health, sign, ..settled }, permit);
}
