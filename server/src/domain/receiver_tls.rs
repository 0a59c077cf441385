//! With what certificates a receiver is spoken to: the one that we show it, and those that may have issued its own.
//!
//! What is kept is the PEM text as it was given, checked to be of use; the sender makes a TLS client of it. Of the authorities nothing
//! but that they can be read and can issue certificates is checked: one that has expired issues nothing that would be accepted.

use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use x509_parser::{
    certificate::X509Certificate,
    prelude::FromDer,
    x509::{X509Name, X509Version},
};

use super::{hidden::Hidden, invalid::Invalid, timestamp::Timestamp};

/// The longest PEM text, in bytes.
const MAX_PEM: usize = 64 * 1024;
/// The most certificates that lead from ours to its authority.
const MAX_CHAIN: usize = 10;
/// The most authorities.
const MAX_AUTHORITIES: usize = 50;
/// How much of a certificate's name an error repeats, in characters.
const MAX_NAME: usize = 200;

/// What is set; at least one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReceiverTls {
    /// What we show the receiver.
    pub identity: Option<Identity>,
    /// Who may have issued the receiver's certificate; whom the server trusts otherwise if absent.
    pub authorities: Option<Authorities>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// PEM: the certificate, and those that lead from it to its authority.
    pub certificate: String,
    /// PEM.
    pub key: Hidden,
}

/// Certificates of authorities: PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Authorities(String);

impl ReceiverTls {
    /// Puts back a masked key.
    pub fn keep_secrets(&mut self, before: Option<&Self>) {
        if let (Some(new), Some(old)) = (&mut self.identity, before.and_then(|tls| tls.identity.as_ref())) {
            new.key.keep(&old.key);
        }
    }

    /// Checks that the key is there and belongs to the certificate.
    pub fn check(&self) -> Result<(), Invalid> {
        let Some(identity) = &self.identity else { return Ok(()) };
        identity.key.check("client_key")?;
        identity.certified_key().map(drop)
    }
}

impl Identity {
    /// Accepts a certificate that is in force at `now`. The key is checked when it is known: it may stand for the one before.
    pub fn parse(certificate: &str, key: &str, now: Timestamp) -> Result<Self, Invalid> {
        let refuse = |reason: &str| Err(Invalid::new("client_certificate", reason));
        let chain = certificates("client_certificate", certificate, MAX_CHAIN)?;
        let Some(Ok((_, first))) = chain.first().map(|first| X509Certificate::from_der(first)) else {
            return refuse("has a first certificate that is not an X.509 certificate");
        };
        let validity = first.validity();
        if now.unix_seconds() > validity.not_after.timestamp() {
            return refuse(&format!("has expired: it was in force until {}", validity.not_after));
        }
        if now.unix_seconds() < validity.not_before.timestamp() {
            return refuse(&format!("is not in force yet: it will be from {}", validity.not_before));
        }
        if key.is_empty() {
            return Err(Invalid::new("client_key", "must not be empty beside `client_certificate`"));
        }
        if key.len() > MAX_PEM {
            return Err(Invalid::new("client_key", format!("must have at most {MAX_PEM} bytes")));
        }
        Ok(Self { certificate: certificate.to_owned(), key: Hidden::new(key) })
    }

    /// The two as a handshake takes them.
    pub fn certified_key(&self) -> Result<CertifiedKey, Invalid> {
        let refuse = |reason: &str| Invalid::new("client_key", reason);
        let chain = certificates("client_certificate", &self.certificate, MAX_CHAIN)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.expose().as_bytes()).map_err(|_| {
            refuse("holds no private key in PEM; it must be PKCS#8, PKCS#1 or SEC1 without a passphrase")
        })?;
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|cause| match cause {
            rustls::Error::InconsistentKeys(_) => refuse("does not belong to `client_certificate`"),
            rustls::Error::InvalidCertificate(_) => {
                Invalid::new("client_certificate", "has a first certificate that cannot be used")
            }
            _ => refuse("is of no use; keys are RSA of 2048 to 8192 bits, ECDSA P-256 or P-384, or Ed25519"),
        })
    }
}

impl Authorities {
    /// Accepts certificates that can be trusted as authorities.
    pub fn parse(pem: &str) -> Result<Self, Invalid> {
        for (nth, certificate) in (1..).zip(certificates("ca_certificates", pem, MAX_AUTHORITIES)?) {
            check_authority(&certificate)
                .map_err(|reason| Invalid::new("ca_certificates", format!("certificate {nth} {reason}")))?;
        }
        let authorities = Self(pem.to_owned());
        authorities.roots().map(|_| authorities)
    }

    /// As they are given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Each of them.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Invalid> {
        certificates("ca_certificates", &self.0, MAX_AUTHORITIES)
    }

    /// As they are trusted.
    pub fn roots(&self) -> Result<RootCertStore, Invalid> {
        let mut roots = RootCertStore::empty();
        for (nth, certificate) in (1..).zip(self.certificates()?) {
            roots.add(certificate).map_err(|cause| {
                Invalid::new("ca_certificates", format!("certificate {nth} cannot be used: {cause}"))
            })?;
        }
        Ok(roots)
    }
}

/// Checks that something can be trusted because of this certificate: others that it has issued (RFC 5280, 4.2.1.9), or the receiver's own if
/// that is this one, issued by itself.
fn check_authority(der: &CertificateDer<'_>) -> Result<(), String> {
    let (_, read) = X509Certificate::from_der(der).map_err(|_| "is not an X.509 certificate".to_owned())?;
    let is_authority = match read.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        // Version 1 has no way to say so.
        Ok(None) => read.version() == X509Version::V1,
        Err(_) => return Err("says twice or illegibly whether it is an authority's".to_owned()),
    };
    if is_authority || read.subject() == read.issuer() {
        return Ok(());
    }
    let name = |name: &X509Name<'_>| {
        let text = name.to_string();
        text.chars().filter(|letter| !letter.is_control()).take(MAX_NAME).collect::<String>()
    };
    Err(format!(
        "(`{}`) is not an authority's, so it can have issued nothing; give the certificate of its issuer, `{}`",
        name(read.subject()),
        name(read.issuer())
    ))
}

