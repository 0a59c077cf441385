//! Page tokens: where the next page begins, for which query, and a check that it was us who said so.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::{
    invalid::Invalid,
    page::{Cursor, PageRequest, PageSize},
};

const CHECK_LENGTH: usize = 8;

/// Identifies a query, so that a token of one is not taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Query([u8; CHECK_LENGTH]);

impl Query {
    /// Identifies a method with the filter that it was called with.
    pub(super) fn new(method: &str, filter: &impl std::fmt::Debug) -> Self {
        Self(digest(&[method.as_bytes(), format!("{filter:?}").as_bytes()]))
    }

    /// Reads `page_size` and `page_token`.
    pub(super) fn page(self, page_size: i32, page_token: &str) -> Result<PageRequest, Invalid> {
        let size = PageSize::parse(page_size)
            .ok_or_else(|| Invalid::new("page_size", "must not be negative; 0 means the default"))?;
        let after = if page_token.is_empty() { None } else { Some(self.cursor(page_token)?) };
        Ok(PageRequest { size, after })
    }

    /// Writes the token of the next page; empty on the last one.
    pub(super) fn token(self, next: Option<Cursor>) -> String {
        next.map_or_else(String::new, |Cursor(key)| {
            let key = key.as_bytes();
            URL_SAFE_NO_PAD.encode([&self.0[..], key, &check(self, key)].concat())
        })
    }

    fn cursor(self, token: &str) -> Result<Cursor, Invalid> {
        let made_up = || Invalid::new("page_token", "is not one that this server gave out");
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| made_up())?;
        let (query, rest) = bytes.split_first_chunk::<CHECK_LENGTH>().ok_or_else(made_up)?;
        let (key, found) = rest.split_first_chunk::<16>().ok_or_else(made_up)?;
        if found != check(Self(*query), key) {
            return Err(made_up());
        }
        if *query != self.0 {
            return Err(Invalid::new(
                "page_token",
                "belongs to a query with other fields; leave it empty to begin anew",
            ));
        }
        Ok(Cursor(Uuid::from_bytes(*key)))
    }
}

/// Not a signature: a token opens nothing that its query does not. It tells accidents and inventions.
fn check(query: Query, key: &[u8; 16]) -> [u8; CHECK_LENGTH] {
    digest(&[b"postrider page token", &query.0, key])
}

fn digest(parts: &[&[u8]]) -> [u8; CHECK_LENGTH] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut short = [0; CHECK_LENGTH];
    short.copy_from_slice(&hash.finalize()[..CHECK_LENGTH]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_cursor_in_its_own_query_only() {
        let cursor = Cursor(Uuid::from_u128(7));
        let query = Query::new("ListEvents", &("acme", 1));
        let token = query.token(Some(cursor));
        assert_eq!(query.page(0, &token).unwrap().after, Some(cursor));
        let other = Query::new("ListEvents", &("acme", 2));
        assert!(other.page(0, &token).unwrap_err().reason.contains("belongs to a query with other fields"));
        assert_eq!(query.token(None), "");
    }

    #[test]
    fn made_up_tokens_are_refused() {
        let query = Query::new("ListEvents", &());
        let good = query.token(Some(Cursor(Uuid::from_u128(7))));
        let mut altered = good.clone().into_bytes();
        altered[20] = if altered[20] == b'A' { b'B' } else { b'A' };
        for bad in ["x", "AAAA", "not base64!", &good[1..], &String::from_utf8(altered).unwrap()] {
            assert_eq!(query.page(0, bad).unwrap_err().field, "page_token", "{bad}");
        }
        assert_eq!(query.page(-1, "").unwrap_err().field, "page_size");
    }
}
