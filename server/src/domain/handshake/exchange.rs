//! One question to a receiver, and what is a good answer to it. How it is sent is the sender's to say.

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    ALLOWED_ORIGIN, ALLOWED_RATE, Challenge, HOOK_SECRET, Handshake, MAX_RATE, Origin, REQUEST_ORIGIN,
    REQUEST_RATE,
};
use crate::domain::hexadecimal::hex;

/// A handshake with all that its question is made of.
pub struct Exchange<'a> {
    /// Which way.
    pub handshake: &'a Handshake,
    /// Drawn for it.
    pub challenge: Challenge,
    /// The target URL, as its owner has configured it.
    pub endpoint: &'a str,
    /// The text of the signing secret.
    pub secret: &'a str,
}

/// What is sent to the target URL.
#[derive(PartialEq, Eq)]
pub struct Question {
    /// The method.
    pub method: Method,
    /// What is added to the URL's query.
    pub query: Vec<(&'static str, String)>,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Option<String>,
    /// Whether it is signed as callbacks are.
    pub is_signed: bool,
}

/// The method of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `OPTIONS`.
    Options,
    /// `POST`.
    Post,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers, by their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, or the beginning of one that is too long.
    pub body: Bytes,
}

/// The receiver agrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Consent {
    /// How many callbacks a minute it allows, if it has set a limit.
    pub allowed_rate: Option<u32>,
}

impl Question {
    fn new(method: Method) -> Self {
        Self { method, query: Vec::new(), headers: Vec::new(), body: None, is_signed: false }
    }
}

impl Exchange<'_> {
    /// What is asked.
    #[must_use]
    pub fn question(&self) -> Question {
        match self.handshake {
            Handshake::CloudEvents { origin, rate } => {
                let mut headers = vec![(REQUEST_ORIGIN, origin.as_str().to_owned())];
                headers.extend(rate.map(|rate| (REQUEST_RATE, rate.to_string())));
                Question { headers, ..Question::new(Method::Options) }
            }
            Handshake::Slack { token } => {
                let body = json!({
                    "token": token.expose(), "challenge": self.challenge.text(), "type": "url_verification",
                });
                Question { body: Some(body.to_string()), is_signed: true, ..Question::new(Method::Post) }
            }
            Handshake::HookSecret => Question {
                headers: vec![(HOOK_SECRET, self.secret.to_owned())],
                // Some receivers' libraries fail on an empty body.
                body: Some("{}".to_owned()),
                ..Question::new(Method::Post)
            },
            Handshake::Trello => Question::new(Method::Head),
            Handshake::Meta { verify_token } => Question {
                query: vec![
                    ("hub.mode", "subscribe".to_owned()),
                    ("hub.challenge", self.challenge.number()),
                    ("hub.verify_token", verify_token.expose().to_owned()),
                ],
                ..Question::new(Method::Get)
            },
            Handshake::Ebay { .. } => Question {
                query: vec![("challenge_code", self.challenge.uuid())],
                ..Question::new(Method::Get)
            },
            Handshake::Linkedin { .. } => Question {
                query: vec![("challengeCode", self.challenge.uuid())],
                ..Question::new(Method::Get)
            },
        }
    }

    /// Whether the receiver agrees by this answer; if not, why it is none, in words that hold nothing of what it says.
    pub fn judge(&self, answer: &Answer) -> Result<Consent, String> {
        match self.handshake {
            Handshake::CloudEvents { origin, rate } => return cloud_events(answer, origin, *rate),
            Handshake::Slack { .. } => {
                expect_status(answer, &[200])?;
                expect(is_slack(&answer.body, &self.challenge.text()), "the body is not the `challenge`")
            }
            Handshake::HookSecret => {
                expect_status(answer, &[200, 204])?;
                let echo = answer.header(HOOK_SECRET).ok_or("the header `X-Hook-Secret` is missing")?;
                expect(same(echo, self.secret), "the header `X-Hook-Secret` is not what was sent")
            }
            Handshake::Trello => expect_status(answer, &[200]),
            Handshake::Meta { .. } => {
                expect_status(answer, &[200])?;
                expect(is_text(&answer.body, &self.challenge.number()), "the body is not `hub.challenge`")
            }
            Handshake::Ebay { verification_token } => {
                expect_status(answer, &[200])?;
                let code = self.challenge.uuid();
                let hash = Sha256::new()
                    .chain_update(code)
                    .chain_update(verification_token.expose())
                    .chain_update(self.endpoint)
                    .finalize();
                expect_response(&answer.json()?, &hash)
            }
            Handshake::Linkedin { client_secret } => {
                expect_status(answer, &[200])?;
                let (json, code) = (answer.json()?, self.challenge.uuid());
                let echoed = json.get("challengeCode").and_then(Value::as_str);
                expect(
                    echoed.is_some_and(|echo| same(echo, &code)),
                    "`challengeCode` in the body is not what was sent",
                )?;
                // It takes keys of any length.
                let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(client_secret.expose().as_bytes())
                    .map_err(|cause| cause.to_string())?;
                mac.update(code.as_bytes());
                expect_response(&json, &mac.finalize().into_bytes())
            }
        }
        .map(|()| Consent::default())
    }
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.trim())
    }

    fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|_| "the body is not JSON".to_owned())
    }
}

