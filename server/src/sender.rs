//! Makes the HTTP request of one attempt: signs the event, keeps to the deadline, and says what came of it.
//!
//! ```text
//!   dispatch ── Claim ──> body, request (headers, signature) ──> client, pool (hyper) ──> receiver
//!                         credentials (who we are)                 │  resolver: only allowed addresses
//!                                                                  │  phases: what took how long
//!                                                                  │  meter: what it may cost
//!   dispatch <─ Attempt ── Outcome + Response + Timings <── response │ failure
//! ```
//!
//! - **No error for what others do.** A slow, broken or hostile receiver is an [`Outcome`], and so is a request that we
//!   could not build ([`Failure::Internal`]).
//! - **One deadline** for the whole exchange: name, connection, handshake, head, and the part of the body that is kept.
//! - **The address guard stands twice here**: before the request, as a host that is an address literal is never resolved;
//!   and in the resolver, for each address of a name. Redirects are not followed, proxies of the environment not used.
//!
//! [`handshake`] asks receivers beforehand whether they agree, by the same means. A [`check`] of a target goes the same way without an
//! event, and notes what is found there.
//!
//! Not here: whether and when another attempt follows ([`crate::domain::delivery`]), how many run at once and the tracing of
//! each ([`crate::dispatch`]).

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};

use crate::{
    dispatch,
    domain::{
        address::AddressPolicy,
        attempt::{Attempt, Failure, Outcome, Response, Wish},
        claim::{Claim, Target},
        event::Event,
        settings::Settings,
        timestamp::Timestamp,
        trace_context::TraceContext,
    },
    places::Places,
    threads::Threads,
};

mod authentication;
mod body;
mod build_error;
mod check;
mod client;
mod clients;
mod config;
mod credentials;
mod failure;
mod handshake;
mod meter;
mod overheard;
mod phases;
mod pinned;
mod pool;
mod proxy;
mod request;
mod resolver;
mod response;
mod route;
mod signature;
mod system_dns;
mod tls;
mod token_endpoint;
mod tokens;
mod transmit;

pub use build_error::BuildError;
pub use config::Config;
use credentials::Credentials;
use phases::Phases;
pub use proxy::ProxyUrl;
pub use request::{Prepared, Unprepared};

/// Sends over HTTP. Cheap to clone; all clones share their connections.
#[derive(Debug, Clone)]
pub struct HttpSender(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    policy: Arc<AddressPolicy>,
    user_agent: http::HeaderValue,
    clients: clients::Clients,
    credentials: Credentials,
    bodies: body::Bodies,
    /// Room for checks of targets.
    checks: Places,
    /// Where attempts are made; none: wherever they are begun.
    threads: Option<Threads>,
}

impl HttpSender {
    /// Makes a sender. Reads the certificates that it is to trust; nothing else happens before the first request.
    pub fn new(config: &Config) -> Result<Self, BuildError> {
        Self::make(config, None)
    }

    /// The same, which has attempts made on these threads: all at one subscription on the same one, where its connections are.
    pub fn on(threads: Threads, config: &Config) -> Result<Self, BuildError> {
        Self::make(config, Some(threads))
    }

    fn make(config: &Config, threads: Option<Threads>) -> Result<Self, BuildError> {
        let policy = Arc::new(config.address_policy());
        let user_agent = http::HeaderValue::from_str(&config.user_agent)?;
        let clients = clients::Clients::new(config, Arc::clone(&policy))?;
        let credentials =
            Credentials::new(Arc::clone(clients.shared()), Arc::clone(&policy), user_agent.clone());
        let (config, bodies) = (config.clone(), body::Bodies::default());
        let checks = Places::new(check::MAX_CHECKS, check::MAX_CHECKS_OF_TENANT);
        let inner = Inner { config, policy, user_agent, clients, credentials, bodies, checks, threads };
        Ok(Self(Arc::new(inner)))
    }

    /// Makes the request of an attempt that would begin at `now`, and sends nothing. What the receiver is shown as `authentication` is
    /// masked in it, so that no token is asked for.
    pub async fn preview(
        &self,
        event: &Arc<Event>,
        target: &Target,
        now: Timestamp,
    ) -> Result<Prepared, Unprepared> {
        let settings = target.settings.as_ref().ok_or(Unprepared::Settings)?;
        let mut prepared = self.prepare(event, target, settings, event.trace.as_ref(), now).await?;
        if let Some(own) = &settings.authentication {
            let masked = authentication::masked(own);
            let (name, value) = masked.map_err(|cause| Unprepared::Defect(cause.to_string()))?;
            prepared.headers.insert(name, value);
        }
        Ok(prepared)
    }

