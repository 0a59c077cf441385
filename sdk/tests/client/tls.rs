//! TLS: whom a client trusts.

use postrider_proto::v1::event_service_server::EventServiceServer;
use postrider_sdk::{Client, Event};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use crate::fake::Fake;

/// A server whose certificate is its own authority: its URL and that certificate.
async fn secure_server() -> (String, String) {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let identity = Identity::from_pem(own.cert.pem(), own.signing_key.serialize_pem());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let serve = Server::builder()
        .tls_config(ServerTlsConfig::new().identity(identity))
        .unwrap()
        .add_service(EventServiceServer::new(Fake::start().await))
        .serve_with_incoming(TcpListenerStream::new(listener));
    #[expect(clippy::disallowed_methods, reason = "the server ends with the test's runtime")]
    tokio::spawn(serve);
    (url, own.cert.pem())
}

#[tokio::test]
async fn a_server_of_the_given_authority_is_trusted() {
    let (url, authority) = secure_server().await;
    let client = Client::builder(url).with_ca_certificate_pem(authority).connect().await.unwrap();
    client.publish(Event::new("order.created")).await.unwrap();
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted() {
    let (url, _) = secure_server().await;
    let (_, other_authority) = secure_server().await;
    let error = Client::builder(url).with_ca_certificate_pem(other_authority).connect().await.unwrap_err();
    assert!(error.is_unavailable());
    assert!(error.to_string().contains("certificate"), "{error}");
}
