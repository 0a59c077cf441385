//! What attempts tell of subscriptions that fail, or fail no longer ([`domain::failing`](crate::domain::failing)).

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{DatabaseTransaction, DbErr};

use crate::{
    dispatch::Settled,
    domain::{
        failing::{Failed, Failing, Sign},
        timestamp::Timestamp,
    },
    store::{failing, lookup, operational_events, rows, sendable},
};

/// What the attempts of a batch tell of one subscription.
struct Told<'a> {
    target_url: &'a str,
    /// When one succeeded.
    succeeded_at: Option<Timestamp>,
    /// The last one that failed.
    failed: Option<(&'a Failed, Timestamp)>,
}

/// Notes what a batch tells, once for each subscription, whose rows are locked. Returns the tenants of those of which others have to know:
/// whether there is a suspicion is part of every target.
pub(super) async fn note(
    transaction: &DatabaseTransaction,
    batch: &[Settled],
) -> Result<BTreeSet<String>, DbErr> {
    let mut told: BTreeMap<_, Told<'_>> = BTreeMap::new();
    for settled in batch {
        let Some(sign) = &settled.sign else { continue };
        let target_url = settled.target.url.as_str();
        let told = told.entry(settled.target.uid.uuid()).or_insert(Told {
            target_url,
            succeeded_at: None,
            failed: None,
        });
        match sign {
            Sign::Succeeded => told.succeeded_at = told.succeeded_at.max(Some(settled.at)),
            Sign::Failed(failed) => told.failed = Some((failed, settled.at)),
        }
    }
    let mut tenants = BTreeSet::new();
    if told.is_empty() {
        return Ok(tenants);
    }
    let mut notices = Vec::new();
    // Nobody is told of what failed or succeeded before a subscription was closed.
    let open = sendable::condition();
    let rows = lookup::locked_all(transaction, told.keys().copied().collect(), open).await?;
    for mut row in rows {
        let told = &told[&row.uid];
        if row.target_url != told.target_url {
            // What another target did says nothing of this one.
            continue;
        }
        let failing = failing::of_row(&row);
        let noted = match (told.succeeded_at, told.failed, failing.clone()) {
            (Some(at), _, Some(failing)) => {
                if failing.announced_at.is_some() {
                    notices.push(rows::Named::of(&row).about().recovered(&failing, false, at));
                }
                None
            }
            (None, Some((failed, at)), None) => Some(Failing::suspected(failed.clone(), at)),
            (None, Some((failed, at)), Some(mut failing)) => {
                failing.failed_again(failed.clone(), at);
                Some(failing)
            }
            (Some(_), _, None) | (None, None, _) => continue,
        };
        if noted.is_some() != failing.is_some() {
            tenants.insert(row.tenant_id.clone());
        }
        failing::set(&mut row, noted);
        failing::store(transaction, row).await?;
    }
    operational_events::put(transaction, notices, super::latest(batch)).await?;
    Ok(tenants)
}
