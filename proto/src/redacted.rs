//! What messages show of themselves where they may hold secrets.

use std::fmt;

use crate::v1::StaticHeader;

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
