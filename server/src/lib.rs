//! server
pub mod clock;
pub mod dispatch;
pub mod domain;
pub mod publish;
pub mod sender;
pub mod store;
pub mod telemetry;
