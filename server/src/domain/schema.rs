//! JSON Schemas that the data of events is checked with.
//!
//! They come from those who run the installation, the data from its producers. Still a schema must not be able to stop the server:
//! nothing is fetched, references lead to places in the same document and never in circles (which would recurse without an end, or
//! take time that grows exponentially with the nesting of the data), what they expand to is bounded, and patterns are matched in linear time.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use jsonschema::{PatternOptions, ReferencingError, Validator, error::ValidationErrorKind};
use regex::RegexBuilder;
use serde_json::Value;

use super::invalid::Invalid;

/// The longest schema, in bytes.
pub const MAX_SCHEMA: usize = 64 << 10;
/// The most violations that are told.
pub const MAX_VIOLATIONS: usize = 20;
/// The most parts, with a part counted for each reference to it.
const MAX_PARTS: u64 = 10_000;
/// The largest pattern, compiled.
const MAX_PATTERN: usize = 256 << 10;
/// The drafts that schemas can be of.
const DRAFTS: &str = "draft 4, 6, 7, 2019-09 or 2020-12 (`https://json-schema.org/draft/2020-12/schema`)";
/// The longest description of a violation, in characters.
const MAX_DESCRIPTION: usize = 300;

/// A schema that is ready to check data.
pub struct Schema(Validator);

/// Where data does not conform, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// A JSON pointer (RFC 6901); empty for the whole.
    pub pointer: String,
    /// What is wrong.
    pub description: String,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

impl Schema {
    /// Compiles a schema.
    pub fn compile(text: &str) -> Result<Self, Invalid> {
        let refuse = |reason: String| Invalid::new("json_schema", reason);
        if text.len() > MAX_SCHEMA {
            return Err(refuse(format!("has {} bytes; at most {MAX_SCHEMA} are allowed", text.len())));
        }
        let document: Value =
            serde_json::from_str(text).map_err(|cause| refuse(format!("is not JSON: {cause}")))?;
        if !document.is_object() && !document.is_boolean() {
            return Err(refuse("must be an object or a boolean".to_owned()));
        }
        Parts::new(&document).count().map_err(refuse)?;
        let patterns = PatternOptions::regex().size_limit(MAX_PATTERN).dfa_size_limit(4 * MAX_PATTERN);
        let compiled = catch_unwind(AssertUnwindSafe(|| {
            jsonschema::options()
                .with_pattern_options(patterns)
                .should_validate_formats(false)
                .build(&document)
        }));
        match compiled {
            Ok(Ok(validator)) => Ok(Self(validator)),
            Ok(Err(cause)) => Err(refuse(refused(&cause))),
            Err(_) => Err(refuse("cannot be compiled".to_owned())),
        }
    }

    /// Where data does not conform, at most [`MAX_VIOLATIONS`] places.
    #[must_use]
    pub fn violations(&self, data: &[u8]) -> Vec<Violation> {
        let whole = |description: &str| {
            vec![Violation { pointer: String::new(), description: description.to_owned() }]
        };
        let data = match serde_json::from_slice::<Value>(data) {
            Ok(data) => data,
            // It is JSON by its grammar already.
            Err(cause) => {
                return whole(&format!("cannot be read: {cause}; numbers must be in the range of a double"));
            }
        };
        let checked = catch_unwind(AssertUnwindSafe(|| {
            if self.0.is_valid(&data) {
                return Vec::new();
            }
            let violation = |error: jsonschema::ValidationError<'_>| Violation {
                pointer: error.instance_path().to_string(),
                description: cut(&described(&error, &data)),
            };
            self.0.iter_errors(&data).take(MAX_VIOLATIONS).map(violation).collect()
        }));
        checked.unwrap_or_else(|_| whole("cannot be checked"))
    }
}

/// Says what is wrong without the value, which can be long, and secret.
fn described(error: &jsonschema::ValidationError<'_>, data: &Value) -> String {
    if !matches!(error.kind(), ValidationErrorKind::FalseSchema) {
        return error.masked_with("the value").to_string();
    }
    let (rule, place) = (error.schema_path().to_string(), error.instance_path().to_string());
    // Of these two the library does not say whom they do not allow.
    let about_names = ["/additionalProperties", "/propertyNames"];
    match data.pointer(&place) {
        Some(Value::Object(fields))
            if about_names.iter().any(|keyword| rule.ends_with(keyword) && !place.ends_with(keyword)) =>
        {
            let names: Vec<_> = fields.keys().map(|name| format!("'{name}'")).collect();
            let verb = if names.len() == 1 { "was" } else { "were" };
            format!("Additional properties are not allowed ({} {verb} unexpected)", names.join(", "))
        }
        _ => format!("nothing is allowed here, as `{rule}` of the schema is false"),
    }
}

