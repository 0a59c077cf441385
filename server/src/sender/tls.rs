//! Whom we trust and who we are to receivers over TLS, and how the moment is noted at which a handshake begins.
//!
//! A subscription with certificates of its own has a configuration of its own, and with it sessions of its own: what one identity has
//! begun no other one resumes.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, NamedGroup,
    client::{
        ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
        Tls13ClientSessionValue, WebPkiServerVerifier, danger::ServerCertVerifier,
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    sign::SingleCertAndKey,
};
use rustls_platform_verifier::Verifier;

use super::{
    build_error::BuildError,
    check::{WatchedIdentity, WatchedVerifier, Witness},
    phases::{self, Mark},
    pinned::PinningVerifier,
};
use crate::domain::{invalid::Invalid, receiver_tls::ReceiverTls};

/// How many receivers' sessions are remembered for a shorter handshake.
const REMEMBERED_SESSIONS: usize = 1_024;
/// The same where there is one receiver, which may have several addresses of one name.
const REMEMBERED_SESSIONS_OF_ONE: usize = 4;

/// What all configurations are made of.
#[derive(Debug)]
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    /// Trusts the roots of the operating system and those of `extra_ca_file`.
    verifier: Arc<dyn ServerCertVerifier>,
}

/// A subscription's own certificates are of no use. They were checked when they were set.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// One of them cannot be read.
    #[error("the subscription's tls settings are of no use: {0}")]
    Invalid(#[from] Invalid),
    /// Nobody can be trusted by them.
    #[error("the subscription's certificate authorities are of no use")]
    Authorities(#[from] rustls::client::VerifierBuilderError),
    /// TLS cannot be set up.
    #[error("tls cannot be set up")]
    Tls(#[from] rustls::Error),
}

impl Tls {
    /// Reads the certificates that are trusted.
    pub(super) fn new(extra_ca_file: &Path) -> Result<Self, BuildError> {
        let provider = Arc::new(ring::default_provider());
        let extra =
            if extra_ca_file.as_os_str().is_empty() { Vec::new() } else { read_certificates(extra_ca_file)? };
        let verifier =
            Verifier::new_with_extra_roots(extra, Arc::clone(&provider)).map_err(BuildError::Roots)?;
        Ok(Self { provider, verifier: Arc::new(verifier) })
    }

    /// For receivers of which nothing is said.
    pub(super) fn plain(&self) -> Result<ClientConfig, BuildError> {
        let plain = self.config(&ReceiverTls::default(), REMEMBERED_SESSIONS);
        plain.map_err(|cause| match cause {
            Unusable::Tls(cause) => BuildError::Tls(cause),
            Unusable::Invalid(_) | Unusable::Authorities(_) => {
                BuildError::Tls(rustls::Error::General(cause.to_string()))
            }
        })
    }

    /// For the receiver of a subscription that says something.
    pub(super) fn own(&self, own: &ReceiverTls) -> Result<ClientConfig, Unusable> {
        self.config(own, REMEMBERED_SESSIONS_OF_ONE)
    }

    /// For a check of a receiver: the same decisions, looked on at.
    pub(super) fn watched(
        &self,
        own: Option<&ReceiverTls>,
        witness: &Arc<Witness>,
    ) -> Result<ClientConfig, Unusable> {
        let nothing = ReceiverTls::default();
        let own = own.unwrap_or(&nothing);
        let (judge, witness) = (self.verifier(own)?, Arc::clone(witness));
        let verifier = Arc::new(WatchedVerifier { judge, witness: Arc::clone(&witness) });
        let mut config = self.config_with(own, verifier, REMEMBERED_SESSIONS_OF_ONE)?;
        let holder = config.client_auth_cert_resolver;
        config.client_auth_cert_resolver = Arc::new(WatchedIdentity { holder, witness });
        Ok(config)
    }

    fn config(&self, own: &ReceiverTls, sessions: usize) -> Result<ClientConfig, Unusable> {
        self.config_with(own, self.verifier(own)?, sessions)
    }

    /// Judges a receiver's certificate.
    fn verifier(&self, own: &ReceiverTls) -> Result<Arc<dyn ServerCertVerifier>, Unusable> {
        Ok(match &own.authorities {
            None => Arc::clone(&self.verifier),
            Some(own) => {
                let (roots, provider) = (Arc::new(own.roots()?), Arc::clone(&self.provider));
                let authorities = WebPkiServerVerifier::builder_with_provider(roots, provider).build()?;
                Arc::new(PinningVerifier { authorities, certificates: own.certificates()? })
            }
        })
    }

    /// HTTP/2 before HTTP/1.1.
    fn config_with(
        &self,
        own: &ReceiverTls,
        verifier: Arc<dyn ServerCertVerifier>,
        sessions: usize,
    ) -> Result<ClientConfig, Unusable> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .dangerous() // Both are the usual ones.
            .with_custom_certificate_verifier(verifier);
        let mut config = match &own.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = identity.certified_key()?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
        };
        // The HTTP client leaves a ready-made configuration as it is, so this is ours to say.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.resumption = Resumption::store(Arc::new(NotingStore(ClientSessionMemoryCache::new(sessions))));
        Ok(config)
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BuildError> {
    let unreadable = |cause| BuildError::CaFile { path: path.to_owned(), cause };
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(unreadable(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

/// Remembers sessions. rustls asks for one when it writes the first message of a handshake, which is when TCP stands: the one place
/// where the two phases can be told apart.
#[derive(Debug)]
struct NotingStore(ClientSessionMemoryCache);

impl ClientSessionStore for NotingStore {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        phases::note(Mark::Handshaking);
        self.0.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.0.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        phases::note(Mark::Handshaking);
        self.0.take_tls13_ticket(server_name)
    }
}
