//! Which subscriptions an event goes to, kept in memory for each tenant that publishes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Interest, Interests, Route, pending::Pending, programs::Programs};
use crate::domain::{event_type::EventType, id::TenantId};

/// Beyond this many tenants the tables are dropped and made anew as they are needed, to bound the memory.
const MAX_TENANTS: usize = 10_000;

/// The tables of all tenants that have published lately. Any of them may be out of date; the commit finds out.
#[derive(Default)]
pub(super) struct MatchTables(Mutex<HashMap<TenantId, Arc<MatchTable>>>);

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
    pub(super) fn at_hand(&self) -> MutexGuard<'_, HashMap<TenantId, Arc<MatchTable>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a table, for those who come later.
    pub(super) fn keep(&self, tenant: TenantId, table: &Arc<MatchTable>) {
        if table.version.is_none() {
            // No change of the catalogue would make it out of date.
            return;
        }
        let mut tables = self.at_hand();
        if tables.len() >= MAX_TENANTS {
            tables.clear();
        }
        tables.insert(tenant, Arc::clone(table));
    }

    /// Drops tables that are out of date.
    pub(super) fn forget(&self, tenants: &[TenantId]) {
        let mut tables = self.at_hand();
        for tenant in tenants {
            tables.remove(tenant);
        }
    }
}

impl MatchTable {
    pub(super) fn new(interests: Interests) -> Self {
        let Interests { version, catalogue_version, subscriptions, unreadable } = interests;
        let is_conditional = subscriptions.iter().any(|interest| interest.conditions().is_some());
        Self { version, catalogue_version, subscriptions, unreadable, is_conditional }
    }

    pub(super) fn compile(&mut self, programs: &mut Programs) {
        for interest in &mut self.subscriptions {
            let text = interest.conditions().and_then(|conditions| conditions.expression.as_deref());
            interest.program = text.and_then(|text| programs.of(text));
        }
    }

    /// Whether any of them might want this event, on conditions.
    pub(super) fn asks(&self, pending: &Pending) -> bool {
        self.is_conditional
            && pending.route == Route::Matching
            && self.conditional(&pending.event.content.event_type).next().is_some()
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