/// Consent is never told by the status (CloudEvents, HTTP 1.1 Web Hooks, 4.2).
fn cloud_events(answer: &Answer, origin: &Origin, asked: Option<u32>) -> Result<Consent, String> {
    let unless_found = match answer.status {
        status @ 300..=599 => format!("; the receiver answered {status}"),
        _ => String::new(),
    };
    let missing = |header: &str| format!("the header `{header}` is missing{unless_found}");
    let allowed = answer.header(ALLOWED_ORIGIN).ok_or_else(|| missing("WebHook-Allowed-Origin"))?;
    expect(
        allowed == "*" || allowed.eq_ignore_ascii_case(origin.as_str()),
        "the header `WebHook-Allowed-Origin` is neither our origin nor `*`",
    )?;
    let allowed_rate = match answer.header(ALLOWED_RATE) {
        Some("*") => None,
        Some(rate) => {
            let rate = rate.parse::<u64>().ok().filter(|rate| *rate > 0);
            let rate = rate.ok_or("the header `WebHook-Allowed-Rate` is neither a number above 0 nor `*`")?;
            Some(u32::try_from(rate).map_or(MAX_RATE, |rate| rate.min(MAX_RATE)))
        }
        None if asked.is_some() => return Err(missing("WebHook-Allowed-Rate")),
        None => None,
    };
    Ok(Consent { allowed_rate })
}

fn expect(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn expect_status(answer: &Answer, good: &[u16]) -> Result<(), String> {
    let status = answer.status;
    if good.contains(&status) {
        return Ok(());
    }
    let good: Vec<_> = good.iter().map(u16::to_string).collect();
    let redirect = if (300..400).contains(&status) { ", a redirect, which is not followed" } else { "" };
    Err(format!("the receiver answered {status}{redirect}, and must answer {}", good.join(" or ")))
}

/// `challengeResponse`, in hexadecimal.
fn expect_response(json: &Value, expected: &[u8]) -> Result<(), String> {
    let response = json.get("challengeResponse").and_then(Value::as_str);
    let response = response.ok_or("the body has no `challengeResponse`")?;
    expect(
        same(&response.to_ascii_lowercase(), &hex(expected)),
        "`challengeResponse` in the body is not the one that is expected",
    )
}

/// Plain text, a form, or JSON: Slack takes all three, whatever they are declared to be.
fn is_slack(body: &[u8], challenge: &str) -> bool {
    if is_text(body, challenge) {
        return true;
    }
    if let Ok(json) = serde_json::from_slice::<Value>(body) {
        return json.get("challenge").and_then(Value::as_str).is_some_and(|echo| same(echo, challenge));
    }
    let echo = url::form_urlencoded::parse(body.trim_ascii()).find(|(name, _)| name == "challenge");
    echo.is_some_and(|(_, echo)| same(&echo, challenge))
}

fn is_text(body: &[u8], expected: &str) -> bool {
    body.trim_ascii().ct_eq(expected.as_bytes()).into()
}

/// In a time that does not tell where they differ.
fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

#[cfg(test)]
mod tests;
