//! What a row holds in one column. Borrowed where it can be: rows are many, and what they say is there already.

use std::borrow::Cow;

use sea_orm::{Value, prelude::Uuid};

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Cell<'a> {
    Null,
    Uuid(Uuid),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Bool(bool),
    SmallInt(i16),
    Int(i32),
    BigInt(i64),
}

macro_rules! from {
    ($($from:ty => $cell:ident),+ $(,)?) => {
        $(impl<'a> From<$from> for Cell<'a> {
            fn from(value: $from) -> Self {
                Self::$cell(value.into())
            }
        })+
    };
}

from! {
    Uuid => Uuid,
    &'a str => Text,
    String => Text,
    &'a [u8] => Bytes,
    Vec<u8> => Bytes,
    bool => Bool,
    i16 => SmallInt,
    i32 => Int,
    i64 => BigInt,
}

impl<'a, T: Into<Cell<'a>>> From<Option<T>> for Cell<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl Cell<'_> {
    /// Its bytes in PostgreSQL's binary format. What stands for null is short.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Null | Self::BigInt(_) => 8,
            Self::Uuid(_) => 16,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Bool(_) => 1,
            Self::SmallInt(_) => 2,
            Self::Int(_) => 4,
        }
    }
}

/// As sea-orm takes it; none if it is null, whose type is the column's.
impl From<Cell<'_>> for Option<Value> {
    fn from(cell: Cell<'_>) -> Self {
        match cell {
            Cell::Null => None,
            Cell::Uuid(value) => Some(value.into()),
            Cell::Text(value) => Some(value.into_owned().into()),
            Cell::Bytes(value) => Some(value.into_owned().into()),
            Cell::Bool(value) => Some(value.into()),
            Cell::SmallInt(value) => Some(value.into()),
            Cell::Int(value) => Some(value.into()),
            Cell::BigInt(value) => Some(value.into()),
        }
    }
}
