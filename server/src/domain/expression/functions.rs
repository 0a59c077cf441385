//! The functions that expressions can call.

use cel::common::ast::operators;

use super::kind::{Kind, fits};

/// A function: its name, what it is called on if it is a method, what it takes, what it returns.
struct Function(&'static str, Option<&'static [Kind]>, Takes, Kind);

/// What a function is given beside what it is called on.
#[derive(Clone, Copy)]
enum Takes {
    Nothing,
    One(&'static [Kind]),
    /// Whatever it is.
    Anything,
}

const TEXT: &[Kind] = &[Kind::Text];
const TIME: &[Kind] = &[Kind::Time];
const SPAN: &[Kind] = &[Kind::Span];
const SIZED: &[Kind] = &[Kind::Text, Kind::Bytes, Kind::List, Kind::Map, Kind::Texts];
/// What is written into a text, or read from one.
const WRITTEN: &[Kind] =
    &[Kind::Text, Kind::Bool, Kind::Int, Kind::Uint, Kind::Double, Kind::Bytes, Kind::Time, Kind::Span];
const NUMBERS: &[Kind] = &[Kind::Int, Kind::Uint, Kind::Double, Kind::Text];
const INTS: &[Kind] = &[Kind::Int, Kind::Uint, Kind::Double, Kind::Text, Kind::Time];

const FUNCTIONS: &[Function] = &[
    Function("size", None, Takes::One(SIZED), Kind::Int),
    Function("size", Some(SIZED), Takes::Nothing, Kind::Int),
    Function("contains", Some(TEXT), Takes::One(TEXT), Kind::Bool),
    Function("startsWith", Some(TEXT), Takes::One(TEXT), Kind::Bool),
    Function("endsWith", Some(TEXT), Takes::One(TEXT), Kind::Bool),
    Function("int", None, Takes::One(INTS), Kind::Int),
    Function("uint", None, Takes::One(NUMBERS), Kind::Uint),
    Function("double", None, Takes::One(NUMBERS), Kind::Double),
    Function("bool", None, Takes::One(&[Kind::Bool, Kind::Text]), Kind::Bool),
    Function("string", None, Takes::One(WRITTEN), Kind::Text),
    Function("bytes", None, Takes::One(&[Kind::Text, Kind::Bytes]), Kind::Bytes),
    Function("dyn", None, Takes::Anything, Kind::Any),
    Function("timestamp", None, Takes::One(&[Kind::Text, Kind::Int, Kind::Time]), Kind::Time),
    Function("duration", None, Takes::One(&[Kind::Text, Kind::Span]), Kind::Span),
    Function("getFullYear", Some(TIME), Takes::Nothing, Kind::Int),
    Function("getFullYear", Some(TIME), Takes::One(TEXT), Kind::Int),
    Function("getMonth", Some(TIME), Takes::Nothing, Kind::Int),
    Function("getMonth", Some(TIME), Takes::One(TEXT), Kind::Int),
    Function("getDate", Some(TIME), Takes::Nothing, Kind::Int),
    Function("getDate", Some(TIME), Takes::One(TEXT), Kind::Int),
    Function("getDayOfMonth", Some(TIME), Takes::Nothing, Kind::Int),
    Function("getDayOfMonth", Some(TIME), Takes::One(TEXT), Kind::Int),
    Function("getDayOfWeek", Some(TIME), Takes::Nothing, Kind::Int),
    Function("getDayOfWeek", Some(TIME), Takes::One(TEXT), Kind::Int),
    Function("getDayOfYear", Some(TIME), Takes::Nothing, Kind::Int),
    Function("getDayOfYear", Some(TIME), Takes::One(TEXT), Kind::Int),
    Function("getHours", Some(TIME), Takes::Nothing, Kind::Int),
    Function("getHours", Some(TIME), Takes::One(TEXT), Kind::Int),
    Function("getHours", Some(SPAN), Takes::Nothing, Kind::Int),
    Function("getMinutes", Some(TIME), Takes::Nothing, Kind::Int),
    Function("getMinutes", Some(TIME), Takes::One(TEXT), Kind::Int),
    Function("getMinutes", Some(SPAN), Takes::Nothing, Kind::Int),
    Function("getSeconds", Some(TIME), Takes::Nothing, Kind::Int),
    Function("getSeconds", Some(TIME), Takes::One(TEXT), Kind::Int),
    Function("getSeconds", Some(SPAN), Takes::Nothing, Kind::Int),
    Function("getMilliseconds", Some(TIME), Takes::Nothing, Kind::Int),
    Function("getMilliseconds", Some(TIME), Takes::One(TEXT), Kind::Int),
    Function("getMilliseconds", Some(SPAN), Takes::Nothing, Kind::Int),
    Function(operators::NOT_STRICTLY_FALSE, None, Takes::Anything, Kind::Bool),
];

/// Why a call cannot be made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// There is no function of this name.
    Unknown,
    /// It is not called like this.
    Misused,
    /// It cannot be called on that, but on these.
    Target(Vec<Kind>),
    /// It does not take this argument, but these.
    Argument(usize, Vec<Kind>),
}

/// What a call returns: of a value's method, or of a function, with these arguments.
pub(super) fn returned(name: &str, target: Option<Kind>, arguments: &[Kind]) -> Result<Kind, Unfit> {
    let named = || FUNCTIONS.iter().filter(|function| function.0 == name);
    let called = || {
        named().filter(|Function(_, on, takes, _)| {
            on.is_some() == target.is_some() && takes.how_many() == arguments.len()
        })
    };
    if called().next().is_none() {
        return Err(if named().next().is_none() { Unfit::Unknown } else { Unfit::Misused });
    }
    let mut on = called().filter(|function| match (function.1, target) {
        (Some(allowed), Some(target)) => fits_any(target, allowed),
        _ => true,
    });
    let Some(first) = on.next() else {
        return Err(Unfit::Target(called().filter_map(|function| function.1).flatten().copied().collect()));
    };
    // What a function takes does not depend on what it is called on, where that fits.
    match (first.2, arguments) {
        (Takes::One(allowed), [argument]) if !fits_any(*argument, allowed) => {
            Err(Unfit::Argument(0, allowed.to_vec()))
        }
        _ => Ok(first.3),
    }
}

impl Takes {
    fn how_many(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One(_) | Self::Anything => 1,
        }
    }
}

fn fits_any(known: Kind, allowed: &[Kind]) -> bool {
    allowed.iter().any(|kind| fits(known, *kind))
}

/// All names.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|function| function.0).filter(|name| !name.starts_with('@'))
}
