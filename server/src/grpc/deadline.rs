//! How long a caller waits for the answer to a call that takes its time.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// What the way back may take, so that an answer is there before its caller gives up.
const WAY_BACK: Duration = Duration::from_millis(500);

/// How long the answer may take that the caller still gets; as long as it likes if the caller sets no deadline.
pub(super) fn of_call(metadata: &MetadataMap) -> Duration {
    let told = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(read);
    told.map_or(Duration::MAX, |told| told.saturating_sub(WAY_BACK))
}

/// At most eight digits and a unit (gRPC over HTTP/2, `Timeout`).
fn read(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_hours(number),
        "M" => Duration::from_mins(number),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_little_before_the_callers() {
        let left = |text: Option<&'static str>| {
            let mut metadata = MetadataMap::new();
            if let Some(text) = text {
                metadata.insert("grpc-timeout", text.parse().unwrap());
            }
            of_call(&metadata)
        };
        for (text, expected) in [
            ("10S", Duration::from_millis(9_500)),
            ("600m", Duration::from_millis(100)),
            ("99999999H", Duration::from_hours(99_999_999).saturating_sub(WAY_BACK)),
            ("1n", Duration::ZERO),
            ("2000000u", Duration::from_millis(1_500)),
            ("1M", Duration::from_millis(59_500)),
        ] {
            assert_eq!(left(Some(text)), expected, "{text}");
        }
        for text in [None, Some(""), Some("S"), Some("1"), Some("1x"), Some("-1S"), Some("999999999S")] {
            assert_eq!(left(text), Duration::MAX, "{text:?}");
        }
    }
}
