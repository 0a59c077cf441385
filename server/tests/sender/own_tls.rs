//! Receivers that want to see a certificate, and receivers whose authority is known to one subscription alone.

use postrider_server::domain::receiver_tls::{Authorities, Identity, ReceiverTls};
use rcgen::{BasicConstraints, IsCa};

use super::*;

fn tls(identity: Option<(String, String)>, authority: Option<&Authority>) -> Settings {
    let identity =
        identity.map(|(certificate, key)| Identity::parse(&certificate, &key, SystemClock.now()).unwrap());
    let authorities = authority.map(|authority| Authorities::parse(&authority.pem()).unwrap());
    Settings { tls: Some(ReceiverTls { identity, authorities }), ..Settings::default() }
}

async fn send_with(sender: &HttpSender, receiver: &Receiver, settings: Settings) -> Attempt {
    let url = format!("https://localhost:{}/", receiver.address.port());
    sender.send(&claim_with(&url, settings), None, SystemClock.now()).await
}

#[tokio::test]
async fn a_certificate_is_shown_to_the_receiver_of_its_subscription_and_to_no_other() {
    let (theirs, ours, strangers) = (Authority::new(), Authority::new(), Authority::new());
    for protocol in ["http/1.1", "h2"] {
        let acceptor = theirs.demanding_acceptor(protocol, &ours);
        let receiver = if protocol == "h2" {
            Receiver::answering_over_http2(acceptor, "").await
        } else {
            Receiver::answering_over_tls(acceptor, OK).await
        };
        let sender = sender();
        let with = tls(Some(ours.client()), Some(&theirs));
        let attempt = send_with(&sender, &receiver, with.clone()).await;
        assert_eq!(attempt.outcome, ACKNOWLEDGED);
        // There is a connection on which we are known; those who are not must not get it, nor its session.
        for stranger in [None, Some(strangers.client())] {
            let attempt = send_with(&sender, &receiver, tls(stranger, Some(&theirs))).await;
            // With TLS 1.3 the receiver says no after the handshake. HTTP/2 then keeps but the words of it.
            let failure = if protocol == "h2" { Failure::Protocol } else { Failure::Tls };
            assert_failed(&attempt, failure, "received fatal alert");
        }
        assert_eq!(send_with(&sender, &receiver, with).await.outcome, ACKNOWLEDGED);
    }
}

#[tokio::test]
async fn the_connection_of_a_subscription_is_used_again_until_it_is_changed() {
    let (theirs, ours) = (Authority::new(), Authority::new());
    let receiver = Receiver::answering_over_tls(theirs.demanding_acceptor("http/1.1", &ours), OK).await;
    let (sender, settings) = (sender(), tls(Some(ours.client()), Some(&theirs)));
    let url = format!("https://localhost:{}/", receiver.address.port());
    let mut claim = claim_with(&url, settings);
    for reused in [false, true] {
        let attempt = sender.send(&claim, None, SystemClock.now()).await;
        assert_eq!(attempt.outcome, ACKNOWLEDGED);
        assert_eq!(attempt.timings.tls.is_none(), reused);
    }
    Arc::get_mut(&mut claim.target).unwrap().revision += 1;
    let attempt = sender.send(&claim, None, SystemClock.now()).await;
    assert!(attempt.timings.tls.is_some(), "what was changed begins anew");
}

#[tokio::test]
async fn authorities_of_a_subscription_take_the_place_of_the_servers() {
    let (servers, own) = (Authority::new(), Authority::new());
    let file = servers.file();
    let sender = sender_with(|config| file.path().clone_into(&mut config.extra_ca_file));
    let public = Receiver::answering_over_tls(servers.acceptor("http/1.1"), OK).await;
    let private = Receiver::answering_over_tls(own.acceptor("http/1.1"), OK).await;

    assert_eq!(send_with(&sender, &private, tls(None, Some(&own))).await.outcome, ACKNOWLEDGED);
    assert_eq!(send_with(&sender, &public, Settings::default()).await.outcome, ACKNOWLEDGED);
    for (receiver, settings) in [(&private, Settings::default()), (&public, tls(None, Some(&own)))] {
        let attempt = send_with(&sender, receiver, settings).await;
        assert_failed(&attempt, Failure::Tls, "the tls handshake failed: invalid peer certificate");
    }
}

#[tokio::test]
async fn a_certificate_that_a_receiver_has_issued_itself_can_be_trusted() {
    let authority = || IsCa::Ca(BasicConstraints::Unconstrained);
    let sender = sender();
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa, authority()] {
        let (acceptor, pem) = Authority::acceptor_of_a_host("localhost", is_ca);
        let receiver = Receiver::answering_over_tls(acceptor, OK).await;
        let attempt = send_with(&sender, &receiver, trusting(&pem)).await;
        assert_eq!(attempt.outcome, ACKNOWLEDGED);
    }
    // Not one that is like it, nor for another host.
    let (_, other) = Authority::acceptor_of_a_host("localhost", authority());
    let (acceptor, pem) = Authority::acceptor_of_a_host("elsewhere.example", authority());
    let receiver = Receiver::answering_over_tls(acceptor, OK).await;
    for trusted in [other, pem] {
        let attempt = send_with(&sender, &receiver, trusting(&trusted)).await;
        assert_failed(&attempt, Failure::Tls, "the tls handshake failed: invalid peer certificate: ");
    }
}

fn trusting(pem: &str) -> Settings {
    let authorities = Some(Authorities::parse(pem).unwrap());
    Settings { tls: Some(ReceiverTls { identity: None, authorities }), ..Settings::default() }
}

#[tokio::test]
async fn a_certificate_is_refused_in_words() {
    let receiver = Receiver::answering_over_tls(Authority::acceptor_of_its_own(), OK).await;
    let attempt = send_with(&sender(), &receiver, Settings::default()).await;
    assert_failed(&attempt, Failure::Tls, "the tls handshake failed: invalid peer certificate: ");
    assert!(!format!("{:?}", attempt.outcome).contains("OtherError"), "{:?}", attempt.outcome);
}
