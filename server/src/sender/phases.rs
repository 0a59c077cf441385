//! How long the phases of an exchange took.
//!
//! The HTTP client does not tell. But the resolver, the connector and the TLS session store that we give it are all called while the
//! request's own future is polled, so a task-local leads them to the record of that request.
//!
//! A phase that was begun lasts until the next one begins, the connection stands or failed, or the attempt ends.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tower::{BoxError, Service};

use crate::domain::attempt::Timings;

tokio::task_local! {
    static CURRENT: Arc<Phases>;
}

/// Something that happened on the way to a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mark {
    /// The host name is being looked up.
    Resolving,
    /// It was.
    Resolved,
    /// A proxy is asked for the connection.
    Proxying,
    /// TCP stands, and the TLS handshake begins.
    Handshaking,
}

/// Notes `mark` for the request whose future is being polled; outside of one it does nothing.
pub(super) fn note(mark: Mark) {
    let _outside = CURRENT.try_with(|phases| phases.note(mark));
}

/// How far an exchange has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Looking up the host name.
    Dns,
    /// Opening the TCP connection.
    Connect,
    /// Opening it through a proxy.
    Proxy,
    /// In the TLS handshake.
    Tls,
    /// On a connection that stands.
    Exchange,
}

/// The record of one request.
#[derive(Debug)]
pub(super) struct Phases {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    connection: Option<Connection>,
    head: Option<Instant>,
}

/// A connection that was opened for this request.
#[derive(Debug, Clone, Copy)]
struct Connection {
    began: Instant,
    resolving: Option<Instant>,
    resolved: Option<Instant>,
    proxying: Option<Instant>,
    handshaking: Option<Instant>,
    stands: Option<Instant>,
    failed: Option<Instant>,
}

impl Phases {
    /// Begins a record, and with it the attempt.
    pub(super) fn begin() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), state: Mutex::default() })
    }

    /// How long ago the attempt began.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Runs a request's future so that what it does is noted here.
    pub(super) fn observe<F: Future>(self: &Arc<Self>, request: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(Arc::clone(self), request)
    }

    /// The head of the response is there.
    pub(super) fn head_arrived(&self) {
        self.state().head = Some(Instant::now());
    }

    /// How far the exchange has come.
    pub(super) fn stage(&self) -> Stage {
        match self.state().connection {
            None => Stage::Exchange,
            Some(connection) => connection.stage(),
        }
    }

    /// The lengths of the phases, for an attempt that ends now.
    pub(super) fn timings(&self) -> Timings {
        let now = Instant::now();
        let state = *self.state();
        let connection = state.connection.as_ref();
        Timings {
            total: now - self.began,
            dns: connection.and_then(|connection| connection.dns(now)),
            connect: connection.and_then(|connection| connection.tcp(now)),
            tls: connection.and_then(|connection| connection.tls(now)),
            first_byte: state.head.map(|head| head - self.began),
        }
    }

    fn note(&self, mark: Mark) {
        if let Some(connection) = &mut self.state().connection {
            let moment = match mark {
                Mark::Resolving => &mut connection.resolving,
                Mark::Resolved => &mut connection.resolved,
                Mark::Proxying => &mut connection.proxying,
                Mark::Handshaking => &mut connection.handshaking,
            };
            moment.get_or_insert_with(Instant::now);
        }
    }

    fn connection_began(&self) {
        self.state().connection = Some(Connection {
            began: Instant::now(),
            resolving: None,
            resolved: None,
            proxying: None,
            handshaking: None,
            stands: None,
            failed: None,
        });
    }

    fn connection_ended(&self, stands: bool) {
        if let Some(connection) = &mut self.state().connection {
            let end = if stands { &mut connection.stands } else { &mut connection.failed };
            *end = Some(Instant::now());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn stage(&self) -> Stage {
        if self.stands.is_some() {
            Stage::Exchange
        } else if self.handshaking.is_some() {
            Stage::Tls
        } else if self.proxying.is_some() {
            Stage::Proxy
        } else if self.resolving.is_some() && self.resolved.is_none() {
            Stage::Dns
        } else {
            Stage::Connect
        }
    }

    fn end(&self, now: Instant) -> Instant {
        self.stands.or(self.failed).unwrap_or(now)
    }

    fn dns(&self, now: Instant) -> Option<Duration> {
        Some(self.resolved.unwrap_or(self.end(now)) - self.resolving?)
    }

    fn tcp(&self, now: Instant) -> Option<Duration> {
        let began = match self.resolving {
            Some(_) => self.resolved?,
            None => self.began,
        };
        Some(self.handshaking.unwrap_or(self.end(now)) - began)
    }

    fn tls(&self, now: Instant) -> Option<Duration> {
        Some(self.end(now) - self.handshaking?)
    }
}

/// Notes when a connection begins to be opened, and when it stands or has failed; and sets that a limit.
#[derive(Debug, Clone)]
pub(super) struct Connector<S> {
    inner: S,
    timeout: Duration,
}

/// The connection did not stand in time.
#[derive(Debug, thiserror::Error)]
#[error("the connection did not stand in time")]
pub(super) struct ConnectTimeout;

impl<S> Connector<S> {
    pub(super) fn new(inner: S, timeout: Duration) -> Self {
        Self { inner, timeout }
    }
}

impl<S, R> Service<R> for Connector<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let phases = CURRENT.try_with(Arc::clone).ok();
        if let Some(phases) = &phases {
            phases.connection_began();
        }
        let connecting = tokio::time::timeout(self.timeout, self.inner.call(request));
        Box::pin(async move {
            let connected = connecting.await;
            if let Some(phases) = phases {
                phases.connection_ended(matches!(connected, Ok(Ok(_))));
            }
            match connected {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => Err(ConnectTimeout.into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_lasts_until_the_next_one_or_the_end() {
        let at = |ms| Instant::now() + Duration::from_millis(ms);
        let began = at(0);
        let after = |ms| Some(began + Duration::from_millis(ms));
        let ms = |ms| Some(Duration::from_millis(ms));
        let end = began + Duration::from_millis(100);
        let mut connection = Connection {
            began,
            resolving: None,
            resolved: None,
            proxying: None,
            handshaking: None,
            stands: None,
            failed: None,
        };
        let lengths = |c: &Connection| (c.stage(), c.dns(end), c.tcp(end), c.tls(end));
        assert_eq!(lengths(&connection), (Stage::Connect, None, ms(100), None));
        connection.resolving = after(1);
        assert_eq!(lengths(&connection), (Stage::Dns, ms(99), None, None));
        connection.failed = after(3);
        assert_eq!(lengths(&connection), (Stage::Dns, ms(2), None, None));
        connection.failed = None;
        connection.resolved = after(11);
        assert_eq!(lengths(&connection), (Stage::Connect, ms(10), ms(89), None));
        connection.handshaking = after(31);
        assert_eq!(lengths(&connection), (Stage::Tls, ms(10), ms(20), ms(69)));
        connection.stands = after(61);
        assert_eq!(lengths(&connection), (Stage::Exchange, ms(10), ms(20), ms(30)));
    }
}
