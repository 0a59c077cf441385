//! How a subscription's callbacks are signed, and with what.

use std::time::Duration;

use postrider_proto::v1::{self as pb, signature_profile::Profile as Pb};

use crate::domain::{
    invalid::Invalid,
    secret::NewKeys,
    signing::{
        Algorithm, CustomHmac, Encoding, Profile, Shopify, SignatureHeader, Signing, Template, check_keys,
    },
    timestamp::Timestamp,
};
use crate::store::keyring::draw_signing_secret;

/// How far ahead a secret's turn can be.
const MAX_NOTICE: Duration = Duration::from_hours(30 * 24);

/// Reads the profiles.
pub(super) fn signing(message: &pb::Signing) -> Result<Signing, Invalid> {
    let read = |(index, message): (usize, &pb::SignatureProfile)| {
        profile(message.profile.as_ref()).map_err(|invalid| invalid.within(&format!("profiles[{index}]")))
    };
    Signing::new(message.profiles.iter().enumerate().map(read).collect::<Result<_, _>>()?)
}

fn profile(message: Option<&Pb>) -> Result<Profile, Invalid> {
    let message = message.ok_or_else(|| {
        Invalid::new("profile", "is missing, or is newer than this server: one of the profiles must be set")
    })?;
    Ok(match message {
        Pb::StandardWebhooks(_) => Profile::StandardWebhooks,
        Pb::StandardWebhooksEd25519(_) => Profile::StandardWebhooksEd25519,
        Pb::Svix(_) => Profile::Svix,
        Pb::Stripe(_) => Profile::Stripe,
        Pb::Github(github) => Profile::Github { legacy_sha1: github.legacy_sha1 },
        Pb::Shopify(shopify) => {
            let read = Shopify::parse(&shopify.topic, &shopify.shop_domain, &shopify.api_version);
            Profile::Shopify(read.map_err(|invalid| invalid.within("shopify"))?)
        }
        Pb::Slack(_) => Profile::Slack,
        Pb::Twilio(_) => Profile::Twilio,
        Pb::Square(_) => Profile::Square,
        Pb::Hubspot(_) => Profile::Hubspot,
        Pb::CustomHmac(custom) => {
            Profile::CustomHmac(custom_hmac(custom).map_err(|invalid| invalid.within("custom_hmac"))?)
        }
    })
}

fn custom_hmac(message: &pb::CustomHmacSignature) -> Result<CustomHmac, Invalid> {
    let timestamp_header = Some(&message.timestamp_header).filter(|name| !name.is_empty());
    let custom = CustomHmac {
        header: SignatureHeader::parse("header", &message.header)?,
        algorithm: match pb::HmacAlgorithm::try_from(message.algorithm) {
            Ok(pb::HmacAlgorithm::Unspecified | pb::HmacAlgorithm::Sha256) => Algorithm::Sha256,
            Ok(pb::HmacAlgorithm::Sha1) => Algorithm::Sha1,
            Ok(pb::HmacAlgorithm::Sha512) => Algorithm::Sha512,
            Err(_) => return Err(Invalid::new("algorithm", "must be SHA-1, SHA-256 or SHA-512")),
        },
        encoding: match pb::SignatureEncoding::try_from(message.encoding) {
            Ok(pb::SignatureEncoding::Unspecified | pb::SignatureEncoding::Hex) => Encoding::Hex,
            Ok(pb::SignatureEncoding::Base64) => Encoding::Base64,
            Err(_) => return Err(Invalid::new("encoding", "must be hexadecimal or base64")),
        },
        prefix: Template::prefix(&message.prefix)?,
        signed_content: Template::signed(&message.signed_content)?,
        timestamp_header: timestamp_header
            .map(|name| SignatureHeader::parse("timestamp_header", name))
            .transpose()?,
    };
    custom.check()?;
    Ok(custom)
}

/// Shows the profiles.
pub(super) fn to_signing(signing: &Signing) -> pb::Signing {
    let profiles = signing.profiles().iter().map(to_profile);
    pb::Signing {
        profiles: profiles.map(|profile| pb::SignatureProfile { profile: Some(profile) }).collect(),
    }
}

fn to_profile(profile: &Profile) -> Pb {
    match profile {
        Profile::StandardWebhooks => Pb::StandardWebhooks(pb::StandardWebhooksSignature {}),
        Profile::StandardWebhooksEd25519 => {
            Pb::StandardWebhooksEd25519(pb::StandardWebhooksEd25519Signature {})
        }
        Profile::Svix => Pb::Svix(pb::SvixSignature {}),
        Profile::Stripe => Pb::Stripe(pb::StripeSignature {}),
        Profile::Github { legacy_sha1 } => Pb::Github(pb::GithubSignature { legacy_sha1: *legacy_sha1 }),
        Profile::Shopify(shopify) => Pb::Shopify(pb::ShopifySignature {
            topic: shopify.topic().unwrap_or_default().to_owned(),
            shop_domain: shopify.shop_domain().to_owned(),
            api_version: shopify.api_version().to_owned(),
        }),
        Profile::Slack => Pb::Slack(pb::SlackSignature {}),
        Profile::Twilio => Pb::Twilio(pb::TwilioSignature {}),
        Profile::Square => Pb::Square(pb::SquareSignature {}),
        Profile::Hubspot => Pb::Hubspot(pb::HubspotSignature {}),
        Profile::CustomHmac(custom) => Pb::CustomHmac(to_custom_hmac(custom)),
    }
}

fn to_custom_hmac(custom: &CustomHmac) -> pb::CustomHmacSignature {
    pb::CustomHmacSignature {
        header: custom.header.as_str().to_owned(),
        algorithm: match custom.algorithm {
            Algorithm::Sha1 => pb::HmacAlgorithm::Sha1,
            Algorithm::Sha256 => pb::HmacAlgorithm::Sha256,
            Algorithm::Sha512 => pb::HmacAlgorithm::Sha512,
        }
        .into(),
        encoding: match custom.encoding {
            Encoding::Hex => pb::SignatureEncoding::Hex,
            Encoding::Base64 => pb::SignatureEncoding::Base64,
        }
        .into(),
        prefix: custom.prefix.as_str().to_owned(),
        signed_content: custom.signed_content.as_str().to_owned(),
        timestamp_header: custom.timestamp_header.as_ref().map_or("", SignatureHeader::as_str).to_owned(),
    }
}

/// Reads what comes from another system to sign with, and draws what does not.
pub(in crate::grpc) fn new_keys(secret: &str) -> Result<NewKeys, Invalid> {
    NewKeys::parse(secret, draw_signing_secret())
}

/// Checks that a new subscription's profiles can sign with its first keys.
pub(in crate::grpc) fn check_first(signing: Option<&Signing>, keys: &NewKeys) -> Result<(), Invalid> {
    check_keys(signing, keys).map_err(unfit)
}

/// Says that a secret is not what the profiles need.
pub(in crate::grpc) fn unfit(reason: &str) -> Invalid {
    Invalid::new("secret", format!("does not fit the subscription's signing: {reason}"))
}

/// Reads when a secret's turn is.
pub(in crate::grpc) fn effective_time(
    time: Option<prost_types::Timestamp>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Invalid> {
    let time = super::timestamp("effective_time", time)?;
    if time.is_some_and(|time| time > now + MAX_NOTICE) {
        return Err(Invalid::new("effective_time", "must be at most 30 days ahead"));
    }
    Ok(time)
}
