//! Looks on at a TLS handshake: what the receiver shows, and whether it wants to be shown something. Each decision is left to whom it
//! belongs to.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};

use super::Witness;

/// How many certificates of a chain are noted.
const MAX_CERTIFICATES: usize = 10;

/// Notes the certificates before they are judged.
#[derive(Debug)]
pub(in crate::sender) struct WatchedVerifier {
    pub(in crate::sender) judge: Arc<dyn ServerCertVerifier>,
    pub(in crate::sender) witness: Arc<Witness>,
}

impl ServerCertVerifier for WatchedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let sent = std::iter::once(end_entity).chain(intermediates).take(MAX_CERTIFICATES);
        self.witness.shown(sent.map(|certificate| certificate.clone().into_owned()).collect(), now);
        self.judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.judge.requires_raw_public_keys()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.judge.root_hint_subjects()
    }
}

/// Notes that our certificate is asked for, and whether there is one.
#[derive(Debug)]
pub(in crate::sender) struct WatchedIdentity {
    pub(in crate::sender) holder: Arc<dyn ResolvesClientCert>,
    pub(in crate::sender) witness: Arc<Witness>,
}

impl ResolvesClientCert for WatchedIdentity {
    fn resolve(&self, issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let held = self.holder.resolve(issuers, schemes);
        self.witness.asked_for_identity(held.is_some());
        held
    }

    fn only_raw_public_keys(&self) -> bool {
        self.holder.only_raw_public_keys()
    }

    fn has_certs(&self) -> bool {
        self.holder.has_certs()
    }
}
