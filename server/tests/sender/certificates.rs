//! A certificate authority and a certificate for this machine.

use std::{io::Write, sync::Arc};

use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{RootCertStore, ServerConfig, pki_types::PrivatePkcs8KeyDer, server::WebPkiClientVerifier};
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its certificate, as an operator would hand it over.
    pub(crate) fn file(&self) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(self.0.pem().as_bytes()).unwrap();
        file
    }

    /// Its certificate in PEM.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate that it has issued to a client, and its key, both in PEM.
    pub(crate) fn client(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["postrider".to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// Lets a receiver speak TLS as `localhost` and `127.0.0.1`.
    pub(crate) fn acceptor(&self, protocol: &str) -> TlsAcceptor {
        self.acceptor_for(protocol, None)
    }

    /// The same, for those alone who show a certificate that `clients` has issued.
    pub(crate) fn demanding_acceptor(&self, protocol: &str, clients: &Self) -> TlsAcceptor {
        self.acceptor_for(protocol, Some(clients))
    }

    /// Lets a receiver speak TLS with another certificate than that.
    pub(crate) fn acceptor_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> TlsAcceptor {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::new(names).unwrap());
        params.distinguished_name.push(DnType::CommonName, "receiver");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        speaking("http/1.1", &certificate, &key, None)
    }

    /// Lets a receiver speak TLS as `localhost`, with a certificate that nobody has issued: an authority's own.
    pub(crate) fn acceptor_of_its_own() -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        speaking("http/1.1", &params.self_signed(&key).unwrap(), &key, None)
    }

    /// Lets a receiver speak TLS as `name`, with a certificate that it has issued itself and that is an authority's as well or not; and
    /// that, in PEM.
    pub(crate) fn acceptor_of_a_host(name: &str, is_ca: IsCa) -> (TlsAcceptor, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.is_ca = is_ca;
        let certificate = params.self_signed(&key).unwrap();
        (speaking("http/1.1", &certificate, &key, None), certificate.pem())
    }

    fn acceptor_for(&self, protocol: &str, clients: Option<&Self>) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        speaking(protocol, &certificate, &key, clients)
    }
}

fn speaking(
    protocol: &str,
    certificate: &Certificate,
    key: &KeyPair,
    clients: Option<&Authority>,
) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = clients.map_or_else(WebPkiClientVerifier::no_client_auth, |clients| {
        let mut roots = RootCertStore::empty();
        roots.add(clients.0.der().clone()).unwrap();
        WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build().unwrap()
    });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Arc::new(config).into()
}
