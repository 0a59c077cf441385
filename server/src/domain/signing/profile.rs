//! The schemes.

use serde::{Deserialize, Serialize};

use super::{CustomHmac, Shopify};

/// A scheme by which receivers verify callbacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Standard Webhooks `v1`: HMAC-SHA256.
    StandardWebhooks,
    /// Standard Webhooks `v1a`: Ed25519.
    StandardWebhooksEd25519,
    /// Standard Webhooks `v1` under the names of Svix.
    Svix,
    /// `Stripe-Signature`.
    Stripe,
    /// `X-Hub-Signature-256`.
    Github {
        /// Whether `X-Hub-Signature`, with SHA-1, is sent too.
        legacy_sha1: bool,
    },
    /// `X-Shopify-Hmac-Sha256`.
    Shopify(Shopify),
    /// `X-Slack-Signature`, `v0`.
    Slack,
    /// `X-Twilio-Signature`.
    Twilio,
    /// `x-square-hmacsha256-signature`.
    Square,
    /// `X-HubSpot-Signature-v3`.
    Hubspot,
    /// A scheme of the owner's own.
    CustomHmac(CustomHmac),
}

impl Profile {
    /// As the API names it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::StandardWebhooks => "standard_webhooks",
            Self::StandardWebhooksEd25519 => "standard_webhooks_ed25519",
            Self::Svix => "svix",
            Self::Stripe => "stripe",
            Self::Github { .. } => "github",
            Self::Shopify(_) => "shopify",
            Self::Slack => "slack",
            Self::Twilio => "twilio",
            Self::Square => "square",
            Self::Hubspot => "hubspot",
            Self::CustomHmac(_) => "custom_hmac",
        }
    }

    /// Whether it decodes the secret, as Standard Webhooks does; the others sign with its text.
    #[must_use]
    pub fn needs_standard_key(&self) -> bool {
        matches!(self, Self::StandardWebhooks | Self::Svix)
    }

    /// Whether its header holds a signature by each secret in force.
    pub(super) fn is_list(&self) -> bool {
        match self {
            Self::StandardWebhooks | Self::StandardWebhooksEd25519 | Self::Svix | Self::Stripe => true,
            Self::Github { .. }
            | Self::Shopify(_)
            | Self::Slack
            | Self::Twilio
            | Self::Square
            | Self::Hubspot
            | Self::CustomHmac(_) => false,
        }
    }

    /// The headers that it writes, in lower case, each with the field that names it if there is one. Those of Standard Webhooks are
    /// left out: nobody else can write them.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        let known = |names: &[&str]| names.iter().map(|name| ("", (*name).to_owned())).collect();
        match self {
            Self::StandardWebhooks | Self::StandardWebhooksEd25519 => Vec::new(),
            Self::Svix => known(&["svix-id", "svix-timestamp", "svix-signature"]),
            Self::Stripe => known(&["stripe-signature"]),
            Self::Github { legacy_sha1 } => {
                let names = ["x-hub-signature-256", "x-github-event", "x-github-delivery", "x-hub-signature"];
                known(if *legacy_sha1 { &names } else { &names[..3] })
            }
            Self::Shopify(_) => known(&[
                "x-shopify-hmac-sha256",
                "x-shopify-topic",
                "x-shopify-shop-domain",
                "x-shopify-api-version",
                "x-shopify-webhook-id",
                "x-shopify-event-id",
                "x-shopify-triggered-at",
            ]),
            Self::Slack => known(&["x-slack-request-timestamp", "x-slack-signature"]),
            Self::Twilio => known(&["x-twilio-signature"]),
            Self::Square => known(&["x-square-hmacsha256-signature"]),
            Self::Hubspot => known(&["x-hubspot-signature-v3", "x-hubspot-request-timestamp"]),
            Self::CustomHmac(custom) => {
                let timestamp = custom.timestamp_header.iter().map(|name| (".timestamp_header", name));
                let headers = std::iter::once((".header", &custom.header)).chain(timestamp);
                headers.map(|(field, name)| (field, name.as_str().to_ascii_lowercase())).collect()
            }
        }
    }
}