/// Why a schema cannot be compiled.
fn refused(cause: &jsonschema::ValidationError<'_>) -> String {
    match cause.kind() {
        ValidationErrorKind::Referencing(ReferencingError::UnknownSpecification { specification }) => {
            let shown = cut(specification);
            format!(
                "has the `$schema` `{shown}`, which is not supported: it must be that of {DRAFTS}, or left out"
            )
        }
        ValidationErrorKind::Format { format } if format == "regex" => {
            let place = cause.schema_path();
            let pattern = cause.instance();
            let why = pattern.as_str().map_or_else(String::new, pattern_fault);
            format!("has a pattern that cannot be used, at `{place}`: {}{why}", cut(&pattern.to_string()))
        }
        _ => format!("is no JSON Schema, at `{}`: {}", cause.instance_path(), cut(&cause.to_string())),
    }
}

/// What is wrong with a pattern; empty if that is not known.
fn pattern_fault(pattern: &str) -> String {
    match RegexBuilder::new(pattern).size_limit(MAX_PATTERN).build() {
        Err(regex::Error::CompiledTooBig(limit)) => {
            format!(" is too large: compiled it takes more than {limit} bytes; let it repeat less")
        }
        Err(cause) => {
            let cause = cause.to_string();
            let last = cause.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!(": {}", cut(last))
        }
        Ok(_) => String::new(),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_DESCRIPTION).collect()
}

/// Counts what a schema expands to.
struct Parts<'a> {
    document: &'a Value,
    counted: HashMap<*const Value, u64>,
    under_way: HashSet<*const Value>,
}

impl<'a> Parts<'a> {
    fn new(document: &'a Value) -> Self {
        Self { document, counted: HashMap::new(), under_way: HashSet::new() }
    }

    fn count(&mut self) -> Result<(), String> {
        let parts = self.of(self.document, true)?;
        if parts > MAX_PARTS {
            return Err(format!(
                "has too many parts; at most {MAX_PARTS} are allowed, counting each as often as it is referred to"
            ));
        }
        Ok(())
    }

