//! Expressions of filters, in the Common Expression Language: `data.amount > 100 && attributes.region == "eu"`.
//!
//! They come from strangers and run while others publish, so nothing of them is trusted:
//!
//! - *At create* ([`check`]) the text, its nesting and its nodes are bounded, names and functions that there are not and operands that
//!   cannot be are refused with their position, and so is what cannot become true or false.
//! - *At run time* ([`meter`]) everything whose cost grows with the data (loops, comparisons, copies, searches) spends from a fixed
//!   budget of steps before it begins. The budget is counted and not timed, so that the same event has the same fate on every node and
//!   under any load. What goes beyond it fails. Patterns of `matches` are literals, compiled once and small.
//! - A defect of the library is caught and counts as a failure of this one evaluation.
//!
//! Here is only the language; who evaluates when is `publish::screen`'s concern.

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
    thread,
};

use cel::{Env, ExecutionError, IdedExpr, Value, common::types::DYN_TYPE};
use regex::Regex;

use check::Checker;
pub use facts::Facts;
pub use meter::Pause;

mod arithmetic;
mod check;
mod facts;
mod functions;
mod kind;
mod meter;
mod payment;

/// The longest text, in bytes.
pub const MAX_TEXT: usize = 4 << 10;
/// How deep operators, calls and brackets can be nested.
const MAX_DEPTH: usize = 32;
/// The parser and the walk over what it made recurse; texts of [`MAX_TEXT`] must fit whatever they nest.
const COMPILER_STACK: usize = 256 << 20;
/// The stack that an evaluation needs, which recurses as deep as an expression is nested, with frames of many KiB.
pub const EVALUATION_STACK: usize = 64 << 20;
/// The steps that one evaluation may take: up to some tenths of a second.
const MAX_STEPS: u64 = 2_000_000;
/// The longest message that is shown.
const MAX_MESSAGE: usize = 300;

/// An expression that can be evaluated.
#[derive(Debug)]
pub struct Program {
    ast: IdedExpr,
    /// The nodes outside of loops; those inside are counted as they are run.
    cost: u64,
    patterns: Arc<HashMap<String, Regex>>,
}

/// Why a text is no expression, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// Why an expression says neither yes nor no to an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The event has no JSON data to look at.
    #[error("the event has no `data`: its content is not JSON or no longer kept")]
    NoData,
    /// Its data is JSON by its grammar, but cannot be read.
    #[error(
        "the event's `data` cannot be read: it holds a number outside the range of a double, or half a \
         surrogate pair in a text"
    )]
    UnreadableData,
    /// It would take too long.
    #[error("the expression takes more than {MAX_STEPS} steps on this event")]
    TooCostly,
    /// The expressions of the tenant's subscriptions take too long together.
    #[error("the expressions of the subscriptions take too many steps on this event together")]
    TooCostlyTogether,
    /// Operands are not what they should be, or are not there.
    #[error("{0}")]
    Evaluation(String),
    /// The result is something else.
    #[error("the result is not a bool")]
    NotBool,
    /// It was accepted by a version whose expressions differ.
    #[error("the expression cannot be compiled by this version")]
    NotCompiled,
    /// Its [`Pause`] said that it was not to go on.
    #[error("the evaluation was broken off")]
    Stopped,
    /// The evaluation is defective.
    #[error("the evaluation broke off by a defect")]
    Defect,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

/// The language: the standard functions and what the checker puts around operands.
fn environment() -> &'static Arc<Env> {
    static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
        let mut env = Env::stdlib();
        // The names cannot be written in a text, so they cannot be there already.
        let _ = env.add_overload(meter::SPEND, "spend", vec![DYN_TYPE], meter::spend);
        let rounds = meter::spend_on_rounds;
        let _ = env.add_overload(meter::SPEND_ON_ROUNDS, "spend_on_rounds", vec![DYN_TYPE, DYN_TYPE], rounds);
        let _ = env.add_overload(meter::ROUND, "round", vec![DYN_TYPE], meter::round);
        let _ = env.add_overload(meter::MATCHES, "matches", vec![DYN_TYPE, DYN_TYPE], meter::matches);
        Arc::new(env)
    });
    &ENVIRONMENT
}

impl Program {
    /// Compiles a text.
    pub fn compile(text: &str) -> Result<Self, Fault> {
        if text.len() > MAX_TEXT {
            let message = format!("the expression has {} bytes; at most {MAX_TEXT} are allowed", text.len());
            return Err(Fault { line: 1, column: 1, message });
        }
        let compiled = thread::scope(|scope| {
            let compiler = thread::Builder::new().name("expression".to_owned()).stack_size(COMPILER_STACK);
            // A defect of the parser ends the thread and nothing else.
            compiler.spawn_scoped(scope, || compile(text)).map(thread::ScopedJoinHandle::join)
        });
        match compiled {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(_)) | Err(_) => {
                Err(Fault { line: 1, column: 1, message: "the expression cannot be parsed".to_owned() })
            }
        }
    }

    /// Evaluates it on an event, on a thread with a stack of [`EVALUATION_STACK`].
    pub fn evaluate(&self, facts: &Facts<'_>) -> Result<bool, Failure> {
        let allowed = facts.steps_left().min(MAX_STEPS);
        let metered = meter::Metered::begin(allowed, Arc::clone(&self.patterns), facts.pause());
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            meter::take(self.cost).and_then(|()| facts.context().resolve(&self.ast))
        }));
        let spent = metered.end();
        facts.count(spent.steps);
        if spent.stopped {
            return Err(Failure::Stopped);
        }
        if spent.exhausted {
            return Err(if allowed < MAX_STEPS { Failure::TooCostlyTogether } else { Failure::TooCostly });
        }
        match outcome {
            Ok(Ok(Value::Bool(result))) => Ok(result),
            Ok(Ok(_)) => Err(Failure::NotBool),
            Ok(Err(ExecutionError::UndeclaredReference(name))) if *name == "data" => {
                let payload = &facts.event().payload;
                // What was pruned is empty, which JSON never is.
                let is_kept = payload.is_json() && !payload.data.is_empty();
                Err(if is_kept { Failure::UnreadableData } else { Failure::NoData })
            }
            Ok(Err(cause)) => Err(Failure::Evaluation(shown(&cause))),
            Err(_) => Err(Failure::Defect),
        }
    }
}

fn compile(text: &str) -> Result<Program, Fault> {
    let parser = environment().parser().max_recursion_depth(96);
    let (mut ast, source) = parser.parse_with_source_info(text).map_err(|errors| {
        let first = errors.errors.into_iter().next();
        let (pos, message) = first.map_or(((1, 1), String::new()), |error| (error.pos, error.msg));
        let number = |number: isize| usize::try_from(number).unwrap_or(1).max(1);
        Fault { line: number(pos.0), column: number(pos.1), message: cut(&message) }
    })?;
    let mut checker = Checker::new(text, &source);
    let cost = checker.check_whole(&mut ast)?;
    Ok(Program { ast, cost, patterns: Arc::new(checker.patterns) })
}

/// Values may be in there; it is only shown to their owner.
fn shown(cause: &ExecutionError) -> String {
    match cause {
        ExecutionError::NoSuchKey(key) => cut(&format!("there is no `{key}`")),
        ExecutionError::UndeclaredReference(name) => cut(&format!("there is no `{name}`")),
        cause => cut(&cause.to_string()),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod type_tests;
