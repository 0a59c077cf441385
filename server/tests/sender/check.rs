//! Checks of targets: what is found on the way, and that what is refused is not gone to.

use postrider_server::domain::{
    authentication::Authentication,
    form::{BodyForm, Form, Headers, Method, StaticHeader},
    receiver_tls::{Authorities, Identity, ReceiverTls},
    target_check::{TargetCheck, TargetOutcome, TargetTls, TlsProblem, TooManyChecks},
};
use rcgen::date_time_ymd;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
};

use super::{receiver::read_head, *};

/// For a subscription of this tenant.
async fn check_for(tenant: &str, sender: &HttpSender, url: &str) -> Result<TargetCheck, TooManyChecks> {
    let mut target = claim(url).target;
    Arc::get_mut(&mut target).unwrap().tenant = TenantId::parse(tenant).unwrap();
    sender.check(&target, SystemClock.now(), Duration::MAX).await
}

async fn check_with(sender: &HttpSender, url: &str, settings: Settings) -> TargetCheck {
    let claim = claim_with(url, settings);
    sender.check(&claim.target, SystemClock.now(), Duration::MAX).await.unwrap()
}

async fn check(sender: &HttpSender, url: &str) -> TargetCheck {
    check_with(sender, url, Settings::default()).await
}

/// Trusts this authority.
fn sender_trusting(authority: &Authority) -> HttpSender {
    let file = authority.file();
    sender_with(|config| file.path().clone_into(&mut config.extra_ca_file))
}

fn https(receiver: &Receiver) -> String {
    format!("https://localhost:{}/hook?token=s3cret", receiver.address.port())
}

#[track_caller]
fn status(check: &TargetCheck) -> u16 {
    match &check.outcome {
        TargetOutcome::Answered { status, .. } => *status,
        TargetOutcome::Failed { .. } => panic!("{check:?}"),
    }
}

#[track_caller]
fn assert_failed(check: &TargetCheck, expected: Failure, words: &str) {
    match &check.outcome {
        TargetOutcome::Failed { failure, message } => {
            assert_eq!(*failure, expected, "{message}");
            assert!(message.contains(words), "{message}");
        }
        TargetOutcome::Answered { .. } => panic!("{check:?}"),
    }
}

#[track_caller]
fn problem(check: &TargetCheck) -> (TlsProblem, &str) {
    let problem = check.tls.as_ref().and_then(|tls| tls.problem.as_ref());
    let (problem, words) = problem.unwrap_or_else(|| panic!("{check:?}"));
    (*problem, words)
}

#[tokio::test]
async fn a_request_without_a_body_or_a_signature_is_answered() {
    let mut receiver = Receiver::answering("HTTP/1.1 405 No\r\nallow: POST\r\n\r\n").await;
    let header = StaticHeader::parse("X-Tenant", "acme", false).unwrap();
    let form =
        Form { body: BodyForm::Raw, method: Method::Put, headers: Headers::parse(vec![header]).unwrap() };
    let authentication = Some(Authentication::bearer("t0ken").unwrap());
    let settings = Settings { authentication, form: Some(form), ..Settings::default() };
    let url = format!("http://localhost:{}/hook?token=s3cret", receiver.address.port());
    let check = check_with(&sender(), &url, settings).await;
    assert_eq!(status(&check), 405);
    assert!(matches!(&check.outcome, TargetOutcome::Answered { headers, redirect: None, .. }
        if *headers == [("allow".to_owned(), "POST".to_owned())]));
    assert_eq!(check.target_url, url.split_once('?').unwrap().0);
    assert!(check.addresses.iter().any(|found| found.address.is_ipv4() && found.refused_as.is_none()));
    let connection = check.connection.unwrap();
    assert_eq!((connection.address, connection.through_proxy), (receiver.address.ip(), false));
    assert_eq!(check.tls, None);
    let timings = check.timings;
    assert!(timings.dns.is_some() && timings.connect.is_some() && timings.tls.is_none());
    assert!(timings.first_byte.unwrap() <= timings.total);
    assert!(check.summary().contains("with 405"), "{}", check.summary());

    let request = receiver.request().await;
    assert_eq!(request.request_line, "HEAD /hook?token=s3cret HTTP/1.1");
    let mut names: Vec<_> = request.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names.join(" "), "accept accept-encoding authorization host user-agent x-tenant");
    assert_eq!(
        (&request.headers["authorization"], &request.headers["x-tenant"]),
        (
            &"Bearer t0ken".parse::<http::HeaderValue>().unwrap(),
            &"acme".parse::<http::HeaderValue>().unwrap()
        )
    );
}

