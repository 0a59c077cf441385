//! Announces and disables those whose time has come.

use std::collections::BTreeSet;

use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    prelude::Uuid,
};

use super::{UNREADABLE_FOR, disable, of_row, set, store};
use crate::{
    domain::{
        failing::{Disable, Step},
        operational::Notice,
        subscription::DisabledReason,
        timestamp::Timestamp,
    },
    store::{Error, Store, entity::subscriptions, lookup, operational_events, rows, tenants},
};

/// How many rows one transaction decides on.
const BATCH: u64 = 100;

/// What came of a look at those that fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Looked {
    /// How many were looked at.
    pub found: usize,
    /// How many tenants' subscriptions were announced to be failing.
    pub announced: usize,
    /// How many were disabled.
    pub disabled: usize,
}

impl Store {
    /// Does what is due at `now` with some of the subscriptions that fail; those whose owners say nothing go by this policy. There may be
    /// more of them if any was found.
    pub async fn look_after_failing(&self, default: Disable, now: Timestamp) -> Result<Looked, Error> {
        let is_due = Condition::all()
            .add(subscriptions::Column::FailingLookAt.lte(now.as_micros()))
            .add(subscriptions::Column::DisabledAt.is_null());
        let due: Vec<Uuid> = subscriptions::Entity::find()
            .select_only()
            .column(subscriptions::Column::Uid)
            .filter(is_due.clone())
            .order_by_asc(subscriptions::Column::FailingLookAt)
            .limit(BATCH)
            .into_tuple()
            .all(&self.connections.keeper)
            .await?;
        if due.is_empty() {
            return Ok(Looked::default());
        }
        let transaction = self.connections.begin().await?;
        let mut looked = Looked::default();
        let mut tenants = BTreeSet::new();
        let mut notices = Vec::new();
        for row in lookup::locked_all(&transaction, due, is_due).await? {
            looked.found += 1;
            let tenant = row.tenant_id.clone();
            match self.look(&transaction, row, default, now, &mut notices).await? {
                Step::Wait => {}
                Step::Announce => looked.announced += 1,
                Step::Disable => {
                    looked.disabled += 1;
                    tenants.insert(tenant);
                }
            }
        }
        operational_events::put(&transaction, notices, now).await?;
        for tenant in &tenants {
            tenants::raise_version(&transaction, tenant).await?;
        }
        transaction.commit().await?;
        Ok(looked)
    }

    async fn look(
        &self,
        transaction: &DatabaseTransaction,
        mut row: subscriptions::Model,
        default: Disable,
        now: Timestamp,
        notices: &mut Vec<Notice>,
    ) -> Result<Step, Error> {
        let policy = match rows::settings(&row, &self.keyring) {
            Ok(settings) => settings.failure.unwrap_or_default(),
            Err(cause) => {
                tracing::error!(
                    cause = &cause as &dyn std::error::Error,
                    subscription.id = row.id,
                    "a failing subscription cannot be read and is left as it is"
                );
                row.failing_look_at = Some((now + UNREADABLE_FOR).as_micros());
                store(transaction, row).await?;
                return Ok(Step::Wait);
            }
        };
        let Some(mut failing) = of_row(&row) else {
            row.failing_look_at = None;
            store(transaction, row).await?;
            return Ok(Step::Wait);
        };
        let named = rows::Named::of(&row);
        let step = failing.look(policy.disable(default), now);
        match step {
            Step::Disable => {
                tracing::warn!(
                    tenant.id = %named.tenant,
                    subscription.id = %named.id,
                    reason = failing.told(),
                    "a subscription is disabled: there is nothing but failure"
                );
                failing.look_at = policy.probe_interval.map(|interval| now + interval);
                disable(transaction, row, DisabledReason::Failing, Some(failing), now).await?;
            }
            Step::Announce | Step::Wait => {
                if step == Step::Announce {
                    tracing::warn!(
                        tenant.id = %named.tenant,
                        subscription.id = %named.id,
                        reason = failing.told(),
                        "a subscription fails and will be disabled"
                    );
                    notices.push(named.about().failing(&failing, now));
                }
                set(&mut row, Some(failing));
                store(transaction, row).await?;
            }
        }
        Ok(step)
    }
}
