//! What a check notes. Those who look on from inside the connection find the check that they belong to by a task-local, as
//! [`super::super::phases`] does; outside of a check they note nothing and cost next to nothing.

use std::{
    future::Future,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::pki_types::{CertificateDer, UnixTime};

use super::{
    super::{failure, phases::Stage, pool},
    certificate, problem,
};
use crate::domain::{
    address::{AddressPolicy, Refused},
    attempt::Failure,
    target_check::{TargetAddress, TargetConnection, TargetTls, TlsProblem, TlsSession},
    timestamp::Timestamp,
};

/// How many addresses are noted.
const MAX_ADDRESSES: usize = 50;

tokio::task_local! {
    static CURRENT: Arc<Witness>;
}

/// Notes what a name led to, for the check that is under way here, if one is.
pub(in crate::sender) fn looked_up(found: &[IpAddr], policy: &AddressPolicy) {
    let _outside = CURRENT.try_with(|witness| witness.found(found, policy));
}

/// Notes to whom a connection stands, likewise.
pub(in crate::sender) fn connected(to: impl FnOnce() -> Option<TargetConnection>) {
    let _outside = CURRENT.try_with(|witness| witness.notes().connection = to());
}

/// The notes of one check.
#[derive(Debug, Default)]
pub(in crate::sender) struct Witness(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    addresses: Vec<TargetAddress>,
    connection: Option<TargetConnection>,
    certificates: Option<(Vec<CertificateDer<'static>>, UnixTime)>,
    session: Option<TlsSession>,
    identity: Identity,
    problem: Option<(TlsProblem, String)>,
}

/// Whether the receiver asked for a certificate of ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Identity {
    #[default]
    NotAskedFor,
    Missing,
    Shown,
}

impl Witness {
    /// Runs what is to be looked on.
    pub(super) fn look_on<F: Future>(self: &Arc<Self>, exchange: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(Arc::clone(self), exchange)
    }

    /// The host leads to these.
    pub(super) fn found(&self, found: &[IpAddr], policy: &AddressPolicy) {
        let judged = found.iter().take(MAX_ADDRESSES).map(|&address| TargetAddress {
            address,
            refused_as: match policy.check_address(address) {
                Err(Refused::Address { network, .. }) => Some(network),
                Ok(()) | Err(Refused::Http | Refused::Localhost(_)) => None,
            },
        });
        self.notes().addresses = judged.collect();
    }

    /// The receiver sent these certificates, which are judged by this time.
    pub(super) fn shown(&self, certificates: Vec<CertificateDer<'static>>, now: UnixTime) {
        self.notes().certificates = Some((certificates, now));
    }

    /// The receiver asked for a certificate of ours.
    pub(super) fn asked_for_identity(&self, is_there: bool) {
        self.notes().identity = if is_there { Identity::Shown } else { Identity::Missing };
    }

    /// The handshake came to its end.
    pub(super) fn agreed(&self, session: TlsSession) {
        self.notes().session = Some(session);
    }

    /// The exchange broke off.
    pub(super) fn failed(&self, error: &pool::Error, stage: Stage, failure: Failure, message: &str) {
        let mut notes = self.notes();
        let cause = failure::find::<rustls::Error>(error);
        let found = match (notes.identity, cause) {
            // With TLS 1.3 the receiver says so after the handshake, and HTTP/2 keeps but the words of it.
            (Identity::Missing, Some(rustls::Error::AlertReceived(_))) => {
                TlsProblem::ClientCertificateRequired
            }
            (Identity::Shown, Some(rustls::Error::AlertReceived(_))) => TlsProblem::ClientCertificateRefused,
            (Identity::Missing, None) if failure == Failure::Protocol => {
                TlsProblem::ClientCertificateRequired
            }
            (Identity::Shown, None) if failure == Failure::Protocol => TlsProblem::ClientCertificateRefused,
            (_, Some(cause)) => problem::of(cause, &notes.chain()),
            (_, None) if failure == Failure::Tls && stage == Stage::Tls => TlsProblem::Other,
            (_, None) => return,
        };
        let words = found.explain(&notes.chain(), message, notes.judged_at());
        notes.problem = Some((found, words));
    }

    /// What was noted.
    pub(super) fn seen(&self) -> (Vec<TargetAddress>, Option<TargetConnection>, Option<TargetTls>) {
        let notes = self.notes();
        let tls = TargetTls {
            session: notes.session.clone(),
            certificates: notes.chain(),
            client_certificate_requested: notes.identity != Identity::NotAskedFor,
            problem: notes.problem.clone(),
        };
        let tls = Some(tls).filter(|tls| *tls != TargetTls::default());
        (notes.addresses.clone(), notes.connection, tls)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    fn chain(&self) -> Vec<crate::domain::target_check::Certificate> {
        let sent = self.certificates.iter().flat_map(|(sent, _)| sent);
        sent.filter_map(certificate::read).collect()
    }

    /// By which time the certificates were judged.
    fn judged_at(&self) -> Timestamp {
        let seconds = self.certificates.as_ref().map_or(0, |(_, now)| now.as_secs());
        i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_parts(seconds, 0)).unwrap_or_default()
    }
}
