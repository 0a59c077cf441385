//! Whom we trust, and how the moment is noted at which a TLS handshake begins.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, NamedGroup,
    client::{
        ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
        Tls13ClientSessionValue,
    },
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use rustls_platform_verifier::Verifier;

use super::{
    build_error::BuildError,
    phases::{self, Mark},
};

/// How many receivers' sessions are remembered for a shorter handshake.
const REMEMBERED_SESSIONS: usize = 1_024;

/// The roots of the operating system and those of `extra_ca_file`; HTTP/2 before HTTP/1.1.
pub(super) fn config(extra_ca_file: &Path) -> Result<ClientConfig, BuildError> {
    let provider = Arc::new(ring::default_provider());
    let extra =
        if extra_ca_file.as_os_str().is_empty() { Vec::new() } else { read_certificates(extra_ca_file)? };
    let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider)).map_err(BuildError::Roots)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(BuildError::Tls)?
        .dangerous() // The platform's verifier is the usual one.
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // The HTTP client leaves a ready-made configuration as it is, so this is ours to say.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption =
        Resumption::store(Arc::new(NotingStore(ClientSessionMemoryCache::new(REMEMBERED_SESSIONS))));
    Ok(config)
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
