//! Asks for access tokens: OAuth 2.0 client credentials (RFC 6749, 4.4). What a token endpoint may cost is what a receiver may: it is
//! behind the same address guard and the same meter, its redirects are not followed, and it has a deadline.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderValue, Method, StatusCode, Uri,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use url::form_urlencoded::{Serializer, byte_serialize};

use super::{
    authentication,
    client::Client,
    failure,
    phases::Phases,
    pool::Request,
    response::{self, Read},
    tokens::Granted,
};
use crate::domain::{
    address::AddressPolicy,
    authentication::is_token_text,
    client_credentials::{ClientCredentials, SentIn},
};

/// The longest answer: tokens are a few KiB long at most.
const MAX_ANSWER: usize = 32 * 1024;
/// How long a token lasts that does not say.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(10);
/// The longest that a token is kept, whatever it says.
const MAX_LIFETIME: Duration = Duration::from_hours(24);
/// The longest that an endpoint's own words are made, in characters.
const MAX_WORDS: usize = 200;

/// Asks token endpoints.
#[derive(Debug, Clone)]
pub(super) struct TokenEndpoint {
    client: Arc<Client>,
    policy: Arc<AddressPolicy>,
    user_agent: HeaderValue,
}

impl TokenEndpoint {
    pub(super) fn new(client: Arc<Client>, policy: Arc<AddressPolicy>, user_agent: HeaderValue) -> Self {
        Self { client, policy, user_agent }
    }

    /// Asks for a token; if there is none, says why, in words that hold no secret.
    pub(super) fn ask(
        &self,
        credentials: ClientCredentials,
        timeout: Duration,
    ) -> impl Future<Output = Result<Granted, String>> + Send + 'static {
        let endpoint = self.clone();
        async move {
            let deadline = Instant::now() + timeout;
            endpoint.policy.check_url(credentials.token_url.url()).map_err(|refused| refused.to_string())?;
            let request = endpoint.request(&credentials).map_err(|cause| cause.to_string())?;
            let phases = Phases::begin();
            let exchange = phases.observe(endpoint.client.request(request));
            let answer = match timeout_at(deadline, exchange).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => return Err(of_endpoint(&failure::explain(&error, phases.stage()).1)),
                Err(_) => return Err(of_endpoint(&failure::timed_out(phases.stage()))),
            };
            let status = answer.status();
            let read = response::read_body(answer.into_body(), MAX_ANSWER, deadline).await;
            judge(status, &read, &credentials)
        }
    }

    fn request(&self, credentials: &ClientCredentials) -> Result<Request, http::Error> {
        let ClientCredentials { token_url, client_id, client_secret, scope, audience, extra, sent_in } =
            credentials;
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        for (name, value) in [("scope", scope), ("audience", audience)] {
            if !value.is_empty() {
                form.append_pair(name, value);
            }
        }
        form.extend_pairs(extra);
        let mut authorization = None;
        match sent_in {
            SentIn::Header => {
                // Both are encoded before they are put together (RFC 6749, 2.3.1).
                let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                let (id, secret) = (encoded(client_id), encoded(client_secret.expose()));
                authorization = Some(authentication::basic(&id, &secret)?);
            }
            SentIn::Body => {
                form.append_pair("client_id", client_id);
                form.append_pair("client_secret", client_secret.expose());
            }
        }
        let mut request = Request::new(form.finish().into());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::try_from(token_url.url().as_str())?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(USER_AGENT, self.user_agent.clone());
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        Ok(request)
    }
}

/// A token (RFC 6749, 5.1).
#[derive(Deserialize)]
struct Given {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Value>,
}

/// A refusal (RFC 6749, 5.2).
#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_description: String,
}

fn judge(status: StatusCode, read: &Read, credentials: &ClientCredentials) -> Result<Granted, String> {
    if !status.is_success() {
        let words = refusal(&read.body, credentials.client_secret.expose());
        return Err(format!("the token endpoint answered {}{words}", status.as_u16()));
    }
    if read.timed_out {
        return Err("the token endpoint did not end its answer in time".to_owned());
    }
    if read.truncated && read.body.len() >= MAX_ANSWER {
        return Err(format!("the token endpoint's answer is longer than {MAX_ANSWER} bytes"));
    }
    let given: Given = serde_json::from_slice(&read.body)
        .map_err(|_| "the token endpoint's answer is not JSON with an `access_token`".to_owned())?;
    // Some leave the type out, against the specification.
    if given.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err("the token endpoint gave a token of another type than `Bearer`".to_owned());
    }
    let header = Some(given.access_token.as_str()).filter(|token| is_token_text(token));
    let header = header.and_then(|token| authentication::bearer(token).ok()).ok_or_else(|| {
        "the token endpoint gave a token that is empty, too long or does not fit in a header".to_owned()
    })?;
    Ok(Granted { header, lifetime: lifetime(given.expires_in.as_ref()) })
}

/// Seconds, which some write as a string.
fn lifetime(expires_in: Option<&Value>) -> Duration {
    let seconds = match expires_in {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let said =
        seconds.map(|seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(MAX_LIFETIME));
    said.unwrap_or(DEFAULT_LIFETIME).min(MAX_LIFETIME)
}

/// The endpoint's own words, without what it should not have repeated.
fn refusal(body: &[u8], secret: &str) -> String {
    let Ok(Refusal { error, error_description }) = serde_json::from_slice(body) else {
        return String::new();
    };
    let words = if error_description.is_empty() { error } else { format!("{error}: {error_description}") };
    if words.contains(secret) {
        return String::new();
    }
    let words = words.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    format!(": {}", words.take(MAX_WORDS).collect::<String>())
}

/// Says who it was, where an explanation does not.
fn of_endpoint(explanation: &str) -> String {
    format!("of the token endpoint: {explanation}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_number_in_any_form() {
        let seconds = |text: &str| lifetime(serde_json::from_str(text).ok().as_ref()).as_secs();
        assert_eq!(seconds("3600"), 3_600);
        assert_eq!(seconds("3599.5"), 3_599);
        assert_eq!(seconds("\"3600\""), 3_600);
        assert_eq!((seconds("0"), seconds("-1")), (0, 0));
        assert_eq!((seconds("1e300"), seconds("86401")), (86_400, 86_400));
        for nothing in ["null", "\"soon\"", "[]", "{}"] {
            assert_eq!(seconds(nothing), 600, "{nothing}");
        }
        assert_eq!(lifetime(None), DEFAULT_LIFETIME);
    }

    #[test]
    fn an_endpoints_words_are_told_without_secrets_and_up_to_a_length() {
        let words = |body: &str| refusal(body.as_bytes(), "s3cret");
        assert_eq!(words(r#"{"error":"invalid_client"}"#), ": invalid_client");
        assert_eq!(
            words(r#"{"error":"invalid_scope","error_description":"no\nsuch scope"}"#),
            ": invalid_scope: no such scope"
        );
        assert_eq!(words(r#"{"error":"no s3cret"}"#), "");
        assert_eq!(words("<html>"), "");
        assert_eq!(words(&format!(r#"{{"error":"{}"}}"#, "x".repeat(1_000))).len(), MAX_WORDS + 2);
    }
}
