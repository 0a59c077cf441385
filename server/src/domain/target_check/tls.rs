//! What a receiver's TLS showed, and what is wrong with it.

use crate::domain::timestamp::Timestamp;

/// How many of a certificate's names are repeated in words.
const SHOWN_NAMES: usize = 5;

/// What a TLS handshake showed, as far as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetTls {
    /// What was agreed on, if the handshake came to its end.
    pub session: Option<TlsSession>,
    /// The certificates that were sent, the receiver's own first.
    pub certificates: Vec<Certificate>,
    /// Whether the receiver asked for a certificate of ours.
    pub client_certificate_requested: bool,
    /// What is wrong, and the same in words.
    pub problem: Option<(TlsProblem, String)>,
}

/// What both sides agreed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSession {
    /// Like `TLS 1.3`.
    pub version: &'static str,
    /// The name of the cipher suite.
    pub cipher_suite: String,
    /// What is spoken over it, if that was agreed on.
    pub alpn: Option<String>,
}

/// A certificate as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is.
    pub subject: String,
    /// The host names and addresses that it is for.
    pub names: Vec<String>,
    /// Who issued it.
    pub issuer: String,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

/// What is wrong with a receiver's TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsProblem {
    /// A certificate has expired.
    Expired,
    /// A certificate is not valid yet.
    NotYetValid,
    /// The certificate is for other hosts.
    WrongName,
    /// Nobody who is trusted issued it.
    UnknownIssuer,
    /// No version in common.
    UnsupportedVersion,
    /// What is spoken there is something else.
    NotTls,
    /// The receiver wants a certificate of ours, and there is none.
    ClientCertificateRequired,
    /// The receiver was shown ours and broke off.
    ClientCertificateRefused,
    /// Something else.
    Other,
}

impl TlsProblem {
    /// In words, with what the certificates say at `now`; `cause` is what the handshake itself said.
    #[must_use]
    pub fn explain(self, certificates: &[Certificate], cause: &str, now: Timestamp) -> String {
        let own = certificates.first();
        match self {
            // Not only its own can have: each that leads from it to its authority.
            Self::Expired => match certificates.iter().find(|one| one.not_after < now) {
                Some(one) => {
                    format!(
                        "the certificate of {} has expired: it was valid until {}",
                        one.label(),
                        one.not_after
                    )
                }
                None => "a certificate of its authority has expired".to_owned(),
            },
            Self::NotYetValid => match certificates.iter().find(|one| one.not_before > now) {
                Some(one) => {
                    format!(
                        "the certificate of {} is not valid yet: it will be from {}",
                        one.label(),
                        one.not_before
                    )
                }
                None => "a certificate of its authority is not valid yet".to_owned(),
            },
            Self::WrongName => match own {
                Some(own) if !own.names.is_empty() => {
                    format!("the certificate is not for this host: it is for {}", some_of(&own.names))
                }
                Some(_) | None => "the certificate names no host".to_owned(),
            },
            Self::UnknownIssuer => match own {
                Some(own) if own.subject == own.issuer => {
                    "the certificate was issued by itself, and nobody trusts it".to_owned()
                }
                Some(own) => format!(
                    "the certificate was issued by `{}`, which is not trusted, and no certificate that leads to who is was sent",
                    own.issuer
                ),
                None => "the certificate was issued by nobody who is trusted".to_owned(),
            },
            Self::UnsupportedVersion => "the receiver speaks neither TLS 1.2 nor TLS 1.3".to_owned(),
            Self::NotTls => "what answers at this port does not speak TLS".to_owned(),
            Self::ClientCertificateRequired => {
                "the receiver wants a client certificate, and the subscription has none".to_owned()
            }
            Self::ClientCertificateRefused => {
                "the receiver was shown the subscription's client certificate and broke off".to_owned()
            }
            Self::Other => cause.to_owned(),
        }
    }
}

impl Certificate {
    /// What people know it by.
    fn label(&self) -> String {
        format!("`{}`", self.names.first().unwrap_or(&self.subject))
    }
}

/// The first ones of what may be many.
fn some_of(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(SHOWN_NAMES).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(SHOWN_NAMES);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    shown.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-11-21.
    const NOW: Timestamp = Timestamp::from_micros(1_732_186_800_000_000);

    fn certificate(subject: &str, issuer: &str, names: &[&str], from: i64, until: i64) -> Certificate {
        let days = |days: i64| Timestamp::from_micros(NOW.as_micros() + days * 86_400_000_000);
        Certificate {
            subject: subject.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            issuer: issuer.to_owned(),
            not_before: days(from),
            not_after: days(until),
        }
    }

    #[test]
    fn each_problem_says_what_to_look_at() {
        let good = certificate("CN=a", "CN=Between", &["a.example"], -1, 1);
        let expired = certificate("CN=Between", "CN=Root", &[], -9, -1);
        let future = certificate("CN=a", "CN=Root", &["a.example"], 1, 9);
        let own = certificate("CN=a", "CN=a", &[], -1, 1);
        let names: Vec<_> = (0..7).map(|number| format!("{number}.example")).collect();
        let many = Certificate { names, ..good.clone() };
        for (problem, certificates, expected) in [
            (
                TlsProblem::Expired,
                vec![good.clone(), expired],
                "`CN=Between` has expired: it was valid until 2024-11-20T",
            ),
            (TlsProblem::Expired, vec![good.clone()], "of its authority has expired"),
            (
                TlsProblem::NotYetValid,
                vec![future],
                "`a.example` is not valid yet: it will be from 2024-11-22T",
            ),
            (TlsProblem::WrongName, vec![good.clone()], "it is for `a.example`"),
            (TlsProblem::WrongName, vec![many], "`4.example` and 2 more"),
            (TlsProblem::WrongName, vec![own.clone()], "names no host"),
            (TlsProblem::UnknownIssuer, vec![own], "issued by itself"),
            (TlsProblem::UnknownIssuer, vec![good], "issued by `CN=Between`, which is not trusted"),
            (TlsProblem::Other, Vec::new(), "boom"),
        ] {
            let words = problem.explain(&certificates, "boom", NOW);
            assert!(words.contains(expected), "{words}");
        }
    }
}