#[tokio::test]
async fn a_redirect_is_seen_and_not_followed() {
    let elsewhere = Receiver::answering(OK).await;
    let answer = format!("HTTP/1.1 308 Gone there\r\nlocation: http://{}/new\r\n\r\n", elsewhere.address);
    let receiver = Receiver::answering(answer).await;
    let check = check(&sender(), &format!("http://{}/", receiver.address)).await;
    let expected = format!("http://{}/new", elsewhere.address);
    assert!(matches!(&check.outcome, TargetOutcome::Answered { status: 308, redirect: Some(to), .. }
        if *to == expected));
    assert!(check.summary().contains(&expected), "{}", check.summary());
    assert_eq!(elsewhere.pending_requests(), 0);
}

#[tokio::test]
async fn a_redirect_that_would_be_refused_is_not_advised() {
    for (location, reason) in [
        ("http://169.254.169.254/latest", "cloud metadata"),
        ("//10.0.0.1/", "private"),
        ("ftp://example.com/", "the scheme `ftp`"),
        ("https://user@example.com/", "a user name"),
    ] {
        let receiver =
            Receiver::answering(format!("HTTP/1.1 302 There\r\nlocation: {location}\r\n\r\n")).await;
        let summary = check(&sender(), &format!("http://{}/", receiver.address)).await.summary();
        assert!(summary.contains(reason) && !summary.contains("make that the target"), "{summary}");
    }
}

