//! What a scheme of the owner's own puts together: fixed text and what belongs to the request.

use serde::{Deserialize, Serialize};

use crate::domain::invalid::Invalid;

/// The longest template, in bytes.
const MAX_LENGTH: usize = 256;

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// This text.
    Literal(String),
    /// `{body}`: the body, byte for byte.
    Body,
    /// `{timestamp}`: when the attempt began, in seconds since 1970.
    Timestamp,
    /// `{timestamp_ms}`: the same in milliseconds.
    TimestampMs,
    /// `{id}`: the event's id, as in `webhook-id`.
    Id,
    /// `{url}`: the URL that is requested.
    Url,
    /// `{method}`: the method of the request.
    Method,
}

/// The names of the parts that are not fixed.
const NAMES: [(&str, Part); 6] = [
    ("body", Part::Body),
    ("timestamp", Part::Timestamp),
    ("timestamp_ms", Part::TimestampMs),
    ("id", Part::Id),
    ("url", Part::Url),
    ("method", Part::Method),
];
/// Those of them that fit in a header.
const NAMES_IN_HEADERS: [&str; 3] = ["timestamp", "timestamp_ms", "id"];

/// A checked template: printable ASCII in which `{name}` stands for a part, `{{` for `{` and `}}` for `}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

impl Template {
    /// Reads what is signed, which must contain the body.
    pub fn signed(text: &str) -> Result<Self, Invalid> {
        let all = NAMES.map(|(name, _)| name);
        let template = Self::parse(text, &all).map_err(|reason| Invalid::new("signed_content", reason))?;
        if !template.parts.contains(&Part::Body) {
            let reason = "must contain `{body}`: what is not signed can be forged";
            return Err(Invalid::new("signed_content", reason));
        }
        Ok(template)
    }

    /// Reads what stands before a signature in its header.
    pub fn prefix(text: &str) -> Result<Self, Invalid> {
        if text.starts_with(' ') {
            return Err(Invalid::new("prefix", "must not begin with a space, which headers lose"));
        }
        Self::parse(text, &NAMES_IN_HEADERS).map_err(|reason| Invalid::new("prefix", reason))
    }

    /// A template of nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self { text: String::new(), parts: Vec::new() }
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it consists of, in order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Positions are counted in characters, from 1.
    fn parse(text: &str, names: &[&str]) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("has {} bytes; at most {MAX_LENGTH} are allowed", text.len()));
        }
        if let Some(at) = text.bytes().position(|byte| !matches!(byte, b' '..=b'~')) {
            return Err(format!("has a character at position {} that is not printable ASCII", at + 1));
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let position = text.len() - rest.len() + 1;
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                literal.push(next);
                rest = after;
            } else if let Some(opened) = rest.strip_prefix('{') {
                let Some((name, after)) = opened.split_once('}') else {
                    return Err(format!(
                        "has a `{{` at position {position} that is not closed; write `{{{{` for the character"
                    ));
                };
                let known = NAMES.iter().find(|(known, _)| *known == name && names.contains(known));
                let Some((_, part)) = known else {
                    let names = names.join("}`, `{");
                    return Err(format!(
                        "has `{{{name}}}` at position {position}; there are only `{{{names}}}`"
                    ));
                };
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(part.clone());
                rest = after;
            } else if next == '}' {
                return Err(format!(
                    "has a `}}` at position {position} that closes nothing; write `}}}}` for the character"
                ));
            } else {
                literal.push(next);
                rest = &rest[1..];
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text, &NAMES.map(|(name, _)| name))
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_and_parts() {
        let template = Template::signed("v0:{timestamp}:{{{method} }}{url}{body}").unwrap();
        let literal = |text: &str| Part::Literal(text.to_owned());
        assert_eq!(
            template.parts(),
            [
                literal("v0:"),
                Part::Timestamp,
                literal(":{"),
                Part::Method,
                literal(" }"),
                Part::Url,
                Part::Body
            ]
        );
        assert_eq!(Template::try_from(String::from(template.clone())), Ok(template));
        assert_eq!(Template::prefix("").unwrap().parts(), []);
        assert_eq!(Template::prefix("t={timestamp_ms},i={id}").unwrap().parts().len(), 4);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let long = "x".repeat(257);
        for (text, told) in [
            ("", "must contain `{body}`"),
            ("{timestamp}.{id}", "must contain `{body}`"),
            ("{body}{secret}", "has `{secret}` at position 7; there are only `{body}`"),
            ("{ body}", "has `{ body}` at position 1"),
            ("{}{body}", "has `{}` at position 1"),
            ("a{body", "a `{` at position 2 that is not closed"),
            ("{body}}", "a `}` at position 7 that closes nothing"),
            ("{body}\n", "character at position 7"),
            ("ä{body}", "character at position 1"),
            (&long, "has 257 bytes"),
        ] {
            let invalid = Template::signed(text).unwrap_err();
            assert_eq!(invalid.field, "signed_content");
            assert!(invalid.reason.contains(told), "{text}: {}", invalid.reason);
        }
        for (text, told) in
            [("sha1={body}", "at position 6; there are only `{timestamp}`"), (" a", "begin with a space")]
        {
            let invalid = Template::prefix(text).unwrap_err();
            assert!(invalid.field == "prefix" && invalid.reason.contains(told), "{text}: {}", invalid.reason);
        }
    }
}
