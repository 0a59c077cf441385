//! What an owner has put together.

use http::{HeaderName, HeaderValue};

use super::{
    Pen, Unsigned,
    mac::{base64, hex, hmac},
};
use crate::domain::signing::{CustomHmac, Encoding, Part};

pub(super) fn write(pen: &mut Pen<'_>, custom: &CustomHmac) -> Result<(), Unsigned> {
    let words = Words { seconds: pen.seconds(), milliseconds: pen.milliseconds() };
    let content: Vec<_> = custom.signed_content.parts().iter().map(|part| words.bytes(part, pen)).collect();
    let signature = hmac(custom.algorithm, pen.key()?.as_bytes(), &content)?;
    let signature = match custom.encoding {
        Encoding::Hex => hex(&signature),
        Encoding::Base64 => base64(&signature),
    };
    // Of prefixes, the domain lets only text through.
    let prefix: Vec<_> = custom.prefix.parts().iter().map(|part| words.bytes(part, pen)).collect();
    let value = String::from_utf8_lossy(&prefix.concat()).into_owned() + &signature;
    pen.write_signature(HeaderName::from_bytes(custom.header.as_str().as_bytes())?, value)?;
    if let Some(name) = &custom.timestamp_header {
        let timestamp = if custom.in_milliseconds() { words.milliseconds } else { words.seconds };
        let name = HeaderName::from_bytes(name.as_str().as_bytes())?;
        pen.headers.insert(name, HeaderValue::try_from(timestamp)?);
    }
    Ok(())
}

/// The time of the attempt as text.
struct Words {
    seconds: String,
    milliseconds: String,
}

impl Words {
    fn bytes<'a>(&'a self, part: &'a Part, pen: &'a Pen<'_>) -> &'a [u8] {
        match part {
            Part::Literal(text) => text.as_bytes(),
            Part::Body => pen.message.body,
            Part::Timestamp => self.seconds.as_bytes(),
            Part::TimestampMs => self.milliseconds.as_bytes(),
            Part::Id => pen.message.id.as_bytes(),
            Part::Url => pen.url.as_str().as_bytes(),
            Part::Method => pen.message.method.as_str().as_bytes(),
        }
    }
}
