//! The number and the time that producers put at the beginning of their data, `{"n":17,"t":1700000000000000,…`.

use std::fmt::Write;

/// How far into a callback it begins at most: the envelope's `type` and `timestamp` stand before it.
const HORIZON: usize = 512;
const BEFORE: &[u8] = br#""data":{"n":"#;
const BETWEEN: &[u8] = br#","t":"#;

/// Which event it is, and when it was to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbered {
    /// Unique within a run.
    pub(crate) number: u64,
    /// In microseconds since 1970.
    pub(crate) intended: u64,
}

impl Numbered {
    /// Begins a JSON object.
    pub(crate) fn write(self, text: &mut String) {
        // Writing to a string does not fail.
        let _ = write!(text, r#"{{"n":{},"t":{}"#, self.number, self.intended);
    }

    /// Finds it in the body of a callback.
    pub(crate) fn find(body: &[u8]) -> Option<Self> {
        let head = &body[..body.len().min(HORIZON)];
        let at = head.windows(BEFORE.len()).position(|window| window == BEFORE)?;
        let (number, rest) = digits(&head[at + BEFORE.len()..])?;
        let (intended, _) = digits(rest.strip_prefix(BETWEEN)?)?;
        Some(Self { number, intended })
    }
}

fn digits(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let number = std::str::from_utf8(&text[..end]).ok()?.parse().ok()?;
    Some((number, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_producer_wrote_is_found_in_the_envelope() {
        let numbered = Numbered { number: 17, intended: 1_700_000_000_000_001 };
        let mut data = String::new();
        numbered.write(&mut data);
        let body = format!(r#"{{"type":"a.b","timestamp":"2023","data":{data},"pad":""}}}}"#);
        assert_eq!(Numbered::find(body.as_bytes()), Some(numbered));
        assert_eq!(Numbered::find(br#"{"type":"a.b","data":{"test":true}}"#), None);
    }
}
