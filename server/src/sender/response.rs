//! What came back: the outcome that its head means, and as much of it as is kept.

use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header::RETRY_AFTER};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::{Instant, timeout_at};

use super::pool::AnswerBody;
use crate::domain::{
    attempt::{Outcome, Wish},
    timestamp::Timestamp,
};

/// The header that tells a [`Wish`].
static WISH: HeaderName = HeaderName::from_static("webhook-delivery");
/// How much of the headers is kept, in bytes of names and values.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// What a response with this head means that arrived at `now`.
pub(super) fn outcome(status: u16, headers: &HeaderMap, now: Timestamp) -> Outcome {
    match status {
        200..=299 => Outcome::Acknowledged { status },
        // Elsewhere the header means something else: how long a page is away, or when to follow a redirect (RFC 9110, 10.2.3).
        429 | 503 => Outcome::Rejected {
            status,
            retry_after: headers.get(RETRY_AFTER).and_then(|value| retry_after(value, now)),
        },
        _ => Outcome::Rejected { status, retry_after: None },
    }
}

/// What a response with this head asks for beside its status. What we do not know says nothing; of several wishes the one that goes
/// furthest counts.
pub(super) fn wish(status: u16, headers: &HeaderMap) -> Option<Wish> {
    let values = || headers.get_all(&WISH).iter().filter_map(|value| value.to_str().ok());
    // A list: who passes an answer on may fold what was sent as several headers into one (RFC 9110, 5.3).
    let words = || values().flat_map(|value| value.split(',')).map(str::trim);
    let says = |wanted: &str| words().any(|word| word.eq_ignore_ascii_case(wanted));
    if says("disable") {
        Some(Wish::Disable)
    } else {
        (!(200..=299).contains(&status) && says("abort-message")).then_some(Wish::AbortMessage)
    }
}

/// Seconds or a date (RFC 9110, 10.2.3); a date that has passed asks for no wait, anything else says nothing.
fn retry_after(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number can hold still mean: very long.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let date = Timestamp::from_micros(0) + date.duration_since(UNIX_EPOCH).ok()?;
    Some(date.since(now))
}

/// The headers as they are recorded: the first ones up to a limit.
pub(super) fn recorded_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut room = MAX_HEADER_BYTES;
    headers
        .iter()
        .map_while(|(name, value)| {
            room = room.checked_sub(name.as_str().len() + value.len())?;
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            Some((name.as_str().to_owned(), value))
        })
        .collect()
}

/// The beginning of a body.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// What was read.
    pub(super) body: Bytes,
    /// Whether there was, or may have been, more.
    pub(super) truncated: bool,
    /// Whether the deadline passed meanwhile.
    pub(super) timed_out: bool,
}

/// Reads at most `max` bytes before the deadline, then hangs up. A body that breaks off is truncated, no more: the head
/// has said what the receiver thinks. One of exactly `max` bytes whose length was not announced counts as truncated.
pub(super) async fn read_body(mut sent: AnswerBody, max: usize, deadline: Instant) -> Read {
    let announced = sent.size_hint().exact();
    let mut read = Read::default();
    let mut kept = BytesMut::new();
    while kept.len() < max {
        match timeout_at(deadline, sent.frame()).await {
            Ok(Some(Ok(frame))) => {
                let Ok(chunk) = frame.into_data() else {
                    // Trailers.
                    continue;
                };
                let room = max - kept.len();
                read.truncated = chunk.len() > room;
                kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
            Ok(None) => {
                read.body = kept.freeze();
                return read;
            }
            Ok(Some(Err(_))) => {
                read.truncated = true;
                break;
            }
            Err(_) => {
                read.truncated = true;
                read.timed_out = true;
                break;
            }
        }
    }
    read.truncated |= announced != u64::try_from(kept.len()).ok();
    read.body = kept.freeze();
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2015-10-21T07:28:00Z.
    const NOW: Timestamp = Timestamp::from_micros(1_445_412_480_000_000);

    fn headers(retry_after: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(retry_after))])
    }

    fn wait(text: &'static str) -> Option<Duration> {
        retry_after(&HeaderValue::from_static(text), NOW)
    }

    #[test]
    fn any_2xx_acknowledges_and_nothing_else() {
        for status in [200, 201, 204, 299] {
            assert_eq!(outcome(status, &HeaderMap::new(), NOW), Outcome::Acknowledged { status });
        }
        for status in [101, 199, 300, 302, 304, 400, 410, 500, 999] {
            let rejected = Outcome::Rejected { status, retry_after: None };
            assert_eq!(outcome(status, &headers("5"), NOW), rejected);
        }
    }

    #[test]
    fn retry_after_counts_on_429_and_503() {
        for status in [429, 503] {
            let rejected = Outcome::Rejected { status, retry_after: Some(Duration::from_secs(5)) };
            assert_eq!(outcome(status, &headers("5"), NOW), rejected);
        }
    }

    #[test]
    fn a_wish_is_one_of_two_words_in_a_list() {
        let wish = |status, texts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for text in texts {
                headers.append(&WISH, HeaderValue::from_static(text));
            }
            super::wish(status, &headers)
        };
        for (status, texts, expected) in [
            (500, &["abort-message"][..], Some(Wish::AbortMessage)),
            (400, &["  Abort-Message "], Some(Wish::AbortMessage)),
            (200, &["abort-message"], None),
            (200, &["disable"], Some(Wish::Disable)),
            (500, &["DISABLE "], Some(Wish::Disable)),
            (500, &["abort-message", "disable"], Some(Wish::Disable)),
            (500, &["abort-message, disable"], Some(Wish::Disable)),
            (200, &["disable,abort-message"], Some(Wish::Disable)),
            (500, &["later,, Abort-Message ,"], Some(Wish::AbortMessage)),
            (500, &["later", "soon , disable"], Some(Wish::Disable)),
            (200, &["later, abort-message"], None),
            (500, &["disable abort-message"], None),
            (500, &["abort"], None),
            (500, &["", "disabled", "abort message"], None),
            (500, &[], None),
        ] {
            assert_eq!(wish(status, texts), expected, "{status} {texts:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(wait("0"), Some(Duration::ZERO));
        assert_eq!(wait(" 120 "), Some(Duration::from_mins(2)));
        assert_eq!(wait("Wed, 21 Oct 2015 07:29:00 GMT"), Some(Duration::from_mins(1)));
        assert_eq!(wait("Wednesday, 21-Oct-15 07:29:00 GMT"), Some(Duration::from_mins(1)));
        assert_eq!(wait("Wed, 21 Oct 2015 07:27:00 GMT"), Some(Duration::ZERO));
        assert!(wait("99999999999999999999999999").unwrap() > Duration::from_hours(24 * 365));
        for nothing in ["", "-1", "1.5", "+5", "soon", "Wed, 99 Oct 2015 07:28:00 GMT"] {
            assert_eq!(wait(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn headers_are_recorded_in_order_lossily_and_up_to_a_limit() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-b", HeaderValue::from_bytes(b"\xff").unwrap());
        headers.append("x-c", HeaderValue::from_str(&"c".repeat(MAX_HEADER_BYTES)).unwrap());
        headers.append("x-d", HeaderValue::from_static("4"));
        let expected = [("x-a", "1"), ("x-b", "\u{fffd}")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(recorded_headers(&headers), expected);
    }
}
