//! Which events of the right type a subscription wants: what it asks of their attributes and their data.
//!
//! All conditions must hold. Those on attributes are looked at first, as they cost next to nothing; then the one
//! [`expression`](super::expression). Publishing and `ExplainEvent` ask the same function, [`Conditions::judge`].

use serde::{Deserialize, Serialize};

use super::{
    event::{EventContent, MAX_ATTRIBUTE_KEY, MAX_ATTRIBUTE_VALUE, check_text},
    expression::{Facts, Failure, Program},
    invalid::Invalid,
};

/// The most conditions on attributes.
pub const MAX_CONDITIONS: usize = 32;

/// What is asked of events, as an owner has set it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// What is asked of their attributes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<AttributeCondition>,
    /// What is asked of all they are: the text of a program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
}

/// What is asked of one attribute. An event without the attribute does not meet it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributeCondition {
    /// Which attribute.
    pub key: String,
    /// What it must be.
    pub test: AttributeTest,
}

/// What an attribute must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttributeTest {
    /// Exactly this.
    Equals(String),
    /// Something that begins with this.
    Prefix(String),
}

/// What conditions say to an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// All of them hold.
    Wanted,
    /// The condition on attributes with this index does not hold.
    Attribute(usize),
    /// The expression is false.
    False,
    /// The expression says neither.
    Failed(Failure),
}

impl Conditions {
    /// Accepts up to 32 conditions on attributes and an expression that can be evaluated.
    pub fn parse(attributes: Vec<AttributeCondition>, expression: &str) -> Result<Self, Invalid> {
        if attributes.len() > MAX_CONDITIONS {
            let reason =
                format!("holds {} conditions; at most {MAX_CONDITIONS} are allowed", attributes.len());
            return Err(Invalid::new("attributes", reason));
        }
        if expression.is_empty() {
            return Ok(Self { attributes, expression: None });
        }
        Program::compile(expression).map_err(|fault| Invalid::new("expression", fault.to_string()))?;
        Ok(Self { attributes, expression: Some(expression.to_owned()) })
    }

    /// Whether nothing is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Judges an event. `program` is what the expression was compiled to.
    #[must_use]
    pub fn judge(&self, program: Option<&Program>, facts: &Facts<'_>) -> Judgement {
        if let Some(index) = self.attributes.iter().position(|condition| !condition.holds(facts.event())) {
            return Judgement::Attribute(index);
        }
        match (&self.expression, program) {
            (None, _) => Judgement::Wanted,
            (Some(_), Some(program)) => match program.evaluate(facts) {
                Ok(true) => Judgement::Wanted,
                Ok(false) => Judgement::False,
                Err(failure) => Judgement::Failed(failure),
            },
            (Some(_), None) => Judgement::Failed(Failure::NotCompiled),
        }
    }
}

impl AttributeCondition {
    /// Accepts what can be an attribute.
    pub fn parse(key: String, test: AttributeTest) -> Result<Self, Invalid> {
        let key_is_good = (1..=MAX_ATTRIBUTE_KEY).contains(&key.len())
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if !key_is_good {
            let reason = format!("must be 1 to {MAX_ATTRIBUTE_KEY} letters, digits, `_`, `-` and `.`");
            return Err(Invalid::new("key", reason));
        }
        match &test {
            AttributeTest::Equals(value) => check_text("equals", value, MAX_ATTRIBUTE_VALUE)?,
            AttributeTest::Prefix(prefix) => {
                check_text("prefix", prefix, MAX_ATTRIBUTE_VALUE)?;
                if prefix.is_empty() {
                    return Err(Invalid::new("prefix", "must not be empty"));
                }
            }
        }
        Ok(Self { key, test })
    }

    fn holds(&self, event: &EventContent) -> bool {
        event.attributes.as_map().get(&self.key).is_some_and(|value| match &self.test {
            AttributeTest::Equals(text) => value == text,
            AttributeTest::Prefix(text) => value.starts_with(text),
        })
    }
}
