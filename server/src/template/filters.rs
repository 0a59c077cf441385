//! The filters of templates: those of Jinja2 that bodies are made with, and some for what bodies hold.

use std::borrow::Cow;

use minijinja::{Environment, Error, ErrorKind, State, Value, filters as jinja, value::Kwargs};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::budget::{self, ADDEND, FREE, INDEXED, ITERATED, NUMBER, PAID};

/// The filters, and what of their input is paid beforehand. None needs more than that, or pays by itself.
const FILTERS: [(&str, &str); 21] = [
    ("abs", PAID),
    ("capitalize", PAID),
    ("default", FREE),
    ("first", INDEXED),
    ("float", PAID),
    ("int", PAID),
    ("items", PAID),
    ("join", PAID),
    ("last", ITERATED),
    ("length", ITERATED),
    ("lower", PAID),
    ("mrkdwn", PAID),
    ("replace", PAID),
    ("round", PAID),
    ("string", PAID),
    ("tojson", PAID),
    ("trim", PAID),
    ("truncate", PAID),
    ("upper", PAID),
    ("urlencode", PAID),
    ("xmlescape", PAID),
];

/// What the input of a filter goes through, if there is such a filter.
pub(super) fn cost(name: &str) -> Option<&'static str> {
    FILTERS.iter().find(|(filter, _)| *filter == name).map(|(_, cost)| *cost)
}

/// All filters.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FILTERS.iter().map(|(name, _)| *name)
}

pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_filter(FREE, |value: Value| value);
    environment.add_filter(PAID, budget::paid);
    environment.add_filter(NUMBER, budget::number);
    environment.add_filter(ADDEND, budget::addend);
    environment.add_filter(ITERATED, budget::iterated);
    environment.add_filter(INDEXED, budget::indexed);

    environment.add_filter("abs", jinja::abs);
    environment.add_filter("capitalize", jinja::capitalize);
    environment.add_filter("default", jinja::default);
    environment.add_filter("first", jinja::first);
    environment.add_filter("float", float);
    environment.add_filter("int", int);
    environment.add_filter("items", jinja::items);
    environment.add_filter("join", join);
    environment.add_filter("last", jinja::last);
    environment.add_filter("length", jinja::length);
    environment.add_filter("lower", jinja::lower);
    environment.add_filter("mrkdwn", |text: Cow<'_, str>| Value::from_safe_string(mrkdwn(&text)));
    environment.add_filter("replace", replace);
    environment.add_filter("round", jinja::round);
    environment.add_filter("string", jinja::string);
    environment.add_filter("tojson", to_json);
    environment.add_filter("trim", jinja::trim);
    environment.add_filter("truncate", truncate);
    environment.add_filter("upper", jinja::upper);
    environment.add_filter("urlencode", |text: Cow<'_, str>| {
        utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string()
    });
    environment.add_filter("xmlescape", |text: Cow<'_, str>| {
        mrkdwn(&text).replace('"', "&quot;").replace('\'', "&#39;")
    });
}

/// What Slack asks for: these three, and no others.
pub(super) fn mrkdwn(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Compact JSON. Undefined is null.
pub(super) fn to_json(value: &Value) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|cause| {
        Error::new(ErrorKind::BadSerialization, format!("cannot be written as JSON: {cause}"))
    })
}

/// As in Jinja2.
fn int(
    state: &State,
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    jinja::int(state, value, default, base, kwargs).map_err(|cause| no_number(value, cause))
}

/// As in Jinja2.
fn float(state: &State, value: &Value, default: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    jinja::float(state, value, default, kwargs).map_err(|cause| no_number(value, cause))
}

/// What the library says of a text that is no number is about Rust.
fn no_number(value: &Value, cause: Error) -> Error {
    if value.as_str().is_some() && cause.kind() == ErrorKind::InvalidOperation {
        return Error::new(ErrorKind::InvalidOperation, "the text is no number");
    }
    cause
}

/// As in Jinja2, without attributes. What it makes can be longer than what it is made of.
fn join(state: &State, value: &Value, separator: Option<Cow<'_, str>>) -> Result<String, Error> {
    let separator = separator.unwrap_or_default();
    let budget = budget::of(state)?;
    let mut joined = String::new();
    for (nth, item) in value.try_iter()?.enumerate() {
        if nth > 0 {
            budget.pay(separator.len() as u64)?;
            joined.push_str(&separator);
        }

        match item.as_str() {
            Some(text) => joined.push_str(text),
            None => joined.push_str(&item.to_string()),
        }
    }
    Ok(joined)
}

/// As in Jinja2. What it makes can be longer than what it is made of.
#[expect(clippy::needless_pass_by_value, reason = "what the library passes")]
fn replace(state: &State, text: Cow<'_, str>, from: Cow<'_, str>, to: Cow<'_, str>) -> Result<String, Error> {
    let found = text.matches(&*from).count();
    budget::of(state)?.pay(found as u64 * to.len() as u64)?;
    Ok(text.replace(&*from, &to))
}

/// The first characters, and an ellipsis if there are more.
fn truncate(text: Cow<'_, str>, length: usize) -> String {
    match text.char_indices().nth(length) {
        None => text.into_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
