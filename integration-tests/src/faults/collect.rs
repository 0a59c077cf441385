//! Asks the API what became of everything.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use postrider_sdk::{
    Client, RetryPolicy,
    model::{AttemptOutcome, DeliveryState, Health, Subscription},
};

use super::{
    Error,
    evidence::{Attempts, Delivery},
    load::{Ledger, WIDE},
    nodes::Nodes,
};

/// The most deliveries whose attempts are looked up one by one.
const LOOKED_UP: usize = 40_000;
/// How many calls at once.
const CALLS: usize = 16;

fn patient(nodes: &Nodes) -> Result<Client, Error> {
    let client = nodes.clients()?.swap_remove(0);
    Ok(client.with_timeout(Duration::from_secs(30)).with_retry(RetryPolicy::default()))
}

fn failed(error: &postrider_sdk::Error) -> Error {
    Error(format!("the API does not tell what became of events: {error}"))
}

/// The subscriptions that wait for their next probe: what is due for them is left alone until then.
async fn blocked(client: &Client, tenant: &str) -> Result<HashSet<String>, Error> {
    let listed = client.tenant(tenant).subscriptions().list().page_size(1_000).items().collect().await;
    let now = time_now();
    let waits = |subscription: &Subscription| matches!(subscription.health, Health::Blocked { next_probe_at: Some(at), .. } if at > now);
    let subscriptions = listed.map_err(|error| failed(&error))?.into_iter();
    Ok(subscriptions.filter(waits).map(|subscription| subscription.name).collect())
}

/// How many deliveries a tenant has.
async fn made(client: &Client, tenant: &str) -> Result<usize, Error> {
    let mut listed = client.tenant(tenant).deliveries().list().page_size(1_000).items();
    let mut made = 0;
    while listed.next().await.map_err(|error| failed(&error))?.is_some() {
        made += 1;
    }
    Ok(made)
}

/// How many it must have in the end.
fn wanted(ledger: &Ledger, tenant: &str) -> usize {
    let is_theirs = |subscription: &&String| subscription.split('/').next() == Some(tenant);
    ledger.events.iter().map(|event| event.wanted_by.iter().filter(is_theirs).count()).sum()
}

/// Waits until nothing is pending but what is kept from being sent by a breaker, or as long as it may take. Returns how long it took, if
/// it did.
pub(super) async fn settled(
    nodes: &Nodes,
    ledger: &Ledger,
    patience: Duration,
) -> Result<Option<Duration>, Error> {
    let (client, wanted) = (patient(nodes)?, wanted(ledger, WIDE));
    let begun = Instant::now();
    while begun.elapsed() < patience {
        // What is still to be fanned out has no delivery yet, and what has become one in the meantime is seen below.
        let mut pending = made(&client, WIDE).await? < wanted;
        for tenant in &ledger.tenants {
            let deliveries = client.tenant(tenant).deliveries();
            let page = deliveries.list().state(DeliveryState::Pending).page_size(1_000).page().await;
            let page = page.map_err(|error| failed(&error))?;
            let blocked =
                if page.items.is_empty() { HashSet::new() } else { blocked(&client, tenant).await? };
            pending |= page.items.iter().any(|delivery| !blocked.contains(&delivery.subscription));
        }
        if !pending {
            return Ok(Some(begun.elapsed()));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Ok(None)
}

/// All deliveries, with what is recorded of their attempts.
pub(super) async fn records(nodes: &Nodes, ledger: &Ledger) -> Result<Vec<Delivery>, Error> {
    let client = patient(nodes)?;
    let mut records = Vec::new();
    for tenant in &ledger.tenants {
        let listed = client.tenant(tenant).deliveries().list().page_size(1_000).items().collect().await;
        let blocked = blocked(&client, tenant).await?;
        let now = time_now();
        for delivery in listed.map_err(|error| failed(&error))? {
            let subscription = format!("{tenant}/{}", last_segment(&delivery.subscription));
            records.push(Delivery {
                event: last_segment(&delivery.event).to_owned(),
                subscription,
                state: delivery.state,
                end_reason: delivery.end_reason,
                begun: delivery.attempt_count,
                overdue: delivery.due_at.is_some_and(|due_at| due_at < now)
                    && !blocked.contains(&delivery.subscription),
                attempts: None,
                name: delivery.name,
            });
        }
    }
    // Those that were repeated tell most.
    let mut order: Vec<_> = (0..records.len()).collect();
    order.sort_by_key(|place| std::cmp::Reverse(records[*place].begun));
    let chosen: HashSet<_> = order.into_iter().take(LOOKED_UP).collect();
    let lookups =
        records.iter_mut().enumerate().filter(|(place, _)| chosen.contains(place)).map(|(_, record)| {
            let client = client.tenant(record.name.split('/').nth(1).unwrap_or_default());
            async move {
                let listed = client.deliveries().attempts(&record.name).items().collect().await;
                let mut attempts = Attempts::default();
                for attempt in listed.map_err(|error| failed(&error))? {
                    match attempt.outcome {
                        AttemptOutcome::Acknowledged { .. } => attempts.acknowledged += 1,
                        AttemptOutcome::Rejected { .. } => attempts.rejected += 1,
                        _ => attempts.failed += 1,
                    }
                }
                record.attempts = Some(attempts);
                Ok::<_, Error>(())
            }
        });
    let mut lookups = futures_util::stream::iter(lookups).buffer_unordered(CALLS);
    while let Some(done) = lookups.next().await {
        done?;
    }
    drop(lookups);
    Ok(records)
}

/// Leaves those uncompared that were sent while they were looked up: a breaker's probe may go out at any time.
pub(super) async fn leave_out_what_moved(nodes: &Nodes, records: &mut [Delivery]) -> Result<(), Error> {
    let client = patient(nodes)?;
    for record in records.iter_mut().filter(|record| record.state == DeliveryState::Pending) {
        let tenant = client.tenant(record.name.split('/').nth(1).unwrap_or_default());
        let now = tenant.deliveries().get(&record.name).await.map_err(|error| failed(&error))?;
        if now.attempt_count != record.begun {
            record.attempts = None;
        }
    }
    Ok(())
}

/// The counters that tell of trouble, summed over all nodes since their last start.
pub(super) async fn metrics(nodes: &Nodes) -> Vec<(String, f64)> {
    let wanted = ["postrider_settlements_lost_total", "postrider_attempts_unrecorded_total"];
    let texts = nodes.metrics().await;
    let sum = |name: &str| {
        texts
            .iter()
            .flat_map(|text| text.lines())
            .filter_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok())
            .sum()
    };
    wanted.map(|name| (name.to_owned(), sum(name))).to_vec()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the harness has no clock but the machine's, which is also the database's"
)]
fn time_now() -> time::OffsetDateTime {
    time::OffsetDateTime::now_utc()
}

pub(super) fn last_segment(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}
