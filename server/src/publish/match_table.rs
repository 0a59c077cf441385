//! Which subscriptions an event goes to, kept in memory for each tenant that publishes.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Interest, Interests, Journal, JournalError, Route, programs::Programs};
use crate::domain::{event_type::EventType, id::TenantId};

/// Beyond this many tenants the tables are dropped and made anew as they are needed, to bound the memory.
const MAX_TENANTS: usize = 10_000;

/// The tables of all tenants that have published lately.
#[derive(Default)]
pub(super) struct MatchTables {
    by_tenant: HashMap<TenantId, Arc<MatchTable>>,
    /// Those that were read since the events in hand had come in.
    fresh: HashSet<TenantId>,
    programs: Arc<Mutex<Programs>>,
}

/// The subscriptions of one tenant at one version.
pub(super) struct MatchTable {
    pub(super) version: Option<i64>,
    pub(super) catalogue_version: i64,
    subscriptions: Vec<Interest>,
    unreadable: usize,
    /// Whether any of them looks at more than the type.
    pub(super) is_conditional: bool,
}

impl MatchTables {
    /// Other events have come in: what was read before may be out of date for them.
    pub(super) fn age(&mut self) {
        self.fresh.clear();
    }

    /// Whether a tenant's table was read after the events in hand had come in. Then it holds every subscription that they must find.
    pub(super) fn is_fresh(&self, tenant: &TenantId) -> bool {
        self.fresh.contains(tenant)
    }

    /// Returns a tenant's table, reading it if it is not at hand. If it is not fresh, it may be out of date; the commit finds out.
    pub(super) async fn of<J: Journal>(
        &mut self,
        tenant: &TenantId,
        journal: &J,
    ) -> Result<Arc<MatchTable>, JournalError> {
        if let Some(table) = self.by_tenant.get(tenant) {
            return Ok(Arc::clone(table));
        }
        let mut table = MatchTable::new(journal.interests(tenant).await?);
        if table.is_conditional {
            // Compiling takes its time, of which the runtime's threads have none.
            let programs = Arc::clone(&self.programs);
            let compiled = tokio::task::spawn_blocking(move || {
                table.compile(&mut programs.lock().unwrap_or_else(PoisonError::into_inner));
                table
            });
            table = compiled.await.map_err(|cause| JournalError::Broken(cause.into()))?;
        }
        let table = Arc::new(table);
        if table.version.is_none() {
            // No change of the catalogue would make it out of date.
            return Ok(table);
        }
        if self.by_tenant.len() >= MAX_TENANTS {
            self.by_tenant.clear();
        }
        self.by_tenant.insert(tenant.clone(), Arc::clone(&table));
        self.fresh.insert(tenant.clone());
        Ok(table)
    }

    /// Drops a table that is out of date.
    pub(super) fn forget(&mut self, tenant: &TenantId) {
        self.by_tenant.remove(tenant);
    }
}

impl MatchTable {
    fn new(interests: Interests) -> Self {
        let Interests { version, catalogue_version, subscriptions, unreadable } = interests;
        let is_conditional = subscriptions.iter().any(|interest| interest.conditions().is_some());
        Self { version, catalogue_version, subscriptions, unreadable, is_conditional }
    }

    fn compile(&mut self, programs: &mut Programs) {
        for interest in &mut self.subscriptions {
            let text = interest.conditions().and_then(|conditions| conditions.expression.as_deref());
            interest.program = text.and_then(|text| programs.of(text));
        }
    }

    /// Those that want events of this type on conditions.
    pub(super) fn conditional<'a>(&'a self, event_type: &'a EventType) -> impl Iterator<Item = &'a Interest> {
        self.select(event_type, Route::Matching).filter(|interest| interest.conditions().is_some())
    }

    /// How many subscriptions an event is not matched with that it might be meant for.
    pub(super) fn left_out(&self, route: Route) -> usize {
        match route {
            Route::Matching => self.unreadable,
            Route::Only(_) => 0,
        }
    }

    /// The subscriptions that an event of this type goes to.
    pub(super) fn select<'a>(
        &'a self,
        event_type: &'a EventType,
        route: Route,
    ) -> impl Iterator<Item = &'a Interest> {
        self.subscriptions.iter().filter(move |interest| match route {
            Route::Matching => interest.filter.matches(event_type),
            Route::Only(uid) => interest.target.uid == uid,
        })
    }
}
