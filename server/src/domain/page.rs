//! Pages of a listing, by keyset: a page begins after the last row of the page before.

use uuid::Uuid;

/// How many rows a page has: 1 to 1,000, 50 by default (AIP-158).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize(u16);

impl PageSize {
    /// 0 means the default, too many means the most; negative numbers are refused.
    #[must_use]
    pub fn parse(size: i32) -> Option<Self> {
        match u32::try_from(size).ok()? {
            0 => Some(Self(50)),
            size => Some(Self(u16::try_from(size.min(1_000)).unwrap_or(1_000))),
        }
    }

    /// As a number of rows.
    #[must_use]
    pub const fn rows(self) -> u64 {
        self.0 as u64
    }
}

/// The part of a listing that one call asks for.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest {
    /// At most this many rows.
    pub size: PageSize,
    /// Only rows behind this one.
    pub after: Option<Cursor>,
}

/// The sort key of a page's last row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub Uuid);

/// Some rows of a listing.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page begins; none on the last page.
    pub next: Option<Cursor>,
}
