use super::*;

const ENDPOINT: &str = "https://example.com/hook?key=1";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const CHALLENGE: Challenge = Challenge::new([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
/// What that is in each of its shapes.
const TEXT: &str = "0102030405060708090a0b0c0d0e0f10";
const NUMBER: &str = "1016909060";
const CODE: &str = "01020304-0506-4708-890a-0b0c0d0e0f10";

fn exchange(handshake: &Handshake) -> Exchange<'_> {
    Exchange { handshake, challenge: CHALLENGE, endpoint: ENDPOINT, secret: SECRET }
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let header = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let headers = headers.iter().map(header).collect();
    Answer { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) }
}

/// What is wrong with answers, each of which must be wrong.
fn wrong(handshake: &Handshake, answers: &[Answer]) -> Vec<String> {
    answers.iter().map(|answer| exchange(handshake).judge(answer).unwrap_err()).collect()
}

fn right(handshake: &Handshake, answers: &[Answer]) {
    for answer in answers {
        assert_eq!(exchange(handshake).judge(answer), Ok(Consent::default()), "{answer:?}");
    }
}

#[test]
fn cloud_events_are_consented_to_by_headers_and_never_by_the_status() {
    let plain = Handshake::cloud_events("Sender.Example.com", 0).unwrap();
    let question = exchange(&plain).question();
    assert_eq!(question.method, Method::Options);
    assert_eq!(question.headers, [("webhook-request-origin", "sender.example.com".to_owned())]);
    let allowed = |origin| answer(405, &[("webhook-allowed-origin", origin)], "");
    right(&plain, &[allowed("*"), allowed("sender.example.com"), allowed("SENDER.example.COM ")]);
    assert_eq!(
        wrong(&plain, &[answer(200, &[], ""), answer(404, &[], ""), allowed("example.com"), allowed("")]),
        [
            "the header `WebHook-Allowed-Origin` is missing",
            "the header `WebHook-Allowed-Origin` is missing; the receiver answered 404",
            "the header `WebHook-Allowed-Origin` is neither our origin nor `*`",
            "the header `WebHook-Allowed-Origin` is neither our origin nor `*`",
        ]
    );
}

#[test]
fn a_rate_is_allowed_that_was_asked_for_and_kept_to_that_was_not() {
    let asking = Handshake::cloud_events("a.com", 120).unwrap();
    let question = exchange(&asking).question();
    assert_eq!(question.headers[1], ("webhook-request-rate", "120".to_owned()));
    let allowed = |rate| answer(200, &[("webhook-allowed-origin", "*"), ("webhook-allowed-rate", rate)], "");
    let rate = |handshake: &Handshake, answer| exchange(handshake).judge(&answer).unwrap().allowed_rate;
    let silent = Handshake::cloud_events("a.com", 0).unwrap();
    for handshake in [&asking, &silent] {
        assert_eq!(rate(handshake, allowed("30")), Some(30));
        assert_eq!(rate(handshake, allowed("99999999999999")), Some(6_000_000));
        assert_eq!(rate(handshake, allowed("*")), None);
        for bad in ["0", "-1", "1.5", "many", ""] {
            let wrong = exchange(handshake).judge(&allowed(bad)).unwrap_err();
            assert!(wrong.contains("neither a number above 0 nor `*`"), "{bad}: {wrong}");
        }
    }
    let without = answer(200, &[("webhook-allowed-origin", "*")], "");
    assert_eq!(rate(&silent, without.clone()), None);
    assert_eq!(wrong(&asking, &[without]), ["the header `WebHook-Allowed-Rate` is missing"]);
}

