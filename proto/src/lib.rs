//! The contract of Postrider: what a caller, the server and a receiver must agree on.
//!
//! [`v1`] is generated from `postrider/v1/*.proto` and checked in, so that nobody needs `protoc`. After a change of
//! a `.proto` file, `UPDATE=1 cargo test -p postrider-proto` writes it anew; without `UPDATE` the same test fails
//! when it is not current. `signature/vectors.json` holds the signatures that the server and the SDK,
//! which are written independently, must both produce.

mod generated {
    #![expect(
        unreachable_pub,
        clippy::allow_attributes,
        clippy::all,
        clippy::pedantic,
        reason = "generated code"
    )]
    #[rustfmt::skip]
    #[path = "postrider.v1.rs"]
    pub mod postrider_v1;
}

mod redacted;

/// Package `postrider.v1`: messages, clients and servers.
pub mod v1 {
    pub use crate::generated::postrider_v1::*;
}

/// The `FileDescriptorSet` of everything in [`v1`], for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");
