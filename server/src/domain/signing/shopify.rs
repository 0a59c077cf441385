//! What Shopify's receivers want to be told beside the signature.

use serde::{Deserialize, Serialize};

use crate::domain::{event_type::EventType, invalid::Invalid};

/// The longest of the values.
const MAX_LENGTH: usize = 255;

/// The headers that Shopify's libraries require.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shopify {
    topic: Option<String>,
    shop_domain: String,
    api_version: String,
}

impl Shopify {
    /// Reads the values. An empty topic stands for the event's type.
    pub fn parse(topic: &str, shop_domain: &str, api_version: &str) -> Result<Self, Invalid> {
        let check = |field: &str, value: &str, example: &str| {
            let is_good = !value.is_empty()
                && value.len() <= MAX_LENGTH
                && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte));
            let reason = format!(
                "must be 1 to {MAX_LENGTH} ASCII letters, digits, `-`, `.`, `_` and `/`, like `{example}`"
            );
            if is_good { Ok(()) } else { Err(Invalid::new(field, reason)) }
        };
        if !topic.is_empty() {
            check("topic", topic, "orders/create")?;
        }
        check("shop_domain", shop_domain, "acme.myshopify.com")?;
        check("api_version", api_version, "2026-10")?;
        let topic = Some(topic.to_owned()).filter(|topic| !topic.is_empty());
        Ok(Self { topic, shop_domain: shop_domain.to_owned(), api_version: api_version.to_owned() })
    }

    /// The topic, if it is the same for all events.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        self.topic.as_deref()
    }

    /// The topic of an event: with slashes, as Shopify's have.
    #[must_use]
    pub fn topic_of(&self, event_type: &EventType) -> String {
        self.topic.clone().unwrap_or_else(|| event_type.as_str().replace('.', "/"))
    }

    /// The shop.
    #[must_use]
    pub fn shop_domain(&self) -> &str {
        &self.shop_domain
    }

    /// The version of the API whose objects the data shows.
    #[must_use]
    pub fn api_version(&self) -> &str {
        &self.api_version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_the_events_type_unless_it_is_set() {
        let event_type = EventType::parse("orders.create").unwrap();
        let topic =
            |text| Shopify::parse(text, "acme.myshopify.com", "2026-10").unwrap().topic_of(&event_type);
        assert_eq!(topic(""), "orders/create");
        assert_eq!(topic("app/uninstalled"), "app/uninstalled");
    }

    #[test]
    fn values_that_are_no_header_are_refused() {
        for (topic, shop, version, field) in [
            ("a b", "acme.myshopify.com", "2026-10", "topic"),
            ("", "", "2026-10", "shop_domain"),
            ("", "a\r\n", "2026-10", "shop_domain"),
            ("", "acme.myshopify.com", "", "api_version"),
        ] {
            assert_eq!(Shopify::parse(topic, shop, version).unwrap_err().field, field);
        }
    }
}
