//! Judges recorded callbacks by the vendors' Rust libraries: `judge RECORDING`.
//!
//! A callback must be verified with each secret that signs it, and refused with any other secret and once its body is changed.

use std::{collections::BTreeMap, error::Error, fs, process::ExitCode};

use base64::{Engine, prelude::BASE64_STANDARD};

const STRANGER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// One recorded callback.
#[derive(serde::Deserialize)]
struct Call {
    profile: String,
    headers: BTreeMap<String, String>,
    body: String,
    secrets: Vec<String>,
}

/// Whether a library verifies these headers and this body with a secret.
type Judge = fn(&BTreeMap<String, String>, &[u8], &str) -> Result<(), Box<dyn Error>>;

const JUDGES: [(&str, Judge); 2] = [("standard_webhooks", standard_webhooks), ("svix", svix)];

fn standard_webhooks(
    headers: &BTreeMap<String, String>,
    body: &[u8],
    secret: &str,
) -> Result<(), Box<dyn Error>> {
    Ok(standardwebhooks::Webhook::new(secret)?.verify(body, &named(headers, "webhook-")?)?)
}

fn svix(headers: &BTreeMap<String, String>, body: &[u8], secret: &str) -> Result<(), Box<dyn Error>> {
    Ok(svix::webhooks::Webhook::new(secret)?.verify(body, &named(headers, "svix-")?)?)
}

/// Those whose names begin like this, so that a library cannot choose other ones.
fn named(headers: &BTreeMap<String, String>, prefix: &str) -> Result<http::HeaderMap, Box<dyn Error>> {
    let mut named = http::HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| name.starts_with(prefix)) {
        named.insert(http::HeaderName::try_from(name)?, value.parse()?);
    }
    Ok(named)
}

fn judge(recording: &str) -> Result<BTreeMap<&'static str, usize>, Box<dyn Error>> {
    let mut judged = BTreeMap::new();
    for line in recording.lines() {
        let call: Call = serde_json::from_str(line)?;
        let Some((profile, judge)) = JUDGES.into_iter().find(|(profile, _)| *profile == call.profile) else {
            continue;
        };
        let body = BASE64_STANDARD.decode(&call.body)?;
        let changed = String::from_utf8(body.clone())?.replace("1.10", "9.99").into_bytes();
        if changed == body {
            return Err(format!("{profile}: the body cannot be changed").into());
        }
        for secret in &call.secrets {
            judge(&call.headers, &body, secret).map_err(|cause| format!("{profile}: refused: {cause}"))?;
            if judge(&call.headers, &changed, secret).is_ok() {
                return Err(format!("{profile}: a changed body was verified").into());
            }
        }
        if judge(&call.headers, &body, STRANGER).is_ok() {
            return Err(format!("{profile}: verified with a wrong secret").into());
        }
        *judged.entry(profile).or_default() += 1;
    }
    match JUDGES.iter().find(|(profile, _)| judged.get(profile).is_none_or(|count| *count < 3)) {
        Some((profile, _)) => Err(format!("{profile}: too few callbacks were recorded").into()),
        None => Ok(judged),
    }
}

fn main() -> ExitCode {
    let judged = std::env::args().nth(1).ok_or_else(|| "usage: judge RECORDING".into());
    match judged.and_then(|path| judge(&fs::read_to_string(path)?)) {
        Ok(judged) => {
            let counts: Vec<_> = judged.iter().map(|(profile, count)| format!("{profile} {count}")).collect();
            println!("Rust: {}", counts.join(", "));
            ExitCode::SUCCESS
        }
        Err(cause) => {
            eprintln!("{cause}");
            ExitCode::FAILURE
        }
    }
}