#[tokio::test]
async fn what_tls_agreed_on_is_shown_with_the_certificate() {
    let authority = Authority::new();
    let sender = sender_trusting(&authority);
    for protocol in ["http/1.1", "h2"] {
        let acceptor = authority.acceptor(protocol);
        let receiver = if protocol == "h2" {
            Receiver::answering_over_http2(acceptor, "").await
        } else {
            Receiver::answering_over_tls(acceptor, OK).await
        };
        // A second one begins anew.
        for _ in 0..2 {
            let check = check(&sender, &https(&receiver)).await;
            assert_eq!(status(&check), 200, "{protocol}");
            assert!(check.timings.tls.is_some());
            let TargetTls { session, certificates, client_certificate_requested, problem } =
                check.tls.unwrap();
            let session = session.unwrap();
            assert_eq!((session.version, session.alpn.as_deref()), ("TLS 1.3", Some(protocol)));
            assert!(session.cipher_suite.starts_with("TLS_"), "{}", session.cipher_suite);
            assert_eq!((problem, client_certificate_requested), (None, false));
            assert_eq!(certificates[0].names, ["localhost", "127.0.0.1"]);
            assert!(certificates[0].not_before < certificates[0].not_after);
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_is_shown_with_what_is_wrong_and_nothing_is_sent() {
    let (trusted, stranger) = (Authority::new(), Authority::new());
    let sender = sender_trusting(&trusted);
    let in_years = |from, until| {
        trusted.acceptor_with(&["localhost"], |params| {
            (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        })
    };
    for (acceptor, expected, words) in [
        (in_years(2019, 2020), TlsProblem::Expired, "it was valid until 2020-01-01T00:00:00Z"),
        (in_years(2999, 3000), TlsProblem::NotYetValid, "it will be from 2999-01-01T00:00:00Z"),
        (
            trusted.acceptor_with(&["a.example", "b.example"], |_| {}),
            TlsProblem::WrongName,
            "it is for `a.example`, `b.example`",
        ),
        (stranger.acceptor_with(&["localhost"], |_| {}), TlsProblem::UnknownIssuer, "which is not trusted"),
        (Authority::acceptor_of_its_own(), TlsProblem::UnknownIssuer, "issued by itself"),
    ] {
        let receiver = Receiver::answering_over_tls(acceptor, OK).await;
        let check = check(&sender, &https(&receiver)).await;
        assert_failed(&check, Failure::Tls, "the tls handshake failed");
        let (found, explained) = problem(&check);
        assert_eq!(found, expected, "{explained}");
        assert!(explained.contains(words), "{explained}");
        assert!(check.summary().contains(explained), "{}", check.summary());
        let tls = check.tls.as_ref().unwrap();
        assert_eq!((tls.certificates.len(), &tls.session), (1, &None));
        assert!(check.connection.is_some());
        assert_eq!(receiver.pending_requests(), 0);
    }
}

#[tokio::test]
async fn the_subscriptions_own_authorities_and_certificate_count() {
    let (theirs, ours, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let tls = |identity: Option<(String, String)>| {
        let identity = identity.map(|(pem, key)| Identity::parse(&pem, &key, SystemClock.now()).unwrap());
        let authorities = Some(Authorities::parse(&theirs.pem()).unwrap());
        Settings { tls: Some(ReceiverTls { identity, authorities }), ..Settings::default() }
    };
    let sender = sender();
    for protocol in ["http/1.1", "h2"] {
        let acceptor = theirs.demanding_acceptor(protocol, &ours);
        let receiver = if protocol == "h2" {
            Receiver::answering_over_http2(acceptor, "").await
        } else {
            Receiver::answering_over_tls(acceptor, OK).await
        };
        let check = check_with(&sender, &https(&receiver), tls(Some(ours.client()))).await;
        assert_eq!(status(&check), 200);
        assert!(check.tls.unwrap().client_certificate_requested);
        for (identity, expected) in [
            (None, TlsProblem::ClientCertificateRequired),
            (Some(strangers.client()), TlsProblem::ClientCertificateRefused),
        ] {
            let check = check_with(&sender, &https(&receiver), tls(identity)).await;
            assert_eq!(problem(&check).0, expected, "{protocol} {check:?}");
        }
    }
}

/// Says this once the other side has said something.
async fn saying(answer: Vec<u8>) -> Receiver {
    Receiver::serving(move |mut stream, _| {
        let answer = answer.clone();
        async move {
            stream.read_u8().await?;
            stream.write_all(&answer).await?;
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
        }
    })
    .await
}

#[tokio::test]
async fn old_versions_of_tls_and_what_is_no_tls_are_told_apart() {
    // A fatal alert, `protocol_version` (RFC 8446, 6); and a TLS 1.1 `ServerHello`.
    let alert = vec![21, 3, 1, 0, 2, 2, 70];
    let mut hello = vec![22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 0x2f, 0]);
    for (answer, expected) in [
        (alert, TlsProblem::UnsupportedVersion),
        (hello, TlsProblem::UnsupportedVersion),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), TlsProblem::NotTls),
        (b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), TlsProblem::NotTls),
        // `handshake_failure`.
        (vec![21, 3, 3, 0, 2, 2, 40], TlsProblem::Other),
    ] {
        let receiver = saying(answer).await;
        let check = check(&sender(), &https(&receiver)).await;
        assert_failed(&check, Failure::Tls, "the tls handshake failed");
        assert_eq!(problem(&check).0, expected, "{check:?}");
        assert!(check.tls.unwrap().certificates.is_empty());
    }
}

#[tokio::test]
async fn what_is_refused_is_shown_with_the_rule_and_never_connected_to() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // A proxy would be there for it.
    for proxy in [String::new(), format!("http://127.0.0.1:{port}")] {
        let sender = sender_with(|config| {
            config.allowed_networks = vec!["10.9.0.0/16".parse().unwrap()];
            config.proxy = ProxyUrl::new(proxy);
        });
        for (host, addresses) in [
            ("127.0.0.1", &[("127.0.0.1", "loopback")][..]),
            ("[::ffff:127.0.0.1]", &[("::ffff:127.0.0.1", "loopback")]),
            ("2130706433", &[("127.0.0.1", "loopback")]),
            ("169.254.169.254", &[("169.254.169.254", "link-local or cloud metadata")]),
            ("10.0.0.1", &[("10.0.0.1", "private")]),
            ("localhost", &[]),
        ] {
            let check = check(&sender, &format!("http://{host}:{port}/")).await;
            assert_failed(&check, Failure::AddressRefused, "does not send to");
            let shown: Vec<_> = check
                .addresses
                .iter()
                .map(|found| (found.address.to_string(), found.refused_as.unwrap()))
                .collect();
            let shown: Vec<_> = shown.iter().map(|(address, rule)| (address.as_str(), *rule)).collect();
            assert_eq!(shown, addresses, "{host}");
            assert_eq!((check.connection, &check.tls), (None, &None));
            assert!(check.summary().contains("may not be sent to"), "{}", check.summary());
        }
    }
    let strict = sender_with(|config| config.allow_http = false);
    let check = check(&strict, &format!("http://127.0.0.1:{port}/")).await;
    assert_failed(&check, Failure::AddressRefused, "the scheme is `http`");
    assert!(futures_util::poll!(Box::pin(listener.accept())).is_pending(), "nobody has connected");
}

