//! What is known of the values of an expression before there are any.

use cel::common::ast::LiteralValue;

/// What is known of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Any,
    /// The result of a calculation: anything but a bool, null or a map.
    Calculated,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Null,
    List,
    Map,
    /// The attributes: texts by text.
    Texts,
    Time,
    Span,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Any => "a value",
            Self::Calculated => "a calculated value",
            Self::Bool => "a bool",
            Self::Int => "an int",
            Self::Uint => "a uint",
            Self::Double => "a double",
            Self::Text => "a string",
            Self::Bytes => "bytes",
            Self::Null => "null",
            Self::List => "a list",
            Self::Map | Self::Texts => "a map",
            Self::Time => "a timestamp",
            Self::Span => "a duration",
        }
    }

    /// Whether its values can be long.
    pub(super) fn is_sized(self) -> bool {
        match self {
            Self::Any
            | Self::Calculated
            | Self::Text
            | Self::Bytes
            | Self::List
            | Self::Map
            | Self::Texts => true,
            Self::Bool | Self::Int | Self::Uint | Self::Double | Self::Null | Self::Time | Self::Span => {
                false
            }
        }
    }
}

/// What can be more or less than another.
pub(super) const ORDERED: &[Kind] =
    &[Kind::Bool, Kind::Int, Kind::Uint, Kind::Double, Kind::Text, Kind::Bytes, Kind::Time, Kind::Span];
/// What can be a key of a map.
pub(super) const KEYS: &[Kind] = &[Kind::Bool, Kind::Int, Kind::Uint, Kind::Text];

/// What can be looked up in a list: a double too, if it is whole.
pub(super) const INDICES: &[Kind] = &[Kind::Int, Kind::Uint, Kind::Double];
/// What can be looked up in a map.
pub(super) const LOOKED_UP: &[Kind] = &[Kind::Bool, Kind::Int, Kind::Uint, Kind::Double, Kind::Text];

/// Kinds in words, without what is called the same twice.
pub(super) fn listed(kinds: &[Kind]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for kind in kinds {
        if !names.contains(&kind.name()) {
            names.push(kind.name());
        }
    }
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, before)) => format!("{} or {last}", before.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// Whether a value of which this much is known can be of that kind.
pub(super) fn fits(known: Kind, wanted: Kind) -> bool {
    match known {
        Kind::Any => true,
        Kind::Calculated => !matches!(wanted, Kind::Bool | Kind::Null | Kind::Map | Kind::Texts),
        known => known == wanted,
    }
}

/// Of a literal all is known.
pub(super) fn of_literal(literal: &LiteralValue) -> Kind {
    match literal {
        LiteralValue::Boolean(_) => Kind::Bool,
        LiteralValue::Bytes(_) => Kind::Bytes,
        LiteralValue::Double(_) => Kind::Double,
        LiteralValue::Int(_) => Kind::Int,
        LiteralValue::Null => Kind::Null,
        LiteralValue::String(_) => Kind::Text,
        LiteralValue::UInt(_) => Kind::Uint,
    }
}
