//! What it means that the HTTP client gave an error.

use std::{error::Error, io, iter};

use rustls::{CertificateError, OtherError};

use super::{
    phases::{ConnectTimeout, Stage},
    pool,
    resolver::LookupError,
    route::ProxyError,
};
use crate::domain::{address::Refused, attempt::Failure};

/// The longest message, in characters. A certificate's names, for one, are the receiver's to choose.
const MAX_MESSAGE: usize = 300;

/// Which failure an error is, given how far the exchange had come, and the cause in words.
pub(super) fn explain(error: &pool::Error, stage: Stage) -> (Failure, String) {
    if let Some(refused) = find::<Refused>(error) {
        return (Failure::AddressRefused, refused.to_string());
    }
    if let Some(cause) = find::<ProxyError>(error) {
        if is_timeout(error) {
            return (Failure::Timeout, timed_out(stage));
        }
        let cause = innermost(cause).map_or_else(|| cause.to_string(), ToString::to_string);
        return (Failure::Connect, format!("could not connect through the proxy: {}", tidy(&cause)));
    }
    let failure = if find::<LookupError>(error).is_some() {
        Failure::Dns
    } else if is_timeout(error) {
        return (Failure::Timeout, timed_out(stage));
    } else if find::<rustls::Error>(error).is_some() {
        Failure::Tls
    } else if error.is_connect() {
        match stage {
            Stage::Dns => Failure::Dns,
            Stage::Tls => Failure::Tls,
            Stage::Connect | Stage::Proxy | Stage::Exchange => Failure::Connect,
        }
    } else {
        Failure::Protocol
    };
    (failure, message(failure, error))
}

/// The message for an exchange that ran out of time.
pub(super) fn timed_out(stage: Stage) -> String {
    let doing = match stage {
        Stage::Dns => "looking up the host",
        Stage::Connect => "connecting",
        Stage::Proxy => "connecting through the proxy",
        Stage::Tls => "waiting for the tls handshake",
        Stage::Exchange => "waiting for the response",
    };
    format!("timed out while {doing}")
}

/// Whether somebody's patience was at an end: ours with the connection, the kernel's, or HTTP/2's with an unanswered ping.
fn is_timeout(error: &pool::Error) -> bool {
    find::<ConnectTimeout>(error).is_some()
        || find::<hyper::Error>(error).is_some_and(hyper::Error::is_timeout)
        || find::<io::Error>(error).is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// What failed and the innermost cause.
fn message(failure: Failure, error: &pool::Error) -> String {
    let what = match failure {
        Failure::Dns => "could not look up the host",
        Failure::Connect => "could not connect",
        Failure::Tls => "the tls handshake failed",
        Failure::Timeout | Failure::AddressRefused | Failure::Protocol => "the exchange broke off",
        Failure::Authentication | Failure::Template | Failure::Internal => "could not make the request",
    };
    if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause)))) = find(error) {
        return format!("{what}: invalid peer certificate: {}", tidy(&cause.to_string()));
    }
    match innermost(error) {
        Some(cause) => format!("{what}: {}", tidy(&cause.to_string())),
        None => what.to_owned(),
    }
}

/// What an error comes from, if it comes from another.
fn innermost<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    causes(error).skip(1).last()
}

/// Fit for a message: begins in lower case, has no control characters, and an end.
fn tidy(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_lowercase);
    first
        .chain(letters)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(MAX_MESSAGE)
        .collect()
}

/// The cause of this type, if there is one.
pub(super) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The error and its causes. Unlike `source`, this also sees the error that an [`io::Error`] was made from.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&error: &&'a (dyn Error + 'static)| {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_found_inside_an_io_error() {
        let inner = rustls::Error::HandshakeNotComplete;
        let outer = io::Error::other(io::Error::other(inner));
        assert!(find::<rustls::Error>(&outer).is_some());
    }

    #[test]
    fn a_message_is_tidied() {
        assert_eq!(tidy("Connection refused\r\nX: y"), "connection refused  X: y");
        assert_eq!(tidy(&"ä".repeat(1_000)).chars().count(), MAX_MESSAGE);
        assert_eq!(tidy(""), "");
    }
}