#[tokio::test]
async fn a_failure_on_the_way_says_how_far_it_came() {
    let check_at = async |url: &str| check(&hasty_sender(), url).await;
    let check = check_at("https://nobody.invalid/").await;
    assert_failed(&check, Failure::Dns, "could not look up the host");
    assert!(check.addresses.is_empty() && check.connection.is_none() && check.timings.connect.is_none());

    let check = check_at(&format!("http://{}/", nobody())).await;
    assert_failed(&check, Failure::Connect, "connection refused");
    assert_eq!((check.addresses.len(), check.connection), (1, None));

    let silent = saying(Vec::new()).await;
    let check = check_at(&https(&silent)).await;
    assert_failed(&check, Failure::Timeout, "waiting for the tls handshake");
    assert!(check.connection.is_some() && check.timings.tls.is_some());

    let check = check_at(&format!("http://{}/", silent.address)).await;
    assert_failed(&check, Failure::Timeout, "waiting for the response");
    assert!(check.timings.total < Duration::from_secs(5));

    let garbage = Receiver::answering("SMTP\r\n\r\n").await;
    let check = check_at(&format!("http://{}/", garbage.address)).await;
    assert_failed(&check, Failure::Protocol, "");
    assert_eq!(check.tls, None);
}

#[tokio::test]
async fn a_token_that_is_not_to_be_had_is_an_answer() {
    let receiver = Receiver::answering(OK).await;
    let credentials = token::credentials(&format!("http://{}/token", nobody()));
    let authentication = Some(Authentication::ClientCredentials(credentials));
    let settings = Settings { authentication, ..Settings::default() };
    let check = check_with(&sender(), &format!("http://{}/", receiver.address), settings).await;
    assert_failed(&check, Failure::Authentication, "no access token");
    assert!(check.connection.is_none() && receiver.pending_requests() == 0);
}

#[tokio::test]
async fn it_goes_through_the_proxy_where_deliveries_do() {
    let proxy = Receiver::serving(|mut stream, _| async move {
        let (line, _) = read_head(&mut stream).await?;
        let address = line.split(' ').nth(1).unwrap().to_owned();
        let mut receiver = TcpStream::connect(address).await?;
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        copy_bidirectional(&mut stream, &mut receiver).await.map(drop)
    })
    .await;
    let authority = Authority::new();
    let file = authority.file();
    let receiver = Receiver::answering_over_tls(authority.acceptor("http/1.1"), OK).await;
    let sender = sender_with(|config| {
        file.path().clone_into(&mut config.extra_ca_file);
        config.proxy = ProxyUrl::new(format!("http://{}", proxy.address));
    });
    let check = check(&sender, &https(&receiver)).await;
    assert_eq!(status(&check), 200);
    let connection = check.connection.unwrap();
    assert_eq!((connection.address, connection.through_proxy), (receiver.address.ip(), true));
    assert!(check.tls.unwrap().session.is_some());
}

#[tokio::test]
async fn a_node_makes_no_more_than_so_many_at_a_time_and_those_broken_off_leave_nothing() {
    let silent = saying(Vec::new()).await;
    let (sender, url) = (sender(), format!("http://{}/", silent.address));
    let mut waiting = Vec::new();
    for tenant in ["a", "b", "c", "d"] {
        for _ in 0..8 {
            let mut one = Box::pin(check_for(tenant, &sender, &url));
            assert!(futures_util::poll!(&mut one).is_pending());
            waiting.push(one);
        }
        let refused = check_for(tenant, &sender, &url).await.unwrap_err();
        assert_eq!(refused, TooManyChecks::OfTenant(8), "one tenant leaves places for others");
        assert!(refused.to_string().contains("the tenant has 8 checks"), "{refused}");
    }
    assert!(check_for("e", &sender, &url).await.is_err());
    drop(waiting);
    let receiver = Receiver::answering(OK).await;
    assert_eq!(
        status(&check_for("a", &sender, &format!("http://{}/", receiver.address)).await.unwrap()),
        200
    );
}

#[tokio::test]
async fn a_caller_who_has_less_time_gets_an_answer_in_it() {
    let silent = saying(Vec::new()).await;
    let claim = claim(&format!("http://{}/", silent.address));
    let check = sender().check(&claim.target, SystemClock.now(), Duration::from_millis(100)).await.unwrap();
    assert_failed(&check, Failure::Timeout, "waiting for the response");
}
