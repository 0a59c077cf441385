//! Reads what a certificate says of itself. Its texts are the receiver's to choose, so they have an end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer, time::ASN1Time};

use crate::domain::{target_check::Certificate, timestamp::Timestamp};

/// The most names of one certificate.
const MAX_NAMES: usize = 100;
/// The longest text, in characters.
const MAX_TEXT: usize = 300;

/// What is no certificate says nothing.
pub(super) fn read(der: &CertificateDer<'_>) -> Option<Certificate> {
    let (_, read) = X509Certificate::from_der(der).ok()?;
    let names = read.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(name).take(MAX_NAMES);
    Some(Certificate {
        subject: tidy(&read.subject().to_string()),
        names: names.collect(),
        issuer: tidy(&read.issuer().to_string()),
        not_before: time(read.validity().not_before),
        not_after: time(read.validity().not_after),
    })
}

/// Those that hosts are known by.
fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(tidy(name)),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|octets| IpAddr::from(Ipv4Addr::from(octets))),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|octets| IpAddr::from(Ipv6Addr::from(octets))),
        }
        .map(|address| address.to_string()),
        _ => None,
    }
}

fn time(time: ASN1Time) -> Timestamp {
    Timestamp::from_parts(time.timestamp(), 0).unwrap_or_default()
}

fn tidy(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
