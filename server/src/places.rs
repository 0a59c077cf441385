//! Places for what goes on beside each other: only so many on a node, and only so many of them of one tenant, so that no tenant keeps all
//! others waiting.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::domain::id::TenantId;

/// The places of one kind of work. Cheap to clone; all clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    most_of_tenant: usize,
    /// How many are under way; nobody is here with none.
    taken: Mutex<HashMap<TenantId, usize>>,
}

/// There is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// For nobody.
    Everywhere,
    /// For this tenant, which has as many as it may.
    OfTenant,
}

/// One that is under way; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    tenant: TenantId,
}

impl Places {
    /// As many as `most`, and no more of one tenant than `most_of_tenant`.
    pub(crate) fn new(most: usize, most_of_tenant: usize) -> Self {
        Self(Arc::new(Inner { most, most_of_tenant, taken: Mutex::default() }))
    }

    /// How many more there may be, and the tenants of whom there may not.
    pub(crate) fn standing(&self) -> (usize, Vec<TenantId>) {
        let Inner { most, most_of_tenant, taken } = &*self.0;
        let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let crowded = taken.iter().filter(|(_, count)| *count >= most_of_tenant);
        (most.saturating_sub(taken.values().sum()), crowded.map(|(tenant, _)| tenant.clone()).collect())
    }

    /// One for this tenant, if there may be one more.
    pub(crate) fn take(&self, tenant: &TenantId) -> Result<Place, Full> {
        let Inner { most, most_of_tenant, taken } = &*self.0;
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_tenant = taken.get(tenant).copied().unwrap_or_default();
        if of_tenant >= *most_of_tenant {
            return Err(Full::OfTenant);
        }
        if taken.values().sum::<usize>() >= *most {
            return Err(Full::Everywhere);
        }
        taken.insert(tenant.clone(), of_tenant + 1);
        Ok(Place { places: self.clone(), tenant: tenant.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_leaves_places_for_others() {
        let tenant = |name| TenantId::parse(name).unwrap();
        let places = Places::new(7, 2);
        let mut held: Vec<_> = (0..7).map_while(|_| places.take(&tenant("a")).ok()).collect();
        assert_eq!(held.len(), 2);
        assert_eq!(places.take(&tenant("a")).err(), Some(Full::OfTenant));
        assert_eq!(places.standing(), (5, vec![tenant("a")]));
        held.extend(
            ["b", "c", "d"].iter().flat_map(|name| (0..7).map_while(|_| places.take(&tenant(name)).ok())),
        );
        assert_eq!((held.len(), places.standing().0), (7, 0));
        assert_eq!(places.take(&tenant("e")).err(), Some(Full::Everywhere));
        held.clear();
        assert_eq!(places.standing(), (7, vec![]));
    }
}
