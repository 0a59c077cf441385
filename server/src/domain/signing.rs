//! How a subscription's callbacks are signed: by which of the schemes that receivers know, and by which of them at once.
//!
//! What each scheme looks like on the wire is told in [`crate::sender`], which writes it; here is what an owner can say, and what of
//! it cannot be at the same time.

use serde::{Deserialize, Serialize};

use super::{
    invalid::Invalid,
    secret::{NewKeys, SecretKind},
    target_url::TargetUrl,
};

mod custom;
mod header;
mod profile;
mod shopify;
mod template;

pub use custom::{Algorithm, CustomHmac, Encoding};
pub use header::SignatureHeader;
pub use profile::Profile;
pub use shopify::Shopify;
pub use template::{Part, Template};

/// The most profiles of one subscription: each known one, and some of its own making.
pub const MAX_PROFILES: usize = 16;
/// What Twilio's signature adds to the query of the URL.
pub const TWILIO_BODY_HASH: &str = "bodySHA256";

/// The profiles that sign each callback, all of them at once. Never none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signing(Vec<Profile>);

impl Signing {
    /// Checks that the profiles can be together: each header has one author.
    pub fn new(profiles: Vec<Profile>) -> Result<Self, Invalid> {
        if profiles.is_empty() || profiles.len() > MAX_PROFILES {
            let reason = format!(
                "must have from 1 to {MAX_PROFILES} profiles; without `signing`, callbacks are signed as Standard Webhooks says"
            );
            return Err(Invalid::new("profiles", reason));
        }
        let mut headers = Vec::<(String, usize)>::new();
        for (index, profile) in profiles.iter().enumerate() {
            let field = |part: &str| format!("profiles[{index}].{}{part}", profile.name());
            let is_of_its_kind =
                |other: &Profile| std::mem::discriminant(other) == std::mem::discriminant(profile);
            if !matches!(profile, Profile::CustomHmac(_)) && profiles[..index].iter().any(is_of_its_kind) {
                return Err(Invalid::new(field(""), "is there twice"));
            }
            for (part, header) in profile.headers() {
                if let Some((_, author)) = headers.iter().find(|(known, _)| *known == header) {
                    let reason = format!("writes the header `{header}`, as `profiles[{author}]` does");
                    return Err(Invalid::new(field(part), reason));
                }
                headers.push((header, index));
            }
        }
        Ok(Self(profiles))
    }

    /// The profiles.
    #[must_use]
    pub fn profiles(&self) -> &[Profile] {
        &self.0
    }

    /// The headers that they write, in lower case; those of Standard Webhooks are always written.
    pub fn headers(&self) -> impl Iterator<Item = String> {
        self.0.iter().flat_map(Profile::headers).map(|(_, header)| header)
    }

    /// Whether a pair of keys signs.
    #[must_use]
    pub fn needs_key_pair(&self) -> bool {
        self.0.contains(&Profile::StandardWebhooksEd25519)
    }

    /// Whether the secret signs.
    #[must_use]
    pub fn needs_secret(&self) -> bool {
        self.0.iter().any(|profile| *profile != Profile::StandardWebhooksEd25519)
    }

    /// Whether a header holds signatures by all secrets in force, and not only by the one whose turn it is.
    #[must_use]
    pub fn has_lists(&self) -> bool {
        self.0.iter().any(Profile::is_list)
    }

    /// Checks that requests to this URL can be signed.
    pub fn check_target(&self, target: &TargetUrl) -> Result<(), Invalid> {
        let hashes = |profile: &Profile| *profile == Profile::Twilio;
        if self.0.iter().any(hashes) && target.url().query_pairs().any(|(name, _)| name == TWILIO_BODY_HASH) {
            let reason = format!(
                "must not have `{TWILIO_BODY_HASH}` in its query: Twilio's signature adds it to each request"
            );
            return Err(Invalid::new("target_url", reason));
        }
        Ok(())
    }
}

/// Checks that a subscription that is signed like this can be signed with this secret. The error names no field: it may be the
/// profiles or the secret that is new.
pub fn check_secret(signing: Option<&Signing>, secret: SecretKind) -> Result<(), &'static str> {
    let needs_bytes =
        signing.is_none_or(|signing| signing.profiles().iter().any(Profile::needs_standard_key));
    match secret {
        SecretKind::Text if needs_bytes => Err(
            "Standard Webhooks and Svix sign with secrets that are `whsec_` and the padded base64 of 24 to 64 bytes only",
        ),
        SecretKind::Text | SecretKind::Bytes => Ok(()),
    }
}

