//! What is wanted: subscriptions and their secrets.

use std::num::NonZeroU32;

use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::OnConflict,
};

use super::{
    Error, Store, entity::subscriptions, failing, handshakes, lookup, page, rates, rows, secrets, tenants,
};
use crate::domain::{
    id::{SubscriptionId, SubscriptionUid, TenantId},
    invalid::Invalid,
    page::{Page, PageRequest},
    secret::NewKeys,
    subscription::{Subscription, SubscriptionSpec},
    timestamp::Timestamp,
};

/// What became of a change.
#[derive(Debug)]
pub enum Change<T> {
    /// It was made, or there was nothing to change.
    Done(T),
    /// There is no such subscription.
    NotFound,
    /// It was changed since the caller read it.
    EtagMismatch,
    /// What it would become cannot be.
    Invalid(Invalid),
}

impl Store {
    /// Creates a subscription with its first keys; `None` if the id is taken.
    pub async fn create_subscription(
        &self,
        tenant: &TenantId,
        id: Option<SubscriptionId>,
        spec: &SubscriptionSpec,
        keys: impl Into<NewKeys>,
        now: Timestamp,
    ) -> Result<Option<Subscription>, Error> {
        let keys = keys.into();
        let uid = SubscriptionUid::new(now);
        let (settings, settings_key_id) = rows::sealed_settings(&spec.settings, uid, &self.keyring)?;
        let (rate_per_second, rate_burst) = rates::columns(spec.pace.rate);
        let mut row = subscriptions::Model {
            uid: uid.uuid(),
            tenant_id: tenant.as_str().to_owned(),
            id: id.unwrap_or_else(|| uid.into()).as_str().to_owned(),
            description: spec.description.as_str().to_owned(),
            target_url: spec.target_url.as_str().to_owned(),
            event_types: patterns(spec),
            revision: 1,
            created_at: now.as_micros(),
            updated_at: now.as_micros(),
            paused_at: None,
            disabled_at: None,
            disabled_reason: None,
            deleted_at: None,
            max_in_flight: spec.pace.max_in_flight.map(most),
            rate_per_second,
            rate_burst,
            rate_used_until: None,
            throttled_until: None,
            failing_since: None,
            blocked_until: None,
            blocked_reason: None,
            block_pauses: 0,
            recovered_at: None,
            concurrency_window: None,
            concurrency_window_until: None,
            failing_suspected_at: None,
            unacknowledged_since: None,
            last_failed_at: None,
            last_failure: None,
            failing_announced_at: None,
            disable_at: None,
            failing_look_at: None,
            settings,
            settings_key_id,
            handshake_due_at: None,
            handshake_fence: 0,
            handshake_attempts: 0,
            handshake_step: 0,
            handshake_failure: None,
            handshake_done_at: None,
            allowed_rate: None,
            own_rate_per_second: None,
            own_rate_burst: None,
        };
        if spec.settings.handshake.is_some() {
            handshakes::begin(&mut row, now);
        }
        let transaction = self.connections.begin().await?;
        tenants::ensure(&transaction, tenant, now).await?;
        let inserted = subscriptions::Entity::insert(row.clone().into_active_model())
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&transaction)
            .await?;
        if inserted != 1 {
            transaction.rollback().await?;
            return Ok(None);
        }
        let new = secrets::New { keys: &keys, signing: spec.settings.signing.as_ref(), starts_at: None, now };
        secrets::insert(&transaction, &self.keyring, uid, new).await?;
        tenants::raise_version(&transaction, tenant.as_str()).await?;
        transaction.commit().await?;
        rows::subscription(row, &self.keyring).map(Some)
    }

    /// Reads a subscription.
    pub async fn subscription(
        &self,
        tenant: &TenantId,
        id: &SubscriptionId,
    ) -> Result<Option<Subscription>, Error> {
        let row = lookup::living(tenant, id).one(&self.connections.reader).await?;
        row.map(|row| rows::subscription(row, &self.keyring)).transpose()
    }

    /// Lists subscriptions, newest first; those of all tenants if none is given.
    pub async fn subscriptions(
        &self,
        tenant: Option<&TenantId>,
        request: PageRequest,
    ) -> Result<Page<Subscription>, Error> {
        let mut query = subscriptions::Entity::find().filter(subscriptions::Column::DeletedAt.is_null());
        if let Some(tenant) = tenant {
            query = query.filter(subscriptions::Column::TenantId.eq(tenant.as_str()));
        }
        if let Some(after) = request.after {
            query = query.filter(subscriptions::Column::Uid.lt(after.0));
        }
        let rows = query
            .order_by_desc(subscriptions::Column::Uid)
            .limit(page::limit(request))
            .all(&self.connections.reader)
            .await?;
        let Page { items, next } = page::cut(rows, request, |row| row.uid, Ok::<_, Error>)?;
        let items = items.into_iter().filter_map(|row| self.unless_damaged(row).transpose());
        Ok(Page { items: items.collect::<Result<_, _>>()?, next })
    }

    /// Reads a row of many, which one that is damaged must not hide.
    fn unless_damaged(&self, row: subscriptions::Model) -> Result<Option<Subscription>, Error> {
        let uid = SubscriptionUid::from_uuid(row.uid);
        match rows::subscription(row, &self.keyring) {
            Err(cause @ Error::Corrupt { .. }) => {
                tracing::error!(
                    cause = &cause as &dyn std::error::Error,
                    subscription.uid = %uid,
                    "a subscription cannot be read and is not listed"
                );
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    /// Replaces what the owner says of a subscription by what `edit` makes of it.
    pub async fn update_subscription(
        &self,
        tenant: &TenantId,
        id: &SubscriptionId,
        etag: Option<&str>,
        edit: impl FnOnce(&mut SubscriptionSpec) -> Result<(), Invalid>,
        now: Timestamp,
    ) -> Result<Change<Subscription>, Error> {
        self.change(tenant, id, etag, now, |row| {
            let mut spec = rows::subscription(row.clone(), &self.keyring)?.spec;
            let settings = spec.settings.clone();
            if let Err(invalid) = edit(&mut spec) {
                return Ok(Err(invalid));
            }
            if spec.settings != settings {
                let owner = SubscriptionUid::from_uuid(row.uid);
                (row.settings, row.settings_key_id) =
                    rows::sealed_settings(&spec.settings, owner, &self.keyring)?;
            }
            spec.description.as_str().clone_into(&mut row.description);
            let is_elsewhere = row.target_url != spec.target_url.as_str();
            if is_elsewhere {
                spec.target_url.as_str().clone_into(&mut row.target_url);
                unblock(row, now);
                failing::forget(row);
            }
            if spec.settings.failure != settings.failure {
                let [before, after] =
                    [settings.failure, spec.settings.failure].map(Option::unwrap_or_default);
                failing::policy_changed(row, &before, &after, now);
            }
            row.event_types = patterns(&spec);
            row.max_in_flight = spec.pace.max_in_flight.map(most);
            if spec.pace.rate != rates::own(row) {
                rates::set_own(row, spec.pace.rate);
            }
            match (&settings.handshake, &spec.settings.handshake) {
                (Some(_), None) => handshakes::clear(row),
                (before, after @ Some(_)) if before != after || is_elsewhere => handshakes::begin(row, now),
                // With other settings the receiver may agree. What is asked with these may not be answered for those.
                (_, Some(_)) if row.handshake_due_at.is_some() && !spec.settings.asks_like(&settings) => {
                    handshakes::begin(row, now);
                }
                (_, _) => {}
            }
            Ok(Ok(()))
        })
        .await
    }

    /// Deletes a subscription. What waits for it is cancelled by [`sweep`](Self::sweep).
    pub async fn delete_subscription(
        &self,
        tenant: &TenantId,
        id: &SubscriptionId,
        etag: Option<&str>,
        now: Timestamp,
    ) -> Result<Change<Subscription>, Error> {
        self.change(tenant, id, etag, now, |row| {
            row.deleted_at = Some(now.as_micros());
            // The row stays, and claims look for rows that have these.
            unblock(row, now);
            failing::set(row, None);
            (row.rate_per_second, row.rate_burst, row.handshake_due_at) = (None, None, None);
            Ok(Ok(()))
        })
        .await
    }

    /// Pauses a subscription; one that is paused stays as it is. Nothing is sent to it, so it fails no longer.
    pub async fn pause_subscription(
        &self,
        tenant: &TenantId,
        id: &SubscriptionId,
        now: Timestamp,
    ) -> Result<Change<Subscription>, Error> {
        self.change(tenant, id, None, now, |row| {
            row.paused_at.get_or_insert(now.as_micros());
            failing::forget(row);
            Ok(Ok(()))
        })
        .await
    }

    /// Ends a pause, if there is one, and a block, and forgets failures.
    pub async fn resume_subscription(
        &self,
        tenant: &TenantId,
        id: &SubscriptionId,
        now: Timestamp,
    ) -> Result<Change<Subscription>, Error> {
        self.change(tenant, id, None, now, |row| {
            row.paused_at = None;
            unblock(row, now);
            failing::forget(row);
            Ok(Ok(()))
        })
        .await
    }

    /// Takes back a disabling, if there is one, and a block, and forgets failures. A handshake that had not been done is begun anew.
    pub async fn enable_subscription(
        &self,
        tenant: &TenantId,
        id: &SubscriptionId,
        now: Timestamp,
    ) -> Result<Change<Subscription>, Error> {
        self.change(tenant, id, None, now, |row| {
            if row.disabled_at.is_some() {
                handshakes::begin_again(row, now);
            }
            (row.disabled_at, row.disabled_reason) = (None, None);
            unblock(row, now);
            failing::set(row, None);
            Ok(Ok(()))
        })
        .await
    }

    /// Changes a subscription's row in one transaction, together with its revision and its tenant's version.
    async fn change(
        &self,
        tenant: &TenantId,
        id: &SubscriptionId,
        etag: Option<&str>,
        now: Timestamp,
        edit: impl FnOnce(&mut subscriptions::Model) -> Result<Result<(), Invalid>, Error>,
    ) -> Result<Change<Subscription>, Error> {
        let transaction = self.connections.begin().await?;
        let Some(before) = lookup::locked(&transaction, tenant, id).await? else {
            return Ok(Change::NotFound);
        };
        let current = rows::subscription(before.clone(), &self.keyring)?;
        if etag.is_some_and(|etag| etag != current.etag()) {
            return Ok(Change::EtagMismatch);
        }
        let mut after = before.clone();
        if let Err(invalid) = edit(&mut after)? {
            return Ok(Change::Invalid(invalid));
        }
        if after == before {
            return Ok(Change::Done(current));
        }
        if after.settings != before.settings
            && let Err(invalid) = secrets::fit(&transaction, &self.keyring, &after, now).await?
        {
            return Ok(Change::Invalid(invalid));
        }
        let is_health_alone = {
            let mut mended = before;
            if health_of(&mended) != health_of(&after) {
                unblock(&mut mended, now);
            }
            failing::set(&mut mended, failing::of_row(&after));
            mended == after
        };
        if !is_health_alone {
            after.revision += 1;
            after.updated_at = now.as_micros();
        }
        // Fails if no row was updated. The row is locked, so it is there.
        after.clone().into_active_model().reset_all().update(&transaction).await?;
        tenants::raise_version(&transaction, tenant.as_str()).await?;
        transaction.commit().await?;
        Ok(Change::Done(rows::subscription(after, &self.keyring)?))
    }
}

/// A person says that the receiver is mended, or is another one.
pub(super) fn unblock(row: &mut subscriptions::Model, now: Timestamp) {
    if row.blocked_until.is_some() {
        (row.blocked_until, row.blocked_reason, row.failing_since) = (None, None, None);
        (row.block_pauses, row.recovered_at) = (0, Some(now.as_micros()));
    }
    (row.concurrency_window, row.concurrency_window_until) = (None, None);
}

/// What [`unblock`] changes.
fn health_of(row: &subscriptions::Model) -> (Option<i64>, Option<i64>) {
    (row.blocked_until, row.concurrency_window_until)
}

fn most(max_in_flight: NonZeroU32) -> i32 {
    i32::try_from(max_in_flight.get()).unwrap_or(i32::MAX)
}

fn patterns(spec: &SubscriptionSpec) -> String {
    // Strings always serialise.
    serde_json::to_string(&spec.filter.patterns().collect::<Vec<_>>()).unwrap_or_default()
}
