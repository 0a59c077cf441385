//! A check in one sentence.

use super::{TargetCheck, TargetOutcome};
use crate::domain::attempt::Failure;

impl TargetCheck {
    /// What a person needs to know first.
    #[must_use]
    pub fn summary(&self) -> String {
        match &self.outcome {
            TargetOutcome::Answered { status, redirect, redirect_refused, .. } => {
                answered(*status, redirect.as_deref(), redirect_refused.as_deref())
            }
            TargetOutcome::Failed { failure, message } => self.failed(*failure, message),
        }
    }

    fn failed(&self, failure: Failure, message: &str) -> String {
        let problem = self.tls.as_ref().and_then(|tls| tls.problem.as_ref());
        match failure {
            Failure::AddressRefused => format!("The target may not be sent to: {message}."),
            Failure::Dns => format!("The target's host is not found: {message}."),
            Failure::Tls | Failure::Protocol if problem.is_some() => {
                let words = problem.map(|(_, words)| words.as_str()).unwrap_or_default();
                format!("The target can be connected to, but TLS fails: {words}.")
            }
            Failure::Connect | Failure::Tls | Failure::Protocol | Failure::Timeout => {
                let what = match self.connection {
                    Some(_) => "can be connected to, but gives no answer",
                    None => "cannot be reached",
                };
                format!("The target {what}: {message}.")
            }
            Failure::Authentication => format!("Nothing was sent to the target: {message}."),
            Failure::Template | Failure::Internal => {
                format!("The server cannot make the request: {message}.")
            }
        }
    }
}

fn answered(status: u16, redirect: Option<&str>, refused: Option<&str>) -> String {
    let what = match (status, redirect) {
        (300..=399, Some(to)) => match refused {
            None => format!(", a redirect to {to}; redirects are not followed, so make that the target"),
            Some(reason) => {
                format!(
                    ", a redirect to {to}; redirects are not followed, and that cannot be the target: {reason}"
                )
            }
        },
        (300..=399, None) => ", which is a failure for deliveries".to_owned(),
        (401 | 403 | 407, _) => ", so it may want other credentials".to_owned(),
        (404, _) => ", so the path may be wrong, or it knows none but the method of deliveries".to_owned(),
        (405 | 501, _) => ", as it knows none but the method of deliveries".to_owned(),
        (410, _) => ", which disables the subscription if a delivery is answered so".to_owned(),
        (429, _) => ", as it is sent too much".to_owned(),
        (500..=599, _) => ", so it has trouble of its own".to_owned(),
        _ => String::new(),
    };
    format!("The target can be reached: it answered `HEAD` with {status}{what}.")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{TargetConnection, TargetTls, TlsProblem},
        *,
    };
    use crate::domain::{attempt::Timings, fixtures::NOW};

    fn check(outcome: TargetOutcome) -> TargetCheck {
        TargetCheck {
            started_at: NOW,
            target_url: "https://example.com/".to_owned(),
            addresses: Vec::new(),
            connection: None,
            tls: None,
            outcome,
            timings: Timings::default(),
        }
    }

    fn failed(failure: Failure) -> TargetCheck {
        check(TargetOutcome::Failed { failure, message: "the cause".to_owned() })
    }

    #[test]
    fn an_answer_of_any_status_means_that_it_can_be_reached() {
        for (status, redirect, expected) in [
            (204, None, "with 204."),
            (308, Some("https://example.com/new".to_owned()), "redirect to https://example.com/new;"),
            (304, None, "a failure for deliveries"),
            (401, None, "credentials"),
            (405, None, "the method of deliveries"),
            (410, None, "disables the subscription"),
            (502, None, "trouble of its own"),
        ] {
            let answered =
                TargetOutcome::Answered { status, redirect, redirect_refused: None, headers: Vec::new() };
            let summary = check(answered).summary();
            assert!(summary.contains("can be reached") && summary.contains(expected), "{summary}");
        }
    }

    #[test]
    fn nobody_is_told_to_take_a_target_that_would_be_refused() {
        let answered = TargetOutcome::Answered {
            status: 302,
            redirect: Some("http://169.254.169.254/".to_owned()),
            redirect_refused: Some("the cause".to_owned()),
            headers: Vec::new(),
        };
        let summary = check(answered).summary();
        assert!(
            summary.contains("169.254.169.254/; redirects are not followed, and that cannot be"),
            "{summary}"
        );
        assert!(summary.ends_with(": the cause.") && !summary.contains("make that"), "{summary}");
    }

    #[test]
    fn a_failure_says_what_kind_it_is_and_the_cause() {
        for (failure, expected) in [
            (Failure::AddressRefused, "may not be sent to: the cause."),
            (Failure::Dns, "not found: the cause."),
            (Failure::Timeout, "cannot be reached: the cause."),
            (Failure::Tls, "cannot be reached: the cause."),
            (Failure::Authentication, "Nothing was sent to the target: the cause."),
            (Failure::Internal, "cannot make the request: the cause."),
        ] {
            let summary = failed(failure).summary();
            assert!(summary.contains(expected), "{summary}");
        }
        let address = "192.0.2.1".parse().unwrap();
        let connection = Some(TargetConnection { address, through_proxy: false });
        let summary = TargetCheck { connection, ..failed(Failure::Timeout) }.summary();
        assert_eq!(summary, "The target can be connected to, but gives no answer: the cause.");
        let tls =
            TargetTls { problem: Some((TlsProblem::Expired, "expired".to_owned())), ..TargetTls::default() };
        let summary = TargetCheck { tls: Some(tls), ..failed(Failure::Tls) }.summary();
        assert_eq!(summary, "The target can be connected to, but TLS fails: expired.");
    }
}
