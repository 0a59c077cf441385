//! How a receiver is shown who is sending, beside the signature.

use std::collections::BTreeMap;

use postrider_proto::v1::{self as pb, ClientAuthenticationMethod, authentication::Method};

use super::Secret;

/// How a receiver is shown who is sending, beside the signature.
///
/// In a subscription that is read, secrets are masked; a masked one that is sent back in an update keeps what is stored.
///
/// ```
/// use postrider_sdk::model::{Authentication, ClientCredentials};
///
/// let basic = Authentication::basic("postrider", "s3cret");
/// let bearer = Authentication::bearer("eyJhbGciOi…");
/// let key = Authentication::api_key("x-api-key", "s3cret");
/// let oauth = Authentication::client_credentials(
///     ClientCredentials::new("https://id.example.com/oauth2/token", "postrider", "s3cret").scope("events.write"),
/// );
/// # let _ = (basic, bearer, key, oauth);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authentication {
    /// `Authorization: Basic …`.
    #[non_exhaustive]
    Basic {
        /// The user's name, which is shown.
        user: String,
        /// The password.
        password: Secret,
    },
    /// `Authorization: Bearer …` with a token that does not change.
    #[non_exhaustive]
    Bearer {
        /// The token, without `Bearer`.
        token: Secret,
    },
    /// A header with a key.
    #[non_exhaustive]
    ApiKey {
        /// The header's name; lower case in what is read.
        header: String,
        /// The key.
        value: Secret,
    },
    /// `Authorization: Bearer …` with a token that the server asks for and renews.
    ClientCredentials(ClientCredentials),
    /// A way that is newer than this SDK.
    Unrecognized,
}

impl Authentication {
    /// A user name without colon, and a password.
    pub fn basic(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Basic { user: user.into(), password: Secret::new(password.into()) }
    }

    /// A token, without `Bearer`.
    pub fn bearer(token: impl Into<String>) -> Self {
        Self::Bearer { token: Secret::new(token.into()) }
    }

    /// A header and the key in it.
    pub fn api_key(header: impl Into<String>, value: impl Into<String>) -> Self {
        Self::ApiKey { header: header.into(), value: Secret::new(value.into()) }
    }

    /// A token of the OAuth 2.0 client credentials grant.
    #[must_use]
    pub fn client_credentials(credentials: ClientCredentials) -> Self {
        Self::ClientCredentials(credentials)
    }

    pub(crate) fn into_pb(self) -> pb::Authentication {
        let method = match self {
            Self::Basic { user, password } => {
                Some(Method::Basic(pb::BasicAuthentication { user, password: password.into_inner() }))
            }
            Self::Bearer { token } => Some(Method::Bearer(pb::BearerToken { token: token.into_inner() })),
            Self::ApiKey { header, value } => {
                Some(Method::ApiKey(pb::ApiKey { header, value: value.into_inner() }))
            }
            Self::ClientCredentials(credentials) => Some(Method::ClientCredentials(credentials.into_pb())),
            Self::Unrecognized => None,
        };
        pb::Authentication { method }
    }

    pub(crate) fn from_pb(authentication: pb::Authentication) -> Self {
        match authentication.method {
            Some(Method::Basic(basic)) => Self::basic(basic.user, basic.password),
            Some(Method::Bearer(bearer)) => Self::bearer(bearer.token),
            Some(Method::ApiKey(key)) => Self::api_key(key.header, key.value),
            Some(Method::ClientCredentials(credentials)) => {
                Self::ClientCredentials(ClientCredentials::from_pb(credentials))
            }
            None => Self::Unrecognized,
        }
    }
}

/// The OAuth 2.0 client credentials grant: the server asks the token endpoint for a token, keeps it and renews it.
///
/// ```
/// use postrider_sdk::model::ClientCredentials;
///
/// let credentials = ClientCredentials::new("https://id.example.com/oauth2/token", "postrider", "s3cret")
///     .scope("events.write")
///     .audience("https://api.example.com")
///     .extra_parameter("resource", "urn:example:events")
///     .sent_in_body();
/// assert!(!format!("{credentials:?}").contains("s3cret"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCredentials {
    /// The token endpoint.
    pub token_url: String,
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: Secret,
    /// The scopes that are asked for, separated by spaces; may be empty.
    pub scope: String,
    /// The audience that is asked for; may be empty.
    pub audience: String,
    /// Further parameters of the request. They are shown.
    pub extra_parameters: BTreeMap<String, String>,
    /// Whether id and secret are sent as parameters and not as `Authorization: Basic …`.
    pub in_body: bool,
}

impl ClientCredentials {
    /// Asks there, as this client.
    pub fn new(
        token_url: impl Into<String>,
        client_id: impl Into<String>,
        client_secret: impl Into<String>,
    ) -> Self {
        Self {
            token_url: token_url.into(),
            client_id: client_id.into(),
            client_secret: Secret::new(client_secret.into()),
            scope: String::new(),
            audience: String::new(),
            extra_parameters: BTreeMap::new(),
            in_body: false,
        }
    }

    /// Asks for these scopes, separated by spaces.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = scope.into();
        self
    }

    /// Asks for a token for this audience.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = audience.into();
        self
    }

    /// Sends one more parameter. It is shown to those who read the subscription.
    #[must_use]
    pub fn extra_parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra_parameters.insert(name.into(), value.into());
        self
    }

    /// Sends id and secret as parameters and not as `Authorization: Basic …`.
    #[must_use]
    pub fn sent_in_body(mut self) -> Self {
        self.in_body = true;
        self
    }

    fn into_pb(self) -> pb::ClientCredentials {
        let method =
            if self.in_body { ClientAuthenticationMethod::Body } else { ClientAuthenticationMethod::Header };
        pb::ClientCredentials {
            token_url: self.token_url,
            client_id: self.client_id,
            client_secret: self.client_secret.into_inner(),
            scope: self.scope,
            audience: self.audience,
            extra_parameters: self.extra_parameters.into_iter().collect(),
            client_authentication: method.into(),
        }
    }

    fn from_pb(credentials: pb::ClientCredentials) -> Self {
        Self {
            in_body: credentials.client_authentication() == ClientAuthenticationMethod::Body,
            token_url: credentials.token_url,
            client_id: credentials.client_id,
            client_secret: Secret::new(credentials.client_secret),
            scope: credentials.scope,
            audience: credentials.audience,
            extra_parameters: credentials.extra_parameters.into_iter().collect(),
        }
    }
}
