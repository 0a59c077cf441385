//! Why there is no sender.

use std::path::PathBuf;

use crate::domain::invalid::Invalid;

/// Why there is no sender.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The user agent does not fit in a header.
    #[error("sender.user_agent does not fit in an HTTP header")]
    UserAgent(#[from] http::header::InvalidHeaderValue),
    /// The proxy or what is exempt from it cannot be.
    #[error(transparent)]
    Proxy(#[from] Invalid),
    /// The file of extra certificate authorities is of no use.
    #[error("sender.extra_ca_file `{}` cannot be read", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: rustls::pki_types::pem::Error,
    },
    /// There is nobody to trust.
    #[error("no certificate authorities can be loaded; install the system's or set sender.extra_ca_file")]
    Roots(#[source] rustls::Error),
    /// TLS cannot be set up.
    #[error("tls cannot be set up")]
    Tls(#[source] rustls::Error),
}