    /// Recurses as deep as JSON is nested, which its parser bounds, for each reference on the way; and those are not in circles
    /// and each is gone once.
    fn of(&mut self, value: &'a Value, is_root: bool) -> Result<u64, String> {
        let place = std::ptr::from_ref(value);
        if let Some(counted) = self.counted.get(&place) {
            return Ok(*counted);
        }
        if !self.under_way.insert(place) {
            return Err("has references in a circle".to_owned());
        }
        if self.under_way.len() > 512 {
            return Err("is nested too deep".to_owned());
        }
        let mut parts = 1_u64;
        match value {
            Value::Object(fields) => {
                for (key, field) in fields {
                    let text = field.as_str();
                    match (key.as_str(), text) {
                        ("$ref", Some(reference)) => {
                            let target = self.target(reference)?;
                            parts = parts.saturating_add(self.of(target, false)?);
                        }
                        ("$dynamicRef" | "$recursiveRef", Some(_)) => {
                            return Err(format!("must not use `{key}`"));
                        }
                        ("$id" | "id", Some(_)) if !is_root && key == "$id" => {
                            return Err("must not have an `$id` but its own".to_owned());
                        }
                        _ => parts = parts.saturating_add(self.of(field, false)?),
                    }
                }
            }
            Value::Array(items) => {
                for item in items {
                    parts = parts.saturating_add(self.of(item, false)?);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        self.under_way.remove(&place);
        self.counted.insert(place, parts);
        Ok(parts)
    }

    fn target(&self, reference: &str) -> Result<&'a Value, String> {
        let shown: String = reference.chars().take(100).collect();
        let pointer =
            reference.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let pointer =
            pointer.ok_or_else(|| format!("refers to `{shown}`; references must be like `#/$defs/price`"))?;
        self.document.pointer(pointer).ok_or_else(|| format!("refers to `{shown}`, which is not there"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(schema: &str, data: &str) -> Vec<String> {
        let found = Schema::compile(schema).unwrap().violations(data.as_bytes());
        found.into_iter().map(|violation| violation.pointer).collect()
    }

    #[test]
    fn violations_are_told_by_their_place_and_without_the_value() {
        let schema = r##"{
            "type": "object",
            "required": ["id"],
            "properties": {
                "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
                "a/b": {"const": 1}
            },
            "$defs": {"line": {"type": "object", "properties": {"price": {"type": "number", "minimum": 0}}}}
        }"##;
        assert_eq!(violations(schema, r#"{"id": 1, "lines": [{"price": 1}]}"#), Vec::<String>::new());
        let bad = r#"{"lines": [{"price": 1}, {"price": -1}, {"price": "s3cret"}], "a/b": 2}"#;
        let mut found = violations(schema, bad);
        found.sort();
        assert_eq!(found, ["", "/a~1b", "/lines/1/price", "/lines/2/price"]);
        let found = Schema::compile(schema).unwrap().violations(bad.as_bytes());
        assert!(!format!("{found:?}").contains("s3cret"), "{found:?}");
        let many = format!("{{\"id\": 1, \"lines\": [{}]}}", vec!["1"; 100].join(","));
        assert_eq!(violations(schema, &many).len(), MAX_VIOLATIONS);
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        for (schema, data, message) in [
            (
                r#"{"properties": {"e": {"additionalProperties": false}}}"#,
                r#"{"e": {"x": 1, "y": 2}}"#,
                "/e: Additional properties are not allowed ('x', 'y' were unexpected)",
            ),
            (
                r#"{"properties": {"e": {"properties": {"a": true}, "additionalProperties": false}}}"#,
                r#"{"e": {"x": 1, "a": 2}}"#,
                "/e: Additional properties are not allowed ('x' was unexpected)",
            ),
            (
                r#"{"propertyNames": false}"#,
                r#"{"x": 1}"#,
                ": Additional properties are not allowed ('x' was unexpected)",
            ),
            (
                r#"{"properties": {"e": false}}"#,
                r#"{"e": {"x": 1}}"#,
                "/e: nothing is allowed here, as `/properties/e` of the schema is false",
            ),
            (
                r#"{"properties": {"additionalProperties": false}}"#,
                r#"{"additionalProperties": {"x": 1}}"#,
                "/additionalProperties: nothing is allowed here, as `/properties/additionalProperties`",
            ),
            ("false", "{}", ": nothing is allowed here, as `` of the schema is false"),
            ("true", r#"{"x": 1e400}"#, ": cannot be read: number out of range at line 1 column 11"),
        ] {
            let found = Schema::compile(schema).unwrap().violations(data.as_bytes());
            let [Violation { pointer, description }] = &found[..] else { panic!("{schema}: {found:?}") };
            let found = format!("{pointer}: {description}");
            assert!(found.starts_with(message), "{schema}: {found}");
        }
    }

    #[test]
    fn schemas_that_cannot_be_used_are_refused() {
        let doubling: Vec<String> = (0..40)
            .map(|n| {
                format!(
                    "\"d{n}\":{{\"anyOf\":[{{\"$ref\":\"#/$defs/d{m}\"}},{{\"$ref\":\"#/$defs/d{m}\"}}]}}",
                    m = n + 1
                )
            })
            .collect();
        let doubling =
            format!("{{\"$ref\":\"#/$defs/d0\",\"$defs\":{{{},\"d40\":{{}}}}}}", doubling.join(","));
        for (schema, part) in [
            ("", "not JSON"),
            ("1", "an object or a boolean"),
            (r#"{"type": "strange"}"#, "no JSON Schema"),
            (r#"{"$ref": "https://example.com/schema"}"#, "references must be like"),
            (r#"{"$ref": "file:///etc/passwd"}"#, "references must be like"),
            (r##"{"$ref": "#/$defs/missing"}"##, "not there"),
            (r##"{"$ref": "#"}"##, "in a circle"),
            (r##"{"properties": {"child": {"$ref": "#"}}}"##, "in a circle"),
            (
                r##"{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}"##,
                "in a circle",
            ),
            (r##"{"$dynamicRef": "#x"}"##, "$dynamicRef"),
            (r#"{"properties": {"a": {"$id": "https://example.com/b"}}}"#, "`$id`"),
            (r#"{"pattern": "(?=a)b"}"#, "at `/pattern`: \"(?=a)b\": look-around"),
            (r#"{"pattern": "(a)\\1"}"#, "backreferences are not supported"),
            (
                r#"{"pattern": "((\\w{100}){100}){100}"}"#,
                "at `/pattern`: \"((\\\\w{100}){100}){100}\" is too large",
            ),
            (r#"{"patternProperties": {"((\\w{100}){100}){100}": {}}}"#, "is too large"),
            (
                r#"{"$schema": "http://json-schema.org/draft-03/schema#"}"#,
                "draft 4, 6, 7, 2019-09 or 2020-12",
            ),
            (
                r#"{"$schema": "https://example.com/own"}"#,
                "`https://example.com/own`, which is not supported",
            ),
            (&doubling, "too many parts"),
            (&"[".repeat(10_000), "not JSON"),
            (&format!("{{\"description\": \"{}\"}}", "x".repeat(MAX_SCHEMA)), "at most 65536"),
        ] {
            let refused = Schema::compile(schema).expect_err(&schema[..schema.len().min(80)]);
            assert!(refused.reason.contains(part), "{schema}: {refused}");
        }
    }

    #[test]
    fn a_pattern_that_other_engines_try_for_ever_is_matched_at_once() {
        let schema = r#"{"type": "string", "pattern": "^(a+)+$"}"#;
        assert_eq!(violations(schema, &format!("\"{}b\"", "a".repeat(100_000))), [""]);
    }
}
