//! The functions that expressions can call.

use cel::common::ast::operators;

use super::kind::Kind;

/// A function: its name, what it is called on, how many arguments it takes, what it returns.
struct Function(&'static str, Call, &'static [usize], Kind);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Global,
    Member,
}

const FUNCTIONS: [Function; 25] = [
    Function("size", Call::Global, &[1], Kind::Int),
    Function("size", Call::Member, &[0], Kind::Int),
    Function("contains", Call::Member, &[1], Kind::Bool),
    Function("startsWith", Call::Member, &[1], Kind::Bool),
    Function("endsWith", Call::Member, &[1], Kind::Bool),
    Function("int", Call::Global, &[1], Kind::Int),
    Function("uint", Call::Global, &[1], Kind::Uint),
    Function("double", Call::Global, &[1], Kind::Double),
    Function("bool", Call::Global, &[1], Kind::Bool),
    Function("string", Call::Global, &[1], Kind::Text),
    Function("bytes", Call::Global, &[1], Kind::Bytes),
    Function("dyn", Call::Global, &[1], Kind::Any),
    Function("timestamp", Call::Global, &[1], Kind::Time),
    Function("duration", Call::Global, &[1], Kind::Span),
    Function("getFullYear", Call::Member, &[0, 1], Kind::Int),
    Function("getMonth", Call::Member, &[0, 1], Kind::Int),
    Function("getDate", Call::Member, &[0, 1], Kind::Int),
    Function("getDayOfMonth", Call::Member, &[0, 1], Kind::Int),
    Function("getDayOfWeek", Call::Member, &[0, 1], Kind::Int),
    Function("getDayOfYear", Call::Member, &[0, 1], Kind::Int),
    Function("getHours", Call::Member, &[0, 1], Kind::Int),
    Function("getMinutes", Call::Member, &[0, 1], Kind::Int),
    Function("getSeconds", Call::Member, &[0, 1], Kind::Int),
    Function("getMilliseconds", Call::Member, &[0, 1], Kind::Int),
    Function(operators::NOT_STRICTLY_FALSE, Call::Global, &[1], Kind::Bool),
];

/// Why a call cannot be made.
pub(super) enum Unfit {
    /// There is no function of this name.
    Unknown,
    /// It is not called like this.
    Misused,
}

/// What a call returns: of a value's method, or of a function, with so many arguments.
pub(super) fn returned(name: &str, is_method: bool, arguments: usize) -> Result<Kind, Unfit> {
    let how = if is_method { Call::Member } else { Call::Global };
    let mut unfit = Unfit::Unknown;
    for Function(_, call, counts, kind) in FUNCTIONS.iter().filter(|function| function.0 == name) {
        if *call == how && counts.contains(&arguments) {
            return Ok(*kind);
        }
        unfit = Unfit::Misused;
    }
    Err(unfit)
}
