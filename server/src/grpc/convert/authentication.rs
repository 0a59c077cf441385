//! How a receiver is shown who is sending.

use postrider_proto::v1::{self as pb, ClientAuthenticationMethod, authentication::Method};

use crate::domain::{
    address::AddressPolicy,
    authentication::Authentication,
    client_credentials::{ClientCredentials, SentIn, TokenUrl},
    hidden::Hidden,
    invalid::Invalid,
};

/// Reads it. Tokens are asked for only where events may be sent to.
pub(super) fn own(
    authentication: &pb::Authentication,
    addresses: &AddressPolicy,
) -> Result<Authentication, Invalid> {
    let (field, read) = match &authentication.method {
        None => {
            let known = "`basic`, `bearer`, `api_key` or `client_credentials`";
            return Err(Invalid::new("method", format!("must be set: {known}")));
        }
        Some(Method::Basic(basic)) => ("basic", Authentication::basic(&basic.user, &basic.password)),
        Some(Method::Bearer(bearer)) => ("bearer", Authentication::bearer(&bearer.token)),
        Some(Method::ApiKey(key)) => ("api_key", Authentication::api_key(&key.header, &key.value)),
        Some(Method::ClientCredentials(credentials)) => {
            let read = client_credentials(credentials, addresses);
            ("client_credentials", read.map(Authentication::ClientCredentials))
        }
    };
    read.map_err(|invalid| invalid.within(field))
}

fn client_credentials(
    credentials: &pb::ClientCredentials,
    addresses: &AddressPolicy,
) -> Result<ClientCredentials, Invalid> {
    let token_url = TokenUrl::parse(&credentials.token_url)?;
    addresses.check_url(token_url.url()).map_err(|refused| Invalid::new("token_url", refused.to_string()))?;
    let sent_in = match ClientAuthenticationMethod::try_from(credentials.client_authentication) {
        Ok(ClientAuthenticationMethod::Unspecified | ClientAuthenticationMethod::Header) => SentIn::Header,
        Ok(ClientAuthenticationMethod::Body) => SentIn::Body,
        Err(_) => return Err(Invalid::new("client_authentication", "is not a known method")),
    };
    ClientCredentials::parse(ClientCredentials {
        token_url,
        client_id: credentials.client_id.clone(),
        client_secret: Hidden::new(&credentials.client_secret),
        scope: credentials.scope.clone(),
        audience: credentials.audience.clone(),
        extra: credentials.extra_parameters.clone().into_iter().collect(),
        sent_in,
    })
}

/// Shows it, with its secrets masked.
pub(super) fn to_authentication(own: &Authentication) -> pb::Authentication {
    let method = match own {
        Authentication::Basic { user, password } => Method::Basic(pb::BasicAuthentication {
            user: user.clone(),
            password: password.masked().to_owned(),
        }),
        Authentication::Bearer { token } => {
            Method::Bearer(pb::BearerToken { token: token.masked().to_owned() })
        }
        Authentication::ApiKey { header, value } => {
            Method::ApiKey(pb::ApiKey { header: header.clone(), value: value.masked().to_owned() })
        }
        Authentication::ClientCredentials(own) => Method::ClientCredentials(pb::ClientCredentials {
            token_url: own.token_url.url().as_str().to_owned(),
            client_id: own.client_id.clone(),
            client_secret: own.client_secret.masked().to_owned(),
            scope: own.scope.clone(),
            audience: own.audience.clone(),
            extra_parameters: own.extra.clone().into_iter().collect(),
            client_authentication: match own.sent_in {
                SentIn::Header => ClientAuthenticationMethod::Header,
                SentIn::Body => ClientAuthenticationMethod::Body,
            }
            .into(),
        }),
    };
    pb::Authentication { method: Some(method) }
}
