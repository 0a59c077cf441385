//! How callbacks are signed.

use postrider_proto::v1::{self as pb, signature_profile::Profile as Pb};

/// A scheme by which receivers verify callbacks. A subscription can have several at once, as long as no two of them write the same
/// header; without any, callbacks are signed as [`StandardWebhooks`](Self::StandardWebhooks) says.
///
/// ```
/// use postrider_sdk::{Subscription, model::{CustomHmac, SignatureProfile}};
///
/// // For receivers that were written for Stripe's webhooks, and for those that were written for yours.
/// let own = CustomHmac::new("X-Acme-Signature", "{timestamp}.{body}").timestamp_header("X-Acme-Timestamp");
/// let new = Subscription::to("https://example.com/hooks")
///     .event_types(["order.*"])
///     .signing([SignatureProfile::Stripe, SignatureProfile::CustomHmac(own)]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureProfile {
    /// `webhook-signature: v1,…`, as [`Verifier`](crate::verify::Verifier) verifies it.
    StandardWebhooks,
    /// `webhook-signature: v1a,…`: Ed25519. [`Subscriptions::public_key`](crate::Subscriptions::public_key) is for the receiver.
    StandardWebhooksEd25519,
    /// Standard Webhooks under the names of Svix.
    Svix,
    /// `Stripe-Signature`.
    Stripe,
    /// `X-Hub-Signature-256`, `X-GitHub-Event`, `X-GitHub-Delivery`.
    #[non_exhaustive]
    Github {
        /// Whether `X-Hub-Signature`, with SHA-1, is sent too.
        legacy_sha1: bool,
    },
    /// `X-Shopify-Hmac-Sha256` and the headers that come with it.
    #[non_exhaustive]
    Shopify {
        /// The topic; if empty, the event's type with slashes for its dots.
        topic: String,
        /// The shop, like `acme.myshopify.com`.
        shop_domain: String,
        /// The version of the API, like `2026-10`.
        api_version: String,
    },
    /// `X-Slack-Signature`.
    Slack,
    /// `X-Twilio-Signature`. Adds `bodySHA256` to the query of the URL.
    Twilio,
    /// `x-square-hmacsha256-signature`.
    Square,
    /// `X-HubSpot-Signature-v3`.
    Hubspot,
    /// A scheme of your own.
    CustomHmac(CustomHmac),
    /// A scheme newer than this SDK.
    Unrecognized,
}

impl SignatureProfile {
    /// As GitHub signs.
    ///
    /// ```
    /// let github = postrider_sdk::model::SignatureProfile::github();
    /// ```
    #[must_use]
    pub const fn github() -> Self {
        Self::Github { legacy_sha1: false }
    }

    /// As GitHub signs, with the header for receivers that know SHA-1 only beside it.
    #[must_use]
    pub const fn github_with_sha1() -> Self {
        Self::Github { legacy_sha1: true }
    }

    /// As Shopify signs.
    ///
    /// ```
    /// let shopify = postrider_sdk::model::SignatureProfile::shopify("acme.myshopify.com", "2026-10");
    /// ```
    pub fn shopify(shop_domain: impl Into<String>, api_version: impl Into<String>) -> Self {
        Self::Shopify {
            topic: String::new(),
            shop_domain: shop_domain.into(),
            api_version: api_version.into(),
        }
    }
}

/// An HMAC of your own.
///
/// ```
/// use postrider_sdk::model::{CustomHmac, HmacAlgorithm, SignatureEncoding};
///
/// let trello = CustomHmac::new("X-Trello-Webhook", "{body}{url}")
///     .algorithm(HmacAlgorithm::Sha1)
///     .encoding(SignatureEncoding::Base64);
/// let meta = CustomHmac::new("X-Hub-Signature-256", "{body}").prefix("sha256=");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CustomHmac {
    /// The header that carries the signature.
    pub header: String,
    /// The hash.
    pub algorithm: HmacAlgorithm,
    /// How the signature is written.
    pub encoding: SignatureEncoding,
    /// What stands before the signature; may hold `{timestamp}`, `{timestamp_ms}` and `{id}`.
    pub prefix: String,
    /// What is signed: text with `{body}`, `{timestamp}`, `{timestamp_ms}`, `{id}`, `{url}` and `{method}`.
    pub signed_content: String,
    /// The header that carries the time of the attempt, if not empty.
    pub timestamp_header: String,
}

/// The hash of an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HmacAlgorithm {
    /// SHA-1, for receivers that know no other.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// A hash newer than this SDK, with its number.
    Unrecognized(i32),
}

/// How the bytes of a signature are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignatureEncoding {
    /// Lower-case hexadecimal.
    Hex,
    /// Padded base64.
    Base64,
    /// An encoding newer than this SDK, with its number.
    Unrecognized(i32),
}

impl CustomHmac {
    /// HMAC-SHA256 of this content, in hexadecimal, in this header.
    pub fn new(header: impl Into<String>, signed_content: impl Into<String>) -> Self {
        Self {
            header: header.into(),
            algorithm: HmacAlgorithm::Sha256,
            encoding: SignatureEncoding::Hex,
            prefix: String::new(),
            signed_content: signed_content.into(),
            timestamp_header: String::new(),
        }
    }

    /// With another hash.
    #[must_use]
    pub fn algorithm(self, algorithm: HmacAlgorithm) -> Self {
        Self { algorithm, ..self }
    }

    /// Written otherwise.
    #[must_use]
    pub fn encoding(self, encoding: SignatureEncoding) -> Self {
        Self { encoding, ..self }
    }

