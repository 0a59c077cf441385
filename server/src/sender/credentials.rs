//! What shows the receiver of a subscription who we are: made of what its owner has set, or asked for at a token endpoint.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use moka::{policy::EvictionPolicy, sync::Cache};

use super::{authentication, client::Client, token_endpoint::TokenEndpoint, tokens::Holder};
use crate::domain::{
    address::AddressPolicy, attempt::Failure, authentication::Authentication, claim::Target,
    id::SubscriptionUid, timestamp::Timestamp,
};

/// How many subscriptions' tokens are kept.
const MAX_HOLDERS: u64 = 10_000;
/// How long the token of a subscription that is sent nothing is kept.
const UNUSED: Duration = Duration::from_hours(24);

/// Makes the header of each request that needs one.
#[derive(Debug)]
pub(super) struct Credentials {
    endpoint: TokenEndpoint,
    /// By subscription and its revision.
    holders: Cache<(SubscriptionUid, i64), Arc<Holder>>,
}

/// There is nothing to show.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lack {
    /// The token endpoint gave no token.
    #[error("no access token: {0}")]
    Token(Arc<str>),
    /// What is set does not fit in a header. It was checked when it was set.
    #[error("the subscription's authentication does not fit in a header")]
    Value(#[from] http::header::InvalidHeaderValue),
    /// Nor does the name that is set.
    #[error("the subscription's authentication names no header")]
    Name(#[from] http::header::InvalidHeaderName),
}

impl From<Lack> for (Failure, String) {
    fn from(lack: Lack) -> Self {
        let failure = match lack {
            Lack::Token(_) => Failure::Authentication,
            Lack::Value(_) | Lack::Name(_) => Failure::Internal,
        };
        (failure, lack.to_string())
    }
}

impl Credentials {
    /// Asks for tokens with this client.
    pub(super) fn new(client: Arc<Client>, policy: Arc<AddressPolicy>, user_agent: HeaderValue) -> Self {
        let holders = Cache::builder()
            .max_capacity(MAX_HOLDERS)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(UNUSED)
            .build();
        Self { endpoint: TokenEndpoint::new(client, policy, user_agent), holders }
    }

    /// The header for an attempt at `target` that begins at `now` and may take so long.
    pub(super) async fn header(
        &self,
        own: &Authentication,
        target: &Target,
        now: Timestamp,
        timeout: Duration,
    ) -> Result<(HeaderName, HeaderValue), Lack> {
        let holder = || self.holders.get_with((target.uid, target.revision), Arc::default);
        self.make(own, holder, now, timeout).await
    }

    /// The header for a request that is no attempt: a token is asked for, and not kept.
    pub(super) async fn fresh_header(
        &self,
        own: &Authentication,
        now: Timestamp,
        timeout: Duration,
    ) -> Result<(HeaderName, HeaderValue), Lack> {
        self.make(own, Arc::default, now, timeout).await
    }

    async fn make(
        &self,
        own: &Authentication,
        holder: impl FnOnce() -> Arc<Holder>,
        now: Timestamp,
        timeout: Duration,
    ) -> Result<(HeaderName, HeaderValue), Lack> {
        Ok(match own {
            Authentication::Basic { user, password } => {
                (AUTHORIZATION, authentication::basic(user, password.expose())?)
            }
            Authentication::Bearer { token } => (AUTHORIZATION, authentication::bearer(token.expose())?),
            Authentication::ApiKey { header, value } => {
                (HeaderName::from_bytes(header.as_bytes())?, authentication::secret(value.expose())?)
            }
            Authentication::ClientCredentials(own) => {
                // Half of the time for the token, so that as much is left for what it is for.
                let ask = || self.endpoint.ask(own.clone(), timeout / 2);
                (AUTHORIZATION, holder().token(now, ask).await.map_err(Lack::Token)?)
            }
        })
    }

    /// The receiver has answered 401 to an attempt that began at `now`.
    pub(super) fn refused(&self, target: &Target, now: Timestamp) {
        if let Some(holder) = self.holders.get(&(target.uid, target.revision)) {
            holder.refused(now);
        }
    }
}
