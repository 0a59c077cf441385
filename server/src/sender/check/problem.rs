//! What it means that a TLS handshake failed.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use crate::domain::target_check::{Certificate, TlsProblem};

/// What is wrong at a receiver that sent these certificates.
pub(super) fn of(error: &Error, certificates: &[Certificate]) -> TlsProblem {
    match error {
        Error::InvalidCertificate(cause) => of_certificate(cause, certificates),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        )
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => TlsProblem::UnsupportedVersion,
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => TlsProblem::NotTls,
        Error::AlertReceived(AlertDescription::CertificateRequired) => TlsProblem::ClientCertificateRequired,
        _ => TlsProblem::Other,
    }
}

fn of_certificate(cause: &CertificateError, certificates: &[Certificate]) -> TlsProblem {
    let is_self_issued = certificates.first().is_some_and(|own| own.subject == own.issuer);
    match cause {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsProblem::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsProblem::NotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsProblem::WrongName
        }
        // The second is another issuer of the same name as a trusted one.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsProblem::UnknownIssuer,
        // An authority's own certificate in the place of a host's, as many tools make them for tests.
        CertificateError::Other(_) if is_self_issued => TlsProblem::UnknownIssuer,
        _ => TlsProblem::Other,
    }
}
