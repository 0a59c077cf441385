//! Which events of the right types a subscription wants.

use postrider_proto::v1 as pb;

/// Which events of the right types a subscription wants. All conditions must hold.
///
/// ```
/// use postrider_sdk::{Subscription, model::EventFilter};
///
/// let big_in_europe = EventFilter::new().attribute_equals("region", "eu").expression("data.amount > 100");
/// let new = Subscription::to("https://example.com/hooks").event_types(["order.*"]).filter(big_in_europe);
/// # let _ = new;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EventFilter {
    /// What attributes must be. An event without the attribute is not wanted.
    pub attributes: Vec<AttributeCondition>,
    /// An expression in the Common Expression Language over `data`, `attributes`, `type`, `source`, `subject` and `time`;
    /// empty if there is none.
    pub expression: String,
}

/// What one attribute must be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttributeCondition {
    /// The attribute's key.
    pub key: String,
    /// What its value must be.
    pub test: AttributeTest,
}

/// What the value of an attribute must be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttributeTest {
    /// Exactly this.
    Equals(String),
    /// Something that begins with this.
    Prefix(String),
    /// A test newer than this SDK.
    Unrecognized,
}

impl EventFilter {
    /// One that lets everything through.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The attribute must have exactly this value.
    #[must_use]
    pub fn attribute_equals(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attribute(key, AttributeTest::Equals(value.into()))
    }

    /// The attribute's value must begin with this.
    #[must_use]
    pub fn attribute_prefix(self, key: impl Into<String>, prefix: impl Into<String>) -> Self {
        self.attribute(key, AttributeTest::Prefix(prefix.into()))
    }

    /// This must be true: `data.amount > 100 && attributes.region == "eu"`. A server that cannot use it says where.
    #[must_use]
    pub fn expression(mut self, expression: impl Into<String>) -> Self {
        self.expression = expression.into();
        self
    }

    fn attribute(mut self, key: impl Into<String>, test: AttributeTest) -> Self {
        self.attributes.push(AttributeCondition { key: key.into(), test });
        self
    }

    pub(crate) fn into_pb(self) -> pb::EventFilter {
        let attribute = |condition: AttributeCondition| pb::AttributeCondition {
            key: condition.key,
            test: match condition.test {
                AttributeTest::Equals(text) => Some(pb::attribute_condition::Test::Equals(text)),
                AttributeTest::Prefix(text) => Some(pb::attribute_condition::Test::Prefix(text)),
                AttributeTest::Unrecognized => None,
            },
        };
        pb::EventFilter {
            attributes: self.attributes.into_iter().map(attribute).collect(),
            expression: self.expression,
        }
    }

    pub(crate) fn from_pb(filter: pb::EventFilter) -> Self {
        let attribute = |condition: pb::AttributeCondition| AttributeCondition {
            key: condition.key,
            test: match condition.test {
                Some(pb::attribute_condition::Test::Equals(text)) => AttributeTest::Equals(text),
                Some(pb::attribute_condition::Test::Prefix(text)) => AttributeTest::Prefix(text),
                None => AttributeTest::Unrecognized,
            },
        };
        Self {
            attributes: filter.attributes.into_iter().map(attribute).collect(),
            expression: filter.expression,
        }
    }
}
