//! Sees whether a target can be reached, and notes what is found on the way.
//!
//! ```text
//!   TargetCheck <── Witness <─┬─ resolver: all addresses, and which may be sent to
//!                             ├─ route: the address that was connected to
//!                             ├─ tls: the certificates, accepted or not; what was agreed on
//!                             └─ the answer to HEAD, or why there is none
//! ```
//!
//! A check goes the way of deliveries: the same guard, proxy, connector, certificates and limits. What looks on changes
//! nothing: it notes, and leaves each decision where it is. The one difference is that a check has a client of its own, so that it resolves,
//! connects and shakes hands in any case, and keeps no connection.
//!
//! Whatever is refused is shown and never connected to: a check tells about an internal network no more than its name servers do.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, header::LOCATION};
use tokio::time::{Instant, timeout_at};

use super::{HttpSender, failure, phases::Phases, pool, request, response};
use crate::{
    dispatch,
    domain::{
        attempt::{Failure, redirect},
        claim::Target,
        settings::Settings,
        target_check::{TargetCheck, TargetOutcome, TooManyChecks},
        target_url::TargetUrl,
        timestamp::Timestamp,
    },
    places::Full,
};

mod certificate;
mod connector;
mod problem;
mod tls;
mod witness;

pub(super) use connector::Watched;
pub(super) use tls::{WatchedIdentity, WatchedVerifier};
pub(super) use witness::{Witness, connected, looked_up};

/// How many checks a node makes at a time, and how many of one tenant.
pub(super) const MAX_CHECKS: usize = 32;
pub(super) const MAX_CHECKS_OF_TENANT: usize = 8;

/// Why there was no answer.
type Lack = (Failure, String);

impl HttpSender {
    /// Sees whether `target` can be reached, within the time that an attempt may take and within `patience`.
    pub async fn check(
        &self,
        target: &Target,
        now: Timestamp,
        patience: Duration,
    ) -> Result<TargetCheck, TooManyChecks> {
        let _one_of_few = self.0.checks.take(&target.tenant).map_err(|full| match full {
            Full::OfTenant => TooManyChecks::OfTenant(MAX_CHECKS_OF_TENANT),
            Full::Everywhere => TooManyChecks::OfNode(MAX_CHECKS),
        })?;
        let timeout = dispatch::Sender::timeout(self, target).min(patience);
        let (phases, witness) = (Phases::begin(), Arc::<Witness>::default());
        let outcome = match self.knock(target, now, timeout, &phases, &witness).await {
            Ok(answered) => answered,
            Err((failure, message)) => TargetOutcome::Failed { failure, message },
        };
        let (addresses, connection, tls) = witness.seen();
        Ok(TargetCheck {
            started_at: now,
            target_url: target.url.without_query(),
            addresses,
            connection,
            tls,
            outcome,
            timings: phases.timings(),
        })
    }

    async fn knock(
        &self,
        target: &Target,
        now: Timestamp,
        timeout: Duration,
        phases: &Arc<Phases>,
        witness: &Arc<Witness>,
    ) -> Result<TargetOutcome, Lack> {
        let sender = &self.0;
        let deadline = Instant::now() + timeout;
        if let Some(literal) = literal_address(target) {
            witness.found(&[literal], &sender.policy);
        }
        if let Err(refused) = sender.policy.check_url(&target.url) {
            return Err((Failure::AddressRefused, refused.to_string()));
        }
        let settings = target
            .settings
            .as_ref()
            .ok_or_else(|| (Failure::Internal, request::Unprepared::Settings.to_string()))?;
        let request = self.head(target, settings, now, timeout).await?;
        let client = sender.clients.watched(settings.tls.as_ref(), witness);
        let client = client.map_err(|cause| (Failure::Internal, cause.to_string()))?;
        let exchange = phases.observe(witness.look_on(client.request(request)));
        match timeout_at(deadline, exchange).await {
            Ok(Ok(answer)) => {
                phases.head_arrived();
                Ok(self.answered(target, answer.status(), answer.headers()))
            }
            Ok(Err(error)) => {
                let (failure, message) = failure::explain(&error, phases.stage());
                witness.failed(&error, phases.stage(), failure, &message);
                Err((failure, message))
            }
            Err(_) => {
                let stage = phases.stage();
                Err((Failure::Timeout, failure::timed_out(stage)))
            }
        }
    }

    fn answered(&self, target: &Target, status: StatusCode, headers: &HeaderMap) -> TargetOutcome {
        let location = headers.get(LOCATION).map(|location| String::from_utf8_lossy(location.as_bytes()));
        let location = location.as_deref().unwrap_or_default();
        let redirect = redirect(status.as_u16(), location);
        TargetOutcome::Answered {
            status: status.as_u16(),
            redirect_refused: redirect.as_ref().and_then(|_| self.judge(target, location).err()),
            redirect,
            headers: response::recorded_headers(headers),
        }
    }

    /// Whether a subscription could have as its target what an answer points to, as far as that can be told without looking it up.
    fn judge(&self, target: &Target, location: &str) -> Result<(), String> {
        let url = target.url.url().join(location).map_err(|cause| cause.to_string())?;
        let url = TargetUrl::parse(url.as_str()).map_err(|invalid| format!("it {}", invalid.reason))?;
        self.0.policy.check_url(&url).map_err(|refused| refused.to_string())
    }

    /// The request: what a delivery carries beside its event.
    async fn head(
        &self,
        target: &Target,
        settings: &Settings,
        now: Timestamp,
        timeout: Duration,
    ) -> Result<pool::Request, Lack> {
        let defect = |cause: String| (Failure::Internal, cause);
        let headers = request::headers(settings, &self.0.user_agent);
        let mut headers = headers.map_err(|cause| defect(cause.to_string()))?;
        if let Some(own) = &settings.authentication {
            let (name, value) = self.0.credentials.fresh_header(own, now, timeout).await?;
            headers.insert(name, value);
        }
        let mut request = pool::Request::new(Bytes::new().into());
        *request.method_mut() = Method::HEAD;
        *request.uri_mut() = Uri::try_from(target.url.as_str()).map_err(|cause| defect(cause.to_string()))?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// The host, if it is an address: those are never looked up.
fn literal_address(target: &Target) -> Option<IpAddr> {
    match target.url.url().host()? {
        url::Host::Ipv4(address) => Some(address.into()),
        url::Host::Ipv6(address) => Some(address.into()),
        url::Host::Domain(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{super::Config, *};

    #[tokio::test]
    async fn what_a_name_leads_to_is_shown_and_not_connected_to_where_it_is_refused() {
        let authority = rcgen::generate_simple_self_signed([]).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(authority.cert.pem().as_bytes()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());

        let config = Config { extra_ca_file: file.path().to_owned(), ..Config::default() };
        let sender = HttpSender::new(&config).unwrap();
        let witness = Arc::<Witness>::default();
        let client = sender.0.clients.watched(None, &witness).unwrap();
        // Past the first gate, which knows this name.
        let error = witness.look_on(client.get(&url)).await.unwrap_err();
        let (failure, message) = failure::explain(&error, super::super::phases::Stage::Dns);
        assert_eq!(failure, Failure::AddressRefused, "{message}");
        let (addresses, connection, tls) = witness.seen();
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(|found| found.refused_as == Some("loopback")), "{addresses:?}");
        assert_eq!((connection, tls), (None, None));
        assert!(futures_util::poll!(Box::pin(listener.accept())).is_pending(), "nobody has connected");
    }
}
