//! Keyset pagination, once.

use sea_orm::prelude::Uuid;

use crate::domain::page::{Cursor, Page, PageRequest};

/// How many rows to read for a page: one more than it has, to see whether another one follows.
pub(super) fn limit(request: PageRequest) -> u64 {
    request.size.rows() + 1
}

/// Cuts the rows that were read to a page.
pub(super) fn cut<R, T, E>(
    mut rows: Vec<R>,
    request: PageRequest,
    key: impl Fn(&R) -> Uuid,
    read: impl Fn(R) -> Result<T, E>,
) -> Result<Page<T>, E> {
    let more = rows.len() as u64 > request.size.rows();
    if more {
        rows.pop();
    }
    let next = if more { rows.last().map(|row| Cursor(key(row))) } else { None };
    Ok(Page { items: rows.into_iter().map(read).collect::<Result<_, _>>()?, next })
}
