//! What can be calculated with what.

use cel::common::ast::operators;

use super::kind::{Kind, fits};

/// An operator with operands that it takes, and what it makes of them.
struct Overload(&'static str, Kind, Kind, Kind);

/// Nothing is converted: an int and a double cannot be added up.
const OVERLOADS: &[Overload] = &[
    Overload(operators::ADD, Kind::Int, Kind::Int, Kind::Int),
    Overload(operators::ADD, Kind::Uint, Kind::Uint, Kind::Uint),
    Overload(operators::ADD, Kind::Double, Kind::Double, Kind::Double),
    Overload(operators::ADD, Kind::Text, Kind::Text, Kind::Text),
    Overload(operators::ADD, Kind::Bytes, Kind::Bytes, Kind::Bytes),
    Overload(operators::ADD, Kind::List, Kind::List, Kind::List),
    // The keys of the map, as if they were listed.
    Overload(operators::ADD, Kind::List, Kind::Map, Kind::List),
    Overload(operators::ADD, Kind::List, Kind::Texts, Kind::List),
    Overload(operators::ADD, Kind::Time, Kind::Span, Kind::Time),
    Overload(operators::ADD, Kind::Span, Kind::Time, Kind::Time),
    Overload(operators::ADD, Kind::Span, Kind::Span, Kind::Span),
    Overload(operators::SUBSTRACT, Kind::Int, Kind::Int, Kind::Int),
    Overload(operators::SUBSTRACT, Kind::Uint, Kind::Uint, Kind::Uint),
    Overload(operators::SUBSTRACT, Kind::Double, Kind::Double, Kind::Double),
    Overload(operators::SUBSTRACT, Kind::Time, Kind::Span, Kind::Time),
    Overload(operators::SUBSTRACT, Kind::Time, Kind::Time, Kind::Span),
    Overload(operators::SUBSTRACT, Kind::Span, Kind::Span, Kind::Span),
    Overload(operators::MULTIPLY, Kind::Int, Kind::Int, Kind::Int),
    Overload(operators::MULTIPLY, Kind::Uint, Kind::Uint, Kind::Uint),
    Overload(operators::MULTIPLY, Kind::Double, Kind::Double, Kind::Double),
    Overload(operators::DIVIDE, Kind::Int, Kind::Int, Kind::Int),
    Overload(operators::DIVIDE, Kind::Uint, Kind::Uint, Kind::Uint),
    Overload(operators::DIVIDE, Kind::Double, Kind::Double, Kind::Double),
    Overload(operators::MODULO, Kind::Int, Kind::Int, Kind::Int),
    Overload(operators::MODULO, Kind::Uint, Kind::Uint, Kind::Uint),
];

/// What an operator makes of its operands, as far as it is known; nothing if it cannot be used with them, whatever their values.
pub(super) fn result(operator: &str, left: Kind, right: Kind) -> Option<Kind> {
    let possible = OVERLOADS
        .iter()
        .filter(|overload| overload.0 == operator && fits(left, overload.1) && fits(right, overload.2))
        .map(|overload| overload.3);
    possible.reduce(|one, other| if one == other { one } else { Kind::Calculated })
}

/// What to do about operands that an operator cannot be used with; empty if there is nothing to say.
pub(super) fn advice(operator: &str, left: Kind, right: Kind) -> &'static str {
    let is_number = |kind| matches!(kind, Kind::Int | Kind::Uint | Kind::Double);
    let is_moved = matches!(left, Kind::Time | Kind::Span) && is_number(right);
    match operator {
        operators::MODULO if is_number(left) && is_number(right) => {
            "; it takes two ints or two uints: convert what is neither, as by `int(…)`"
        }
        _ if is_number(left) && is_number(right) => "; convert one of them, as by `double(…)`",
        operators::ADD | operators::SUBSTRACT if is_moved => "; it takes a duration, as `duration('1h')`",
        operators::ADD if left == Kind::Text || right == Kind::Text => {
            "; convert one of them, as by `string(…)`"
        }
        _ => "",
    }
}