    /// With this before the signature.
    #[must_use]
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// With the time of the attempt in this header.
    #[must_use]
    pub fn timestamp_header(self, name: impl Into<String>) -> Self {
        Self { timestamp_header: name.into(), ..self }
    }
}

pub(crate) fn to_pb(profiles: impl IntoIterator<Item = SignatureProfile>) -> pb::Signing {
    let profile = |profile| pb::SignatureProfile { profile: profile_to_pb(profile) };
    pb::Signing { profiles: profiles.into_iter().map(profile).collect() }
}

pub(crate) fn from_pb(signing: Option<pb::Signing>) -> Vec<SignatureProfile> {
    let profiles = signing.map(|signing| signing.profiles).unwrap_or_default();
    profiles.into_iter().map(|profile| profile_from_pb(profile.profile)).collect()
}

fn profile_to_pb(profile: SignatureProfile) -> Option<Pb> {
    Some(match profile {
        SignatureProfile::StandardWebhooks => Pb::StandardWebhooks(pb::StandardWebhooksSignature {}),
        SignatureProfile::StandardWebhooksEd25519 => {
            Pb::StandardWebhooksEd25519(pb::StandardWebhooksEd25519Signature {})
        }
        SignatureProfile::Svix => Pb::Svix(pb::SvixSignature {}),
        SignatureProfile::Stripe => Pb::Stripe(pb::StripeSignature {}),
        SignatureProfile::Github { legacy_sha1 } => Pb::Github(pb::GithubSignature { legacy_sha1 }),
        SignatureProfile::Shopify { topic, shop_domain, api_version } => {
            Pb::Shopify(pb::ShopifySignature { topic, shop_domain, api_version })
        }
        SignatureProfile::Slack => Pb::Slack(pb::SlackSignature {}),
        SignatureProfile::Twilio => Pb::Twilio(pb::TwilioSignature {}),
        SignatureProfile::Square => Pb::Square(pb::SquareSignature {}),
        SignatureProfile::Hubspot => Pb::Hubspot(pb::HubspotSignature {}),
        SignatureProfile::CustomHmac(custom) => Pb::CustomHmac(pb::CustomHmacSignature {
            header: custom.header,
            algorithm: match custom.algorithm {
                HmacAlgorithm::Sha1 => pb::HmacAlgorithm::Sha1.into(),
                HmacAlgorithm::Sha256 => pb::HmacAlgorithm::Sha256.into(),
                HmacAlgorithm::Sha512 => pb::HmacAlgorithm::Sha512.into(),
                HmacAlgorithm::Unrecognized(number) => number,
            },
            encoding: match custom.encoding {
                SignatureEncoding::Hex => pb::SignatureEncoding::Hex.into(),
                SignatureEncoding::Base64 => pb::SignatureEncoding::Base64.into(),
                SignatureEncoding::Unrecognized(number) => number,
            },
            prefix: custom.prefix,
            signed_content: custom.signed_content,
            timestamp_header: custom.timestamp_header,
        }),
        // The server refuses it: nothing is signed otherwise than it was asked for.
        SignatureProfile::Unrecognized => return None,
    })
}

fn profile_from_pb(profile: Option<Pb>) -> SignatureProfile {
    match profile {
        None => SignatureProfile::Unrecognized,
        Some(Pb::StandardWebhooks(_)) => SignatureProfile::StandardWebhooks,
        Some(Pb::StandardWebhooksEd25519(_)) => SignatureProfile::StandardWebhooksEd25519,
        Some(Pb::Svix(_)) => SignatureProfile::Svix,
        Some(Pb::Stripe(_)) => SignatureProfile::Stripe,
        Some(Pb::Github(github)) => SignatureProfile::Github { legacy_sha1: github.legacy_sha1 },
        Some(Pb::Shopify(pb::ShopifySignature { topic, shop_domain, api_version })) => {
            SignatureProfile::Shopify { topic, shop_domain, api_version }
        }
        Some(Pb::Slack(_)) => SignatureProfile::Slack,
        Some(Pb::Twilio(_)) => SignatureProfile::Twilio,
        Some(Pb::Square(_)) => SignatureProfile::Square,
        Some(Pb::Hubspot(_)) => SignatureProfile::Hubspot,
        Some(Pb::CustomHmac(custom)) => SignatureProfile::CustomHmac(CustomHmac {
            header: custom.header,
            algorithm: match pb::HmacAlgorithm::try_from(custom.algorithm) {
                Ok(pb::HmacAlgorithm::Sha1) => HmacAlgorithm::Sha1,
                Ok(pb::HmacAlgorithm::Sha256 | pb::HmacAlgorithm::Unspecified) => HmacAlgorithm::Sha256,
                Ok(pb::HmacAlgorithm::Sha512) => HmacAlgorithm::Sha512,
                Err(_) => HmacAlgorithm::Unrecognized(custom.algorithm),
            },
            encoding: match pb::SignatureEncoding::try_from(custom.encoding) {
                Ok(pb::SignatureEncoding::Hex | pb::SignatureEncoding::Unspecified) => SignatureEncoding::Hex,
                Ok(pb::SignatureEncoding::Base64) => SignatureEncoding::Base64,
                Err(_) => SignatureEncoding::Unrecognized(custom.encoding),
            },
            prefix: custom.prefix,
            signed_content: custom.signed_content,
            timestamp_header: custom.timestamp_header,
        }),
    }
}
