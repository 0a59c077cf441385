//! Schemes of the owner's own: an HMAC over whatever their receivers put together.

use serde::{Deserialize, Serialize};

use super::{Part, SignatureHeader, Template};
use crate::domain::invalid::Invalid;

/// A scheme: `header: prefix + encoding(HMAC(secret, signed_content))`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomHmac {
    /// Which header carries the signature.
    pub header: SignatureHeader,
    /// The hash.
    pub algorithm: Algorithm,
    /// How the signature is written.
    pub encoding: Encoding,
    /// What stands before the signature.
    pub prefix: Template,
    /// What is signed.
    pub signed_content: Template,
    /// Which header carries the timestamp, if one does.
    pub timestamp_header: Option<SignatureHeader>,
}

/// The hash of an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// SHA-1, for receivers that know no other.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How the bytes of a signature are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Lower-case hexadecimal.
    Hex,
    /// Padded base64 of the standard alphabet.
    Base64,
}

impl CustomHmac {
    /// HMAC-SHA256 in hexadecimal, in this header.
    #[must_use]
    pub fn new(header: SignatureHeader, signed_content: Template) -> Self {
        let prefix = Template::empty();
        let (algorithm, encoding) = (Algorithm::Sha256, Encoding::Hex);
        Self { header, algorithm, encoding, prefix, signed_content, timestamp_header: None }
    }

    /// Checks what must be true between its parts.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.timestamp_header.is_some() && self.says(&Part::Timestamp) && self.says(&Part::TimestampMs) {
            let reason =
                "cannot be told, as both `{timestamp}` and `{timestamp_ms}` are used: use one of them";
            return Err(Invalid::new("timestamp_header", reason));
        }
        Ok(())
    }

    /// Whether the header that carries the timestamp has it in milliseconds: as it is signed.
    #[must_use]
    pub fn in_milliseconds(&self) -> bool {
        self.says(&Part::TimestampMs)
    }

    fn says(&self, part: &Part) -> bool {
        self.signed_content.parts().contains(part) || self.prefix.parts().contains(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timestamp_has_one_unit() {
        let header = |name| SignatureHeader::parse("header", name).unwrap();
        let custom = |signed| CustomHmac {
            timestamp_header: Some(header("X-Timestamp")),
            ..CustomHmac::new(header("X-Signature"), Template::signed(signed).unwrap())
        };
        assert!(!custom("{body}").in_milliseconds());
        assert!(!custom("{timestamp}{body}").in_milliseconds());
        assert!(custom("{timestamp_ms}{body}").in_milliseconds());
        let both = custom("{timestamp}{timestamp_ms}{body}");
        assert_eq!(both.check().unwrap_err().field, "timestamp_header");
        assert_eq!(CustomHmac { timestamp_header: None, ..both }.check(), Ok(()));
    }
}
