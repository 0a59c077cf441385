//! With what certificates a receiver is spoken to.

use postrider_proto::v1 as pb;

use super::Secret;

/// With what certificates a receiver is spoken to over TLS.
///
/// In a subscription that is read, the key is masked; a masked one that is sent back in an update keeps what is stored.
///
/// ```
/// use postrider_sdk::model::ReceiverTls;
///
/// # let (certificate_pem, key_pem, authority_pem) = ("", "", "");
/// let mutual = ReceiverTls::new().client_certificate(certificate_pem, key_pem).ca_certificates(authority_pem);
/// # let _ = mutual;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReceiverTls {
    /// The certificate that the server shows the receiver.
    pub client: Option<ClientCertificate>,
    /// The certificate authorities that may have issued the receiver's certificate, in place of those that the server trusts otherwise: PEM.
    pub ca_certificates: Option<String>,
}

/// A certificate and its key.
///
/// ```no_run
/// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
/// let orders = client.subscriptions().get("orders").await?;
/// if let Some(shown) = orders.tls.and_then(|tls| tls.client) {
///     println!("{}", shown.certificate);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCertificate {
    /// PEM: the certificate, and those that lead from it to its authority.
    pub certificate: String,
    /// PEM: the private key, without a passphrase.
    pub key: Secret,
}

impl ReceiverTls {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows the receiver this certificate: PEM, as is the private key that belongs to it.
    #[must_use]
    pub fn client_certificate(mut self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        let (certificate, key) = (certificate.into(), Secret::new(key.into()));
        self.client = Some(ClientCertificate { certificate, key });
        self
    }

    /// Accepts receivers whose certificates these authorities have issued, and no others: PEM.
    #[must_use]
    pub fn ca_certificates(mut self, certificates: impl Into<String>) -> Self {
        self.ca_certificates = Some(certificates.into());
        self
    }

    pub(crate) fn into_pb(self) -> pb::ReceiverTls {
        let client = self.client.map(|client| (client.certificate, client.key.into_inner()));
        let (client_certificate, client_key) = client.unwrap_or_default();
        let ca_certificates = self.ca_certificates.unwrap_or_default();
        pb::ReceiverTls { client_certificate, client_key, ca_certificates }
    }

    pub(crate) fn from_pb(tls: pb::ReceiverTls) -> Self {
        let (certificate, key) = (tls.client_certificate, Secret::new(tls.client_key));
        Self {
            client: (!certificate.is_empty()).then_some(ClientCertificate { certificate, key }),
            ca_certificates: (!tls.ca_certificates.is_empty()).then_some(tls.ca_certificates),
        }
    }
}