/// Checks that a subscription that is signed like this can be signed with these keys, and is signed with what was brought.
pub fn check_keys(signing: Option<&Signing>, keys: &NewKeys) -> Result<(), &'static str> {
    match keys {
        NewKeys::Secret(_) if signing.is_some_and(|signing| !signing.needs_secret()) => {
            return Err(
                "`standard_webhooks_ed25519` alone signs with no secret, but with an Ed25519 key: `whsk_` and the padded base64 of its \
                 seed (32 bytes), or of its seed and its public key (64 bytes)",
            );
        }
        NewKeys::KeyPair(..) if !signing.is_some_and(Signing::needs_key_pair) => {
            return Err(
                "`whsk_…` is an Ed25519 key, with which `standard_webhooks_ed25519` alone signs, and that is not among its profiles",
            );
        }
        NewKeys::Drawn(_) | NewKeys::Secret(_) | NewKeys::KeyPair(..) => {}
    }
    check_secret(signing, keys.secret().kind())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::{KeyPair, SigningSecret};

    fn custom(header: &str, timestamp_header: &str) -> Profile {
        let hmac = CustomHmac {
            timestamp_header: Some(timestamp_header)
                .filter(|name| !name.is_empty())
                .map(|name| SignatureHeader::parse("", name).unwrap()),
            ..CustomHmac::new(
                SignatureHeader::parse("header", header).unwrap(),
                Template::signed("{body}").unwrap(),
            )
        };
        Profile::CustomHmac(hmac)
    }

    #[test]
    fn profiles_that_write_different_headers_can_be_together() {
        let all = vec![
            Profile::StandardWebhooks,
            Profile::StandardWebhooksEd25519,
            Profile::Svix,
            Profile::Stripe,
            Profile::Github { legacy_sha1: true },
            Profile::Slack,
            Profile::Twilio,
            Profile::Square,
            Profile::Hubspot,
            custom("X-Acme-Signature", "X-Acme-Timestamp"),
            custom("X-Other-Signature", ""),
        ];
        let signing = Signing::new(all).unwrap();
        assert!(signing.needs_key_pair());
        assert!(signing.headers().any(|header| header == "x-acme-timestamp"));
    }

    #[test]
    fn each_header_has_one_author() {
        let github = Profile::Github { legacy_sha1: false };
        for (profiles, field) in [
            (vec![], "profiles"),
            (vec![custom("X-A", ""); 17], "profiles"),
            (vec![Profile::Slack, Profile::Slack], "profiles[1].slack"),
            (vec![github.clone(), Profile::Github { legacy_sha1: true }], "profiles[1].github"),
            (vec![github.clone(), custom("x-hub-signature-256", "")], "profiles[1].custom_hmac.header"),
            (vec![custom("X-GitHub-Event", ""), github], "profiles[1].github"),
            (vec![custom("X-A", ""), custom("x-a", "")], "profiles[1].custom_hmac.header"),
            (vec![custom("X-A", "x-a")], "profiles[0].custom_hmac.timestamp_header"),
            (
                vec![Profile::Hubspot, custom("X-A", "X-HubSpot-Request-Timestamp")],
                "profiles[1].custom_hmac.timestamp_header",
            ),
        ] {
            assert_eq!(Signing::new(profiles).unwrap_err().field, field);
        }
    }

    #[test]
    fn only_standard_webhooks_minds_what_a_secret_is() {
        let signing = |profile| Signing::new(vec![Profile::Stripe, profile]).unwrap();
        for (signing, fits) in [
            (None, false),
            (Some(signing(Profile::StandardWebhooks)), false),
            (Some(signing(Profile::Svix)), false),
            (Some(signing(Profile::StandardWebhooksEd25519)), true),
            (Some(signing(Profile::Twilio)), true),
        ] {
            assert_eq!(check_secret(signing.as_ref(), SecretKind::Text).is_ok(), fits, "{signing:?}");
            assert_eq!(check_secret(signing.as_ref(), SecretKind::Bytes), Ok(()));
        }
    }

    #[test]
    fn what_is_brought_must_sign() {
        let secret = || SigningSecret::from_bytes(vec![7; 32]);
        let pair = KeyPair::from_seed(&[7; 32]).unwrap();
        let keys = [NewKeys::Drawn(secret()), NewKeys::Secret(secret()), NewKeys::KeyPair(pair, secret())];
        let signing = |profiles| Some(Signing::new(profiles).unwrap());
        let ed25519 = Profile::StandardWebhooksEd25519;
        for (signing, fits) in [
            (None, [true, true, false]),
            (signing(vec![Profile::Stripe]), [true, true, false]),
            (signing(vec![ed25519.clone()]), [true, false, true]),
            (signing(vec![ed25519, Profile::Slack]), [true, true, true]),
        ] {
            let found = keys.each_ref().map(|keys| check_keys(signing.as_ref(), keys).is_ok());
            assert_eq!(found, fits, "{signing:?}");
        }
    }

    #[test]
    fn twilio_minds_its_parameter_in_the_url() {
        let url = TargetUrl::parse("https://example.com/?a=1&bodySHA256=0").unwrap();
        let signing = |profile| Signing::new(vec![profile]).unwrap();
        assert_eq!(signing(Profile::Twilio).check_target(&url).unwrap_err().field, "target_url");
        assert_eq!(signing(Profile::Square).check_target(&url), Ok(()));
    }
}
