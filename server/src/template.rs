//! The language of templates: what `minijinja` makes of Jinja2, in a sandbox. Compiled when a subscription is set, rendered when an
//! event is sent; [`sender`](crate::sender) decides when and on which thread.
//!
//! Whoever writes a template may mean harm, and may publish the events that it is rendered with. So a rendering can only
//! - take [`FUEL`] instructions of the virtual machine, each of which takes about the same time. To this end [`guard`] lets through the part
//!   of the language whose instructions are of that kind, and has every operand that could cost more **paid** by its size
//!   ([`budget`]). What is not let through: macros, calls, blocks, slices, captures, includes; there is nothing to include, nor
//!   an environment to read.
//! - pay for as much work as the budget has, which bounds time and memory alike: whatever grows is paid before it grows.
//! - write [`MAX_OUTPUT`] bytes.
//!
//! Where any of these ends, the rendering does, with an [`Error`]. Nothing is measured by the clock, so it ends in the same place each time.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::LazyLock,
};

use minijinja::{
    AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value,
    machinery::{self, CodeGenerator, Instructions},
    syntax::SyntaxConfig,
    tests,
};
use self_cell::self_cell;

use crate::domain::event::Event;

use budget::{Budget, Names};

mod budget;
mod filters;
mod guard;
mod names;
mod unknown;

/// The longest template, in bytes.
pub const MAX_SOURCE: usize = 16 << 10;
/// The most data that a template is rendered with, in bytes.
pub const MAX_DATA: usize = 1 << 20;
/// The most that a template writes, in bytes.
pub const MAX_OUTPUT: usize = 1 << 20;
/// The most instructions of one rendering.
pub const FUEL: u64 = 100_000;
/// How much of a tag is shown in an error, in characters.
const MAX_TAG: usize = 80;
/// The longest message of an error, in characters, without the tag.
const MAX_MESSAGE: usize = 300;

/// Why a template cannot be compiled, or rendered with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What is wrong, without values of the event.
    pub message: String,
    /// Where: the line and the column, from 1.
    pub place: Option<(usize, usize)>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "line {line}, column {column}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// The template wrote nothing, and a body is never empty.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            message: "the template writes nothing for this event, and a body cannot be empty".to_owned(),
            place: None,
        }
    }

    /// The rendering did not come to its end, which no template should be able to bring about.
    #[must_use]
    pub fn unfinished() -> Self {
        Self { message: "the rendering did not come to its end".to_owned(), place: None }
    }

    fn of(cause: &minijinja::Error, source: &str) -> Self {
        let message = match cause.detail() {
            // Said by the library.
            None if cause.kind() == ErrorKind::OutOfFuel => {
                format!("the template takes more than {FUEL} steps")
            }
            Some(detail) if matches!(cause.kind(), ErrorKind::OutOfFuel | ErrorKind::WriteFailure) => {
                detail.to_owned()
            }
            Some(detail) => format!("{}: {detail}", cause.kind()),
            None => cause.kind().to_string(),
        };
        let place = match cause.range() {
            Some(range) => Some(place(source, range.start)),
            None => cause.line().map(|line| (line, 1)),
        };
        Self { message: message.chars().take(MAX_MESSAGE).collect(), place }
    }
}

impl Error {
    /// Of a template that compiles, with the tag that failed: the library says little of what it could not do.
    fn of_rendering(cause: &minijinja::Error, source: &str) -> Self {
        let mut error = Self::of(cause, source);
        let is_limit = matches!(cause.kind(), ErrorKind::OutOfFuel | ErrorKind::WriteFailure);
        let tag = cause.range().filter(|_| !is_limit).and_then(|range| tag(source, range.start));
        if cause.kind() == ErrorKind::UndefinedError {
            "undefined value: what this looks into is not there".clone_into(&mut error.message);
        }
        if let Some(tag) = tag {
            let _ = write!(error.message, ", in `{tag}`");
        }
        error
    }
}