/// Reads PEM that holds from one to so many certificates.
fn certificates(field: &str, pem: &str, most: usize) -> Result<Vec<CertificateDer<'static>>, Invalid> {
    if pem.len() > MAX_PEM {
        return Err(Invalid::new(field, format!("must have at most {MAX_PEM} bytes")));
    }
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let read = read.map_err(|_| Invalid::new(field, "is not PEM"))?;
    if read.is_empty() {
        return Err(Invalid::new(field, "holds no certificate in PEM (`-----BEGIN CERTIFICATE-----`)"));
    }
    if read.len() > most {
        return Err(Invalid::new(
            field,
            format!("holds {} certificates; at most {most} are allowed", read.len()),
        ));
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;
    use crate::domain::hidden::MASK;

    /// 2024-11-21.
    const NOW: Timestamp = Timestamp::from_micros(1_732_186_800_000_000);

    /// A certificate that is in force in these years, and its key.
    fn pair(from: i32, to: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["client".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn refusal(certificate: &str, key: &str) -> Invalid {
        let parsed = Identity::parse(certificate, key, NOW);
        let checked =
            parsed.and_then(|identity| ReceiverTls { identity: Some(identity), authorities: None }.check());
        checked.unwrap_err()
    }

    #[test]
    fn a_certificate_and_its_key_are_accepted_and_others_refused_with_the_reason() {
        let (certificate, key) = pair(2024, 2034);
        let identity = Identity::parse(&certificate, &key, NOW).unwrap();
        assert!(ReceiverTls { identity: Some(identity), authorities: None }.check().is_ok());

        let (expired, its_key) = pair(2014, 2024);
        let (future, _) = pair(2030, 2034);
        let broken = certificate.replace("-----END", "----END");
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (certificate, key, field, reason) in [
            ("", key.as_str(), "client_certificate", "holds no certificate"),
            ("hello", &key, "client_certificate", "holds no certificate"),
            (&broken, &key, "client_certificate", "is not PEM"),
            (garbage, &key, "client_certificate", "not an X.509 certificate"),
            (&key, &key, "client_certificate", "holds no certificate"),
            (&certificate.repeat(11), &key, "client_certificate", "11 certificates"),
            (&expired, &its_key, "client_certificate", "has expired: it was in force until Jan"),
            (&future, &key, "client_certificate", "not in force yet"),
            (&certificate, "", "client_key", "must not be empty"),
            (&certificate, "hello", "client_key", "no private key"),
            (&certificate, &certificate, "client_key", "no private key"),
            (&certificate, &its_key, "client_key", "does not belong"),
            (&certificate, MASK, "client_key", "mask"),
        ] {
            let invalid = refusal(certificate, key);
            assert_eq!(invalid.field, field, "{invalid}");
            assert!(invalid.reason.contains(reason), "{invalid}");
        }
    }

    #[test]
    fn authorities_are_certificates() {
        let (certificate, key) = pair(2024, 2034);
        assert_eq!(Authorities::parse(&certificate.repeat(50)).unwrap().roots().unwrap().len(), 50);
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for pem in ["", "hello", &key, garbage, &certificate.repeat(51), &"x".repeat(70_000)] {
            assert_eq!(Authorities::parse(pem).unwrap_err().field, "ca_certificates");
        }
    }

    #[test]
    fn what_can_have_issued_nothing_is_no_authority() {
        let made = |name: &str, is_ca| {
            let mut params = CertificateParams::new([format!("{name}.example")]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = is_ca;
            params
        };
        let key = KeyPair::generate().unwrap();
        let root_params = made("Root", IsCa::Ca(BasicConstraints::Unconstrained));
        let root = root_params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(root_params, &key);
        for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa] {
            let leaf = made("Leaf", is_ca).signed_by(&key, &issuer).unwrap().pem();
            let invalid = Authorities::parse(&format!("{root}{leaf}")).unwrap_err();
            assert_eq!(invalid.field, "ca_certificates");
            for part in ["certificate 2 ", "CN=Leaf", "CN=Root", "issuer"] {
                assert!(invalid.reason.contains(part), "{invalid}");
            }
            let own = made("Own", is_ca).self_signed(&key).unwrap().pem();
            assert!(Authorities::parse(&own).is_ok(), "a receiver's own that it has issued itself");
        }
        let between = made("Between", IsCa::Ca(BasicConstraints::Constrained(0)));
        assert!(Authorities::parse(&between.signed_by(&key, &issuer).unwrap().pem()).is_ok());
    }

    #[test]
    fn a_masked_key_is_kept_and_must_belong_to_the_certificate() {
        let (certificate, key) = pair(2024, 2034);
        let tls = |certificate, key| ReceiverTls {
            identity: Some(Identity::parse(certificate, key, NOW).unwrap()),
            authorities: None,
        };
        let stored = tls(&certificate, &key);
        let mut masked = tls(&certificate, MASK);
        masked.keep_secrets(Some(&stored));
        assert_eq!(masked, stored);
        let mut renewed = tls(&pair(2024, 2035).0, MASK);
        renewed.keep_secrets(Some(&stored));
        assert_eq!(renewed.check().unwrap_err().field, "client_key");
        assert!(!format!("{stored:?}").contains("PRIVATE"));
    }
}
