//! What messages show of themselves where they may hold secrets.

use std::fmt;

use crate::v1::{EbayHandshake, LinkedinHandshake, MetaHandshake, SlackUrlVerification, StaticHeader};

impl fmt::Debug for StaticHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value: &dyn fmt::Debug = if self.secret { &format_args!("[redacted]") } else { &self.value };
        f.debug_struct("StaticHeader")
            .field("name", &self.name)
            .field("value", value)
            .field("secret", &self.secret)
            .finish()
    }
}

/// Messages that hold nothing but a secret.
macro_rules! secret {
    ($($message:ident),+) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), "([redacted])"))
            }
        }
    )+};
}

secret!(SlackUrlVerification, MetaHandshake, EbayHandshake, LinkedinHandshake);
