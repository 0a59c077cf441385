//! Sends a request that is ready, as whom and to whom its subscription says: what attempts and handshakes have in common.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::{
    HttpSender, failure,
    phases::Phases,
    pool::{self, Answer},
    request::Prepared,
};
use crate::{
    dispatch,
    domain::{attempt::Failure, claim::Target, settings::Settings, timestamp::Timestamp},
};

impl HttpSender {
    /// Returns when the head has arrived. The target's address must have been checked.
    pub(super) async fn transmit(
        &self,
        target: &Target,
        settings: &Settings,
        mut prepared: Prepared,
        now: Timestamp,
        deadline: Instant,
        phases: &Arc<Phases>,
    ) -> Result<Answer, (Failure, String)> {
        let sender = &self.0;
        let client =
            sender.clients.of(target, settings).map_err(|cause| (Failure::Internal, cause.to_string()))?;
        if let Some(own) = &settings.authentication {
            let timeout = dispatch::Sender::timeout(self, target);
            // Boxed: what an attempt may have to wait for is part of the size of every attempt.
            let header = Box::pin(sender.credentials.header(own, target, now, timeout));
            let late = |_| (Failure::Authentication, "no access token in time".to_owned());
            let (name, value) = timeout_at(deadline, header).await.map_err(late)??;
            prepared.headers.insert(name, value);
        }
        let mut request = pool::Request::new(prepared.body.into());
        *request.method_mut() = prepared.method;
        *request.uri_mut() = prepared.uri;
        *request.headers_mut() = prepared.headers;

        if Instant::now() >= deadline {
            // It would be tried once even so.
            return Err((Failure::Timeout, failure::timed_out(phases.stage())));
        }
        let exchange = phases.observe(client.request(request));
        let answer = match timeout_at(deadline, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(failure::explain(&error, phases.stage())),
            Err(_) => return Err((Failure::Timeout, failure::timed_out(phases.stage()))),
        };
        if answer.status().as_u16() == 401 && settings.authentication.is_some() {
            sender.credentials.refused(target, now);
        }
        Ok(answer)
    }
}
