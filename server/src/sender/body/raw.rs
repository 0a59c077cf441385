//! The data as it was published.

use super::{Body, Error};
use crate::domain::event::Event;

pub(super) fn write(event: &Event) -> Result<Body, Error> {
    Body::data(&event.content.payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::event;

    #[test]
    fn data_goes_out_as_it_came_in() {
        for (data, content_type) in [
            (&b" {\"b\": 1.10, \"a\":\t1}\n"[..], "application/vnd.api+json; charset=utf-8"),
            (b"\xff\x00", "image/png"),
            (b"a=1&b=2", "application/x-www-form-urlencoded"),
        ] {
            let body = write(&event(data, content_type)).unwrap();
            assert_eq!(body.bytes, data);
            assert_eq!(body.content_type, content_type);
            assert!(body.headers.is_empty());
        }
    }

    #[test]
    fn a_body_is_never_empty() {
        let body = write(&event(b"", "text/plain")).unwrap();
        assert_eq!((&body.bytes[..], body.content_type.as_bytes()), (&b"{}"[..], &b"application/json"[..]));
    }
}
