//! Checks of targets.

use postrider_proto::v1 as pb;

use super::{delivery, non_empty, required, time};
use crate::{
    Error, Result,
    model::{Header, TargetAddress, TargetCertificate, TargetCheck, TargetOutcome, TargetTls, TlsProblem},
};

pub(crate) fn check(check: Option<pb::TargetCheck>) -> Result<TargetCheck> {
    let mut check = required(check, "check")?;
    let connected = non_empty(std::mem::take(&mut check.connected_address));
    Ok(TargetCheck {
        summary: std::mem::take(&mut check.summary),
        target_url: std::mem::take(&mut check.target_url),
        started_at: time::from_pb(check.start_time, "start_time")?,
        addresses: check.addresses.drain(..).map(address).collect::<Result<_>>()?,
        connected_address: connected.map(|text| ip(&text, "connected_address")).transpose()?,
        through_proxy: check.through_proxy,
        tls: check.tls.take().map(tls).transpose()?,
        total_duration: required(time::duration(check.total_duration, "total_duration")?, "total_duration")?,
        dns_duration: time::duration(check.dns_duration, "dns_duration")?,
        connect_duration: time::duration(check.connect_duration, "connect_duration")?,
        tls_duration: time::duration(check.tls_duration, "tls_duration")?,
        first_byte_duration: time::duration(check.first_byte_duration, "first_byte_duration")?,
        outcome: outcome(check)?,
    })
}

fn outcome(check: pb::TargetCheck) -> Result<TargetOutcome> {
    if !check.reachable {
        let (failure, message) = (delivery::failure(check.failure), check.failure_message);
        return Ok(TargetOutcome::Failed { failure, message });
    }
    let header = |header: pb::Header| Header { name: header.name, value: header.value };
    Ok(TargetOutcome::Answered {
        status: u16::try_from(check.status_code).map_err(|_| Error::malformed_answer("status_code"))?,
        redirect: non_empty(check.redirect_location),
        headers: check.response_headers.into_iter().map(header).collect(),
    })
}

fn address(found: pb::TargetAddress) -> Result<TargetAddress> {
    let address = ip(&found.address, "addresses.address")?;
    Ok(TargetAddress { address, refused_as: non_empty(found.refused_as) })
}

fn ip(text: &str, field: &str) -> Result<std::net::IpAddr> {
    text.parse().map_err(|_| Error::malformed_answer(field))
}

fn tls(tls: pb::TargetTls) -> Result<TargetTls> {
    Ok(TargetTls {
        version: non_empty(tls.version),
        cipher_suite: non_empty(tls.cipher_suite),
        alpn_protocol: non_empty(tls.alpn_protocol),
        certificates: tls.certificates.into_iter().map(certificate).collect::<Result<_>>()?,
        client_certificate_requested: tls.client_certificate_requested,
        problem: problem(tls.problem),
        problem_message: tls.problem_message,
    })
}

fn certificate(certificate: pb::TargetCertificate) -> Result<TargetCertificate> {
    Ok(TargetCertificate {
        subject: certificate.subject,
        names: certificate.names,
        issuer: certificate.issuer,
        not_before: time::from_pb(certificate.not_before_time, "not_before_time")?,
        not_after: time::from_pb(certificate.not_after_time, "not_after_time")?,
    })
}

fn problem(problem: i32) -> Option<TlsProblem> {
    Some(match pb::TargetTlsProblem::try_from(problem) {
        Ok(pb::TargetTlsProblem::Unspecified) => return None,
        Ok(pb::TargetTlsProblem::Expired) => TlsProblem::Expired,
        Ok(pb::TargetTlsProblem::NotYetValid) => TlsProblem::NotYetValid,
        Ok(pb::TargetTlsProblem::WrongName) => TlsProblem::WrongName,
        Ok(pb::TargetTlsProblem::UnknownIssuer) => TlsProblem::UnknownIssuer,
        Ok(pb::TargetTlsProblem::UnsupportedVersion) => TlsProblem::UnsupportedVersion,
        Ok(pb::TargetTlsProblem::NotTls) => TlsProblem::NotTls,
        Ok(pb::TargetTlsProblem::ClientCertificateRequired) => TlsProblem::ClientCertificateRequired,
        Ok(pb::TargetTlsProblem::ClientCertificateRefused) => TlsProblem::ClientCertificateRefused,
        Ok(pb::TargetTlsProblem::Other) => TlsProblem::Other,
        Err(_) => TlsProblem::Unrecognized(problem),
    })
}
