//! With what certificates a receiver is spoken to.

use postrider_proto::v1 as pb;

use crate::domain::{
    invalid::Invalid,
    receiver_tls::{Authorities, Identity, ReceiverTls},
    timestamp::Timestamp,
};

/// Reads it at `now`; nothing in it is nothing set.
pub(super) fn own(tls: &pb::ReceiverTls, now: Timestamp) -> Result<Option<ReceiverTls>, Invalid> {
    let identity = (!tls.client_certificate.is_empty() || !tls.client_key.is_empty())
        .then(|| Identity::parse(&tls.client_certificate, &tls.client_key, now))
        .transpose()?;
    let authorities =
        (!tls.ca_certificates.is_empty()).then(|| Authorities::parse(&tls.ca_certificates)).transpose()?;
    let own = ReceiverTls { identity, authorities };
    Ok((own != ReceiverTls::default()).then_some(own))
}

/// Shows it, with its key masked.
pub(super) fn to_tls(own: &ReceiverTls) -> pb::ReceiverTls {
    let (client_certificate, client_key) = match &own.identity {
        Some(identity) => (identity.certificate.clone(), identity.key.masked().to_owned()),
        None => (String::new(), String::new()),
    };
    let ca_certificates = own.authorities.as_ref().map_or_else(String::new, |own| own.as_str().to_owned());
    pb::ReceiverTls { client_certificate, client_key, ca_certificates }
}