    async fn prepare(
        &self,
        event: &Arc<Event>,
        target: &Target,
        settings: &Settings,
        trace: Option<&TraceContext>,
        now: Timestamp,
    ) -> Result<Prepared, Unprepared> {
        let body = self.0.bodies.make(event, target, settings.form.as_ref()).await?;
        Ok(request::build(event, target, settings, body, trace, now, &self.0.user_agent)?)
    }

    async fn exchange(
        &self,
        claim: &Claim,
        trace: Option<&TraceContext>,
        now: Timestamp,
        phases: &Arc<Phases>,
    ) -> Exchange {
        let sender = &self.0;
        let target = &claim.target;
        let deadline = Instant::now() + dispatch::Sender::timeout(self, target);
        let Some(settings) = &target.settings else {
            return failed(Failure::Internal, Unprepared::Settings.to_string()).into();
        };
        if let Err(refused) = sender.policy.check_url(&target.url) {
            return failed(Failure::AddressRefused, refused.to_string()).into();
        }
        let prepared =
            match timeout_at(deadline, self.prepare(&claim.event, target, settings, trace, now)).await {
                Ok(Ok(prepared)) => prepared,
                Ok(Err(cause)) => return failed(cause.failure(), cause.to_string()).into(),
                Err(_) => {
                    let message = "timed out while other templates were rendered".to_owned();
                    return failed(Failure::Template, message).into();
                }
            };
        let arrived = self.transmit(target, settings, prepared, now, deadline, phases).await;
        let answer = match arrived {
            Ok(answer) => answer,
            Err((failure, message)) => return failed(failure, message).into(),
        };
        phases.head_arrived();
        let arrived = now + phases.elapsed();
        let status = answer.status().as_u16();
        let outcome = response::outcome(status, answer.headers(), arrived);
        let wish = response::wish(status, answer.headers());
        let headers = response::recorded_headers(answer.headers());
        let read = response::read_body(answer.into_body(), sender.config.max_response_bytes, deadline).await;
        // Other statuses have said what they had to say.
        let outcome = match outcome {
            Outcome::Acknowledged { .. } if read.timed_out => {
                failed(Failure::Timeout, "timed out while reading the response".to_owned())
            }
            decided => decided,
        };
        let response = Response { status, headers, body: read.body, truncated: read.truncated };
        Exchange { outcome, wish, response: Some(response) }
    }
}

/// What an exchange came to.
struct Exchange {
    outcome: Outcome,
    wish: Option<Wish>,
    response: Option<Response>,
}

/// Nothing came back.
impl From<Outcome> for Exchange {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, wish: None, response: None }
    }
}

impl dispatch::Sender for HttpSender {
    async fn send(&self, claim: &Claim, trace: Option<&TraceContext>, now: Timestamp) -> Attempt {
        let phases = Phases::begin();
        let Exchange { outcome, wish, response } = self.exchange(claim, trace, now, &phases).await;
        Attempt {
            number: claim.attempt,
            started_at: now,
            target_url: claim.target.url.without_query(),
            outcome,
            wish,
            response,
            timings: phases.timings(),
            span: None,
        }
    }

    fn timeout(&self, target: &Target) -> Duration {
        let own = target.settings.as_ref().and_then(|settings| settings.timeout);
        // The most may have been more when it was set.
        own.map_or(self.0.config.timeout, |own| own.min(self.0.config.max_timeout))
    }

    fn runtime(&self, target: &Target) -> Option<&Handle> {
        let threads = self.0.threads.as_ref()?;
        Some(threads.runtime_of(target.uid.uuid().as_u128()))
    }
}

fn failed(failure: Failure, message: String) -> Outcome {
    Outcome::Failed { failure, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        attempt::AttemptNumber,
        fixtures::{NOW, event, target},
        id::DeliveryId,
    };

    /// All of it is moved, more than once, for each attempt. What is waited for rarely is boxed.
    #[test]
    fn an_attempt_takes_few_bytes_whatever_it_may_have_to_wait_for() {
        let sender = HttpSender::new(&Config::default()).unwrap();
        let claim = Claim {
            delivery: DeliveryId::new(NOW),
            attempt: AttemptNumber::FIRST,
            event: Arc::new(event(b"{}", "")),
            target: Arc::new(target()),
            leased_until: NOW,
            previous_span: None,
            probe: None,
        };
        let attempt = dispatch::Sender::send(&sender, &claim, None, NOW);
        let bytes = size_of_val(&attempt);
        assert!(bytes <= 4_096, "it takes {bytes} bytes");
    }
}
