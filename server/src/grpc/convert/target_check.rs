//! What checks of targets found.

use postrider_proto::v1 as pb;

use super::{delivery::to_failure, to_duration, to_timestamp};
use crate::domain::target_check::{
    Certificate, TargetAddress, TargetCheck, TargetOutcome, TargetTls, TlsProblem,
};

/// Shows a check.
pub(in crate::grpc) fn to_check(check: TargetCheck) -> pb::TargetCheck {
    let summary = check.summary();
    let shown = pb::TargetCheck {
        summary,
        target_url: check.target_url,
        start_time: to_timestamp(check.started_at),
        addresses: check.addresses.into_iter().map(to_address).collect(),
        connected_address: check.connection.map(|to| to.address.to_string()).unwrap_or_default(),
        through_proxy: check.connection.is_some_and(|to| to.through_proxy),
        tls: check.tls.map(to_tls),
        total_duration: Some(to_duration(check.timings.total)),
        dns_duration: check.timings.dns.map(to_duration),
        connect_duration: check.timings.connect.map(to_duration),
        tls_duration: check.timings.tls.map(to_duration),
        first_byte_duration: check.timings.first_byte.map(to_duration),
        ..pb::TargetCheck::default()
    };
    match check.outcome {
        TargetOutcome::Answered { status, redirect, redirect_refused: _, headers } => pb::TargetCheck {
            reachable: true,
            status_code: status.into(),
            redirect_location: redirect.unwrap_or_default(),
            response_headers: headers.into_iter().map(|(name, value)| pb::Header { name, value }).collect(),
            ..shown
        },
        TargetOutcome::Failed { failure, message } => {
            pb::TargetCheck { failure: to_failure(failure).into(), failure_message: message, ..shown }
        }
    }
}

fn to_address(TargetAddress { address, refused_as }: TargetAddress) -> pb::TargetAddress {
    pb::TargetAddress { address: address.to_string(), refused_as: refused_as.unwrap_or_default().to_owned() }
}

fn to_tls(tls: TargetTls) -> pb::TargetTls {
    let session = tls.session.unwrap_or_default();
    let (problem, problem_message) = match tls.problem {
        None => (pb::TargetTlsProblem::Unspecified, String::new()),
        Some((problem, words)) => (to_problem(problem), words),
    };
    pb::TargetTls {
        version: session.version.to_owned(),
        cipher_suite: session.cipher_suite,
        alpn_protocol: session.alpn.unwrap_or_default(),
        certificates: tls.certificates.into_iter().map(to_certificate).collect(),
        client_certificate_requested: tls.client_certificate_requested,
        problem: problem.into(),
        problem_message,
    }
}

fn to_certificate(certificate: Certificate) -> pb::TargetCertificate {
    pb::TargetCertificate {
        subject: certificate.subject,
        names: certificate.names,
        issuer: certificate.issuer,
        not_before_time: to_timestamp(certificate.not_before),
        not_after_time: to_timestamp(certificate.not_after),
    }
}

fn to_problem(problem: TlsProblem) -> pb::TargetTlsProblem {
    match problem {
        TlsProblem::Expired => pb::TargetTlsProblem::Expired,
        TlsProblem::NotYetValid => pb::TargetTlsProblem::NotYetValid,
        TlsProblem::WrongName => pb::TargetTlsProblem::WrongName,
        TlsProblem::UnknownIssuer => pb::TargetTlsProblem::UnknownIssuer,
        TlsProblem::UnsupportedVersion => pb::TargetTlsProblem::UnsupportedVersion,
        TlsProblem::NotTls => pb::TargetTlsProblem::NotTls,
        TlsProblem::ClientCertificateRequired => pb::TargetTlsProblem::ClientCertificateRequired,
        TlsProblem::ClientCertificateRefused => pb::TargetTlsProblem::ClientCertificateRefused,
        TlsProblem::Other => pb::TargetTlsProblem::Other,
    }
}