#[test]
fn slack_takes_its_challenge_as_text_as_a_form_and_as_json() {
    let slack = Handshake::slack("Jhj5dZrVaK7ZwHHjRyZWjbDl").unwrap();
    let question = exchange(&slack).question();
    assert_eq!((question.method, question.is_signed), (Method::Post, true));
    let body: Value = serde_json::from_str(&question.body.unwrap()).unwrap();
    let expected =
        json!({ "type": "url_verification", "token": "Jhj5dZrVaK7ZwHHjRyZWjbDl", "challenge": TEXT });
    assert_eq!(body, expected);
    let (form, json) = (format!("challenge={TEXT}"), format!(r#"{{"challenge":"{TEXT}"}}"#));
    right(&slack, &[answer(200, &[], TEXT), answer(200, &[], &form), answer(200, &[], &json)]);
    let shorter = &TEXT[1..];
    let bad = ["", shorter, "challenge=1", r#"{"challenge":1}"#, r#"{"ok":true}"#, "[]"];
    for body in bad.map(|body| answer(200, &[], body)) {
        assert_eq!(wrong(&slack, &[body]), ["the body is not the `challenge`"]);
    }
    assert_eq!(
        wrong(&slack, &[answer(302, &[], TEXT), answer(201, &[], TEXT)]),
        [
            "the receiver answered 302, a redirect, which is not followed, and must answer 200",
            "the receiver answered 201, and must answer 200"
        ]
    );
}

#[test]
fn a_hook_secret_is_echoed() {
    let question = exchange(&Handshake::HookSecret).question();
    assert_eq!(question.headers, [("x-hook-secret", SECRET.to_owned())]);
    assert_eq!((question.method, question.is_signed), (Method::Post, false));
    let echo = |status, secret| answer(status, &[("x-hook-secret", secret)], "");
    right(&Handshake::HookSecret, &[echo(200, SECRET), echo(204, SECRET)]);
    assert_eq!(
        wrong(&Handshake::HookSecret, &[answer(200, &[], SECRET), echo(200, "whsec_"), echo(202, SECRET)]),
        [
            "the header `X-Hook-Secret` is missing",
            "the header `X-Hook-Secret` is not what was sent",
            "the receiver answered 202, and must answer 200 or 204"
        ]
    );
}

#[test]
fn trello_wants_200() {
    assert_eq!(exchange(&Handshake::Trello).question().method, Method::Head);
    right(&Handshake::Trello, &[answer(200, &[], "")]);
    assert_eq!(wrong(&Handshake::Trello, &[answer(204, &[], "")]).len(), 1);
}

#[test]
fn meta_wants_its_number_as_the_body() {
    let meta = Handshake::meta("v&rify").unwrap();
    let question = exchange(&meta).question();
    let query: Vec<_> = question.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let challenge = format!("hub.challenge={NUMBER}");
    assert_eq!(query, ["hub.mode=subscribe", &challenge, "hub.verify_token=v&rify"]);
    right(&meta, &[answer(200, &[], NUMBER), answer(200, &[], &format!("{NUMBER}\n"))]);
    let bad = ["", "1", "v&rify", r#""1016909060""#].map(|body| answer(200, &[], body));
    assert_eq!(wrong(&meta, &bad).len(), bad.len());
    assert_eq!(wrong(&meta, &[answer(403, &[], NUMBER)]).len(), 1);
}

#[test]
fn ebay_wants_a_hash_of_code_token_and_endpoint() {
    let ebay = Handshake::ebay("71745723-d031-455c-bfa5-f90d11b4f20a").unwrap();
    assert_eq!(exchange(&ebay).question().query, [("challenge_code", CODE.to_owned())]);
    let hash = "591f9b0753a27df7fa07457b23d476516e4d6df003b77d8596321a32e39e9765";
    let response = |text: &str| answer(200, &[], &format!(r#"{{"challengeResponse":"{text}"}}"#));
    right(&ebay, &[response(hash), response(&hash.to_uppercase())]);
    assert_eq!(
        wrong(&ebay, &[response(&hash[1..]), answer(200, &[], "{}"), answer(200, &[], hash)]),
        [
            "`challengeResponse` in the body is not the one that is expected",
            "the body has no `challengeResponse`",
            "the body is not JSON"
        ]
    );
}

#[test]
fn linkedin_wants_its_code_and_a_signature_of_it() {
    let linkedin = Handshake::linkedin("s3cret").unwrap();
    assert_eq!(exchange(&linkedin).question().query, [("challengeCode", CODE.to_owned())]);
    let hash = "8ad8f7a8927b3f63ad2bcca36d1f3afcd6763143565f2ada39639763bcd8351c";
    let response = |code: &str, text: &str| {
        answer(200, &[], &json!({ "challengeCode": code, "challengeResponse": text }).to_string())
    };
    right(&linkedin, &[response(CODE, hash)]);
    let another = Handshake::linkedin("another").unwrap();
    assert_eq!(
        wrong(&another, &[response(CODE, hash), response(TEXT, hash)]),
        [
            "`challengeResponse` in the body is not the one that is expected",
            "`challengeCode` in the body is not what was sent"
        ]
    );
}
