//! A W3C trace context (<https://www.w3.org/TR/trace-context/>) as text, to be stored and passed on.

/// `traceparent` and `tracestate` as their headers spell them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    traceparent: String,
    tracestate: String,
}

impl TraceContext {
    /// Accepts a well-formed `traceparent`. A malformed one is no error to anybody (section 4.3 of the specification:
    /// start afresh), and a `tracestate` that is overlong (3.3.1.5) or not printable ASCII (3.3.1.3) is dropped.
    #[must_use]
    pub fn parse(traceparent: &str, tracestate: &str) -> Option<Self> {
        let mut parts = traceparent.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let nonzero = |text: &str| text.bytes().any(|b| b != b'0');
        let well_formed = hex(version, 2)
            && version != "ff"
            && (version != "00" || parts.next().is_none())
            && hex(trace, 32)
            && nonzero(trace)
            && hex(span, 16)
            && nonzero(span)
            && hex(flags, 2);
        let printable = tracestate.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b));
        let tracestate = if tracestate.len() <= 512 && printable { tracestate } else { "" };
        well_formed.then(|| Self {
            traceparent: format!("00-{trace}-{span}-{flags}"),
            tracestate: tracestate.to_owned(),
        })
    }

    /// From what the database stores.
    #[must_use]
    pub fn from_stored(traceparent: String, tracestate: String) -> Self {
        Self { traceparent, tracestate }
    }

    /// The `traceparent` header.
    #[must_use]
    pub fn traceparent(&self) -> &str {
        &self.traceparent
    }

    /// The `tracestate` header; empty if there is none.
    #[must_use]
    pub fn tracestate(&self) -> &str {
        &self.tracestate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_contexts_are_as_good_as_none() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(TraceContext::parse(good, "a=1").unwrap().traceparent(), good);
        assert!(
            TraceContext::parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", "").is_some()
        );
        for bad in [
            "",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            assert_eq!(TraceContext::parse(bad, ""), None, "{bad}");
        }
    }

    #[test]
    fn a_malformed_state_is_dropped_and_its_parent_kept() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let state = |text: &str| TraceContext::parse(parent, text).unwrap().tracestate;
        assert_eq!(state("a=1,\tb=2"), "a=1,\tb=2");
        for bad in ["a=\0", "a=1\r\nx: y", "ä=1", &"a".repeat(513)] {
            assert_eq!(state(bad), "", "{bad:?}");
        }
    }
}