/// What stands in the tag around a byte, from its beginning on.
fn tag(source: &str, offset: usize) -> Option<String> {
    let (before, after) = source.split_at_checked(offset)?;
    let begin = before.rfind("{{").max(before.rfind("{%"))? + 2;
    let end = [after.find("}}"), after.find("%}")].into_iter().flatten().min()?;
    let inside = source.get(begin..offset + end)?.trim_matches(|c: char| c.is_whitespace() || c == '-');
    let mut shown: String = inside.chars().take(MAX_TAG).collect();
    if shown.len() < inside.len() {
        shown.push('…');
    }
    Some(shown)
}

/// The line and the column of a byte.
fn place(source: &str, offset: usize) -> (usize, usize) {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

self_cell! {
    /// Instructions, which borrow from their source.
    struct Code {
        owner: String,
        #[covariant]
        dependent: Instructions,
    }
}

/// A compiled template.
pub struct Template(Code);

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Template")
    }
}

impl Template {
    /// Compiles a template.
    pub fn compile(source: &str) -> Result<Self, Error> {
        if source.len() > MAX_SOURCE {
            let message = format!("has {} bytes; at most {MAX_SOURCE} are allowed", source.len());
            return Err(Error { message, place: None });
        }
        Code::try_new(source.to_owned(), |source| {
            let refused = |refused: guard::Refused| Error {
                message: refused.reason,
                place: Some(place(source, refused.offset)),
            };
            guard::source(source).map_err(refused)?;
            let parsed = machinery::parse(source, "template", SyntaxConfig::default());
            let parsed = parsed.map_err(|cause| Error::of(&cause, source))?;
            let guarded = guard::template(&parsed).map_err(refused)?;
            unknown::check(source, &parsed).map_err(refused)?;
            let mut generator = CodeGenerator::new("template", source);
            generator.compile_stmt(&guarded);
            Ok(generator.finish().0)
        })
        .map(Self)
    }

    /// Renders it for an event. Takes some microseconds as a rule, and some ten milliseconds if it makes the most of its limits: nothing for
    /// a thread that others wait for.
    pub fn render(&self, event: &Event, subscription: &str, escaping: Escaping) -> Result<String, Error> {
        let budget = Budget::for_data(event.content.payload.data.len(), escaping);
        let names = Value::from_object(Names::new(names::of(event, subscription)?, budget));
        let mut written = String::new();
        let mut output = machinery::make_string_output(&mut written);
        let (instructions, blocks) = (self.0.borrow_dependent(), BTreeMap::new());
        machinery::eval(&ENVIRONMENT, instructions, names, &blocks, &mut output, AutoEscape::None)
            .map_err(|cause| Error::of_rendering(&cause, self.0.borrow_owner()))?;
        Ok(written)
    }
}

/// What is done to values where they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escaping {
    /// Nothing.
    None,
    /// `&`, `<` and `>` are escaped, as in the texts of Slack.
    Mrkdwn,
}

/// What all templates may use.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::empty();
    environment.set_fuel(Some(FUEL));
    environment.set_debug(false);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_formatter(budget::write);
    filters::add_to(&mut environment);
    add_tests(&mut environment);
    environment
});

/// What can be asked by `is`.
const TESTS: [&str; 13] = [
    "boolean",
    "defined",
    "endingwith",
    "even",
    "integer",
    "mapping",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "undefined",
];

fn add_tests(environment: &mut Environment<'static>) {
    environment.add_test("boolean", tests::is_boolean);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("endingwith", tests::is_endingwith);
    environment.add_test("even", tests::is_even);
    environment.add_test("integer", tests::is_integer);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("none", tests::is_none);
    environment.add_test("number", tests::is_number);
    environment.add_test("odd", tests::is_odd);
    environment.add_test("sequence", tests::is_sequence);
    environment.add_test("startingwith", tests::is_startingwith);
    environment.add_test("string", tests::is_string);
    environment.add_test("undefined", tests::is_undefined);
}

#[cfg(test)]
#[path = "template/tests.rs"]
mod examples;
