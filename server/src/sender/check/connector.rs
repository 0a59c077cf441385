//! Looks on at connections that stand: what both sides of a TLS handshake agreed on.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_rustls::MaybeHttpsStream;
use rustls::{ClientConnection, ProtocolVersion};
use tower::Service;

use super::Witness;
use crate::domain::target_check::TlsSession;

/// Notes what the connections of another connector have agreed on.
#[derive(Debug, Clone)]
pub(in crate::sender) struct Watched<S> {
    inner: S,
    witness: Arc<Witness>,
}

impl<S> Watched<S> {
    pub(in crate::sender) fn new(inner: S, witness: Arc<Witness>) -> Self {
        Self { inner, witness }
    }
}

impl<S, T> Service<Uri> for Watched<S>
where
    S: Service<Uri, Response = MaybeHttpsStream<T>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let (connecting, witness) = (self.inner.call(target), Arc::clone(&self.witness));
        Box::pin(async move {
            let stream = connecting.await?;
            if let MaybeHttpsStream::Https(tls) = &stream {
                witness.agreed(session(tls.inner().get_ref().1));
            }
            Ok(stream)
        })
    }
}

fn session(connection: &ClientConnection) -> TlsSession {
    TlsSession {
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "",
        },
        cipher_suite: connection
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .map_or_else(String::new, iana_name),
        alpn: connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
    }
}

/// The library tells the suites of TLS 1.3 apart by their prefix.
fn iana_name(suite: &str) -> String {
    suite.strip_prefix("TLS13_").map_or_else(|| suite.to_owned(), |rest| format!("TLS_{rest}"))
}
