//! Connections between requests.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use foldhash::HashMap;
use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;

use super::{Origin, Protocol, Shared, Taken, alone::Alone};

/// Connections that serve nothing at the moment, and those that serve many.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    by_origin: HashMap<Origin, Connections>,
    /// Whether a task looks after what nobody uses.
    swept: bool,
}

#[derive(Debug, Default)]
struct Connections {
    /// The one that was used last is the last.
    idle: Vec<(Alone, Instant)>,
    shared: Option<(Shared, Instant)>,
}

/// Takes a connection back whose answer was read to its end.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) kept: Arc<Kept>,
    pub(super) origin: Origin,
    pub(super) protocol: Arc<Protocol>,
}

impl Protocol {
    /// Whether a connection may take requests that was opened at this time.
    fn is_young(&self, opened_at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(opened_at) < self.max_age
    }
}

impl Keeper {
    pub(super) fn keep(self, alone: Alone) {
        let Self { kept, origin, protocol } = self;
        kept.put(origin, alone, &protocol);
    }
}

impl Kept {
    /// A connection that still stands.
    pub(super) fn take(&self, origin: &Origin, protocol: &Protocol) -> Option<Taken> {
        let now = Instant::now();
        loop {
            // Looking whether it stands, and closing it if it does not, is done without the lock.
            let (mut alone, since) = {
                let mut state = self.state();
                let connections = state.by_origin.get_mut(origin)?;
                if let Some((shared, used_at)) = &mut connections.shared {
                    if shared.stands() && protocol.is_young(shared.opened_at, now) {
                        *used_at = now;
                        return Some(Taken::Shared(shared.clone()));
                    }
                    connections.shared = None;
                }
                connections.idle.pop()?
            };
            if now.saturating_duration_since(since) < protocol.idle_timeout && alone.stands() {
                return Some(Taken::Alone(alone));
            }
        }
    }

    fn put(self: Arc<Self>, origin: Origin, alone: Alone, protocol: &Protocol) {
        let now = Instant::now();
        if !protocol.is_young(alone.opened_at, now) {
            return;
        }
        let mut state = self.state();
        let idle = &mut state.by_origin.entry(origin).or_default().idle;
        if idle.len() >= protocol.max_idle {
            return;
        }
        idle.push((alone, now));
        drop(state);
        self.have_swept(protocol.idle_timeout);
    }

    /// Sees to it that somebody closes what nobody uses.
    fn have_swept(self: Arc<Self>, idle_timeout: Duration) {
        if !std::mem::replace(&mut self.state().swept, true) {
            TokioExecutor::new().execute(sweep(Arc::downgrade(&self), idle_timeout));
        }
    }

    /// Has others use a connection as well; returns the one that is to be used, which somebody else may have opened meanwhile.
    pub(super) fn share(self: Arc<Self>, origin: &Origin, shared: Shared, protocol: &Protocol) -> Shared {
        if !shared.is_kept() {
            return shared;
        }
        let mut state = self.state();
        let place = &mut state.by_origin.entry(origin.clone()).or_default().shared;
        if let Some((other, _)) = place.as_ref().filter(|(other, _)| other.stands()) {
            return other.clone();
        }
        *place = Some((shared.clone(), Instant::now()));
        drop(state);
        self.have_swept(protocol.idle_timeout);
        shared
    }

    /// Has no further requests sent on a connection.
    pub(super) fn unshare(&self, origin: &Origin, shared: &Shared) {
        if let Some(connections) = self.state().by_origin.get_mut(origin) {
            connections.shared.take_if(|(kept, _)| kept.is(shared));
        }
    }

    /// Closes what nobody has used for so long; returns whether anything is left.
    pub(super) fn close_unused(&self, idle_timeout: Duration) -> bool {
        let now = Instant::now();
        let is_used = |since: Instant| now.saturating_duration_since(since) < idle_timeout;
        let mut closed = Vec::new();
        let mut state = self.state();
        state.by_origin.retain(|_, connections| {
            let unused = connections.idle.partition_point(|(_, since)| !is_used(*since));
            closed.extend(connections.idle.drain(..unused));
            connections.shared.take_if(|(shared, used_at)| !shared.stands() || !is_used(*used_at));
            !connections.idle.is_empty() || connections.shared.is_some()
        });
        let left = !state.by_origin.is_empty();
        state.swept = left;
        drop(state);
        // Without the lock.
        drop(closed);
        left
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what nobody uses, until nothing is left or the pool is gone.
async fn sweep(kept: Weak<Kept>, idle_timeout: Duration) {
    loop {
        tokio::time::sleep(idle_timeout / 2).await;
        let Some(kept) = kept.upgrade() else { return };
        if !kept.close_unused(idle_timeout) {
            return;
        }
    }
}
