//! One attempt, from the claim to its settlement.

use std::{pin::pin, sync::Arc};

use tracing::{Instrument, Span};

use super::{Permit, Queue, Sender, Settled, Shared, permits::Changes, turns::Turn, vitals};
use crate::{
    clock,
    domain::{attempt::Attempt, claim::Claim, delivery, failing::Sign, timestamp::Timestamp},
    telemetry::trace_context,
};

/// Makes the attempt that `claim` calls for, as soon as it is its turn, and hands over what follows.
pub(super) async fn make<Q: Queue, S: Sender>(shared: Arc<Shared<Q, S>>, permit: Permit, claim: Claim) {
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
    let attempt = send(&shared, &claim, &mut turn, &span, now).await;
    let at = shared.clock.now();
    let settlement = delivery::settle(&claim, &attempt, &shared.policy.retry, at, clock::jitter());
    let Changes { health, window } = changes(&shared, &claim, &attempt, at);
    if settlement.disables(attempt.wish).is_some() {
        shared.permits.send_away(claim.target.uid);
    }
    let lately = || shared.permits.is_well(&claim.target, at);
    let sign = Sign::of(&claim, &attempt, settlement, lately, shared.config.lease, at);
    drop(turn);
    trace_context::record_outcome(&span, &attempt, settlement);
    shared.metrics.attempted(&attempt, settlement);
    let settled = Settled::attempted(claim, attempt, settlement, at);
    shared.settled.put(Settled { health, window, sign, ..settled }, permit);
}

/// Makes the request. One that takes long makes room for others of the node.
async fn send<Q: Queue, S: Sender>(
    shared: &Shared<Q, S>,
    claim: &Claim,
    turn: &mut Turn,
    span: &Span,
    now: Timestamp,
) -> Attempt {
    let own = trace_context::of_span(span);
    // Without a tracer of our own we pass on what the producer gave us (W3C Trace Context, section 2.3).
    let trace = own.as_ref().or(claim.event.trace.as_ref());
    let attempt = {
        let mut sending = pin!(shared.sender.send(claim, trace, now).instrument(span.clone()));
        if let Ok(attempt) = tokio::time::timeout(vitals::SLOW, &mut sending).await {
            attempt
        } else {
            turn.slow_down();
            sending.await
        }
    };
    Attempt { span: own, ..attempt }
}

/// What the attempt changes about the row of its subscription.
fn changes<Q, S>(shared: &Shared<Q, S>, claim: &Claim, attempt: &Attempt, at: Timestamp) -> Changes {
    let breaker = &shared.policy.breaker;
    match claim.probe {
        Some(probe) => {
            Changes { health: breaker.after_probe(probe, attempt, at, clock::jitter()), ..Changes::default() }
        }
        None => shared.permits.record(&claim.target, attempt, breaker, at, clock::jitter()),
    }
}
