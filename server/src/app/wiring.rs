//! Connects parts that do not know each other.

use std::{sync::Arc, time::Duration};

use futures_util::{
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tokio::sync::Notify;

use super::Dispatcher;
use crate::{
    clock::SharedClock,
    dispatch::{self, Permit, Queue, Sender, Watch},
    domain::{
        claim::{Claim, NoRoom, Target},
        event::Event,
        id::{DeliveryId, SubscriptionId, SubscriptionUid, TenantId},
        secret::KeyPair,
        target_check::{TargetCheck, TooManyChecks},
        timestamp::Timestamp,
    },
    grpc,
    handshakes::{self, Handshakes, Made},
    http, publish,
    sender::{HttpSender, Unprepared},
    store::{self, Store},
};

/// Publishing hands deliveries to the dispatcher.
pub struct Outlet<Q, S>(pub dispatch::Dispatcher<Q, S>);

impl<Q: Queue, S: Sender> publish::Outlet for Outlet<Q, S> {
    type Permit = Permit;

    fn lease(&self) -> Duration {
        self.0.lease()
    }

    async fn room(&self) {
        self.0.room().await;
    }

    async fn room_for(&self, target: &Target) {
        self.0.room_for(target).await;
    }

    fn reserve(&self, target: &Arc<Target>, bytes: usize) -> Result<Permit, NoRoom> {
        self.0.reserve(target, bytes)
    }

    fn start(&self, permit: Permit, claim: Claim) {
        self.0.start(permit, claim);
    }

    fn wake(&self) {
        self.0.wake();
    }

    fn wake_at(&self, due_at: Timestamp) {
        self.0.wake_at(due_at);
    }
}

/// Calls ask the sender what it would send.
pub(super) struct Preview(pub(super) HttpSender);

impl grpc::Preview for Preview {
    fn preview<'a>(
        &'a self,
        event: &'a Arc<Event>,
        target: &'a Target,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<grpc::Request, grpc::Refusal>> {
        let shown = |value: &::http::HeaderValue| {
            (!value.is_sensitive()).then(|| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        Box::pin(async move {
            let prepared = self.0.preview(event, target, now).await.map_err(|cause| match cause {
                Unprepared::Template(cause) => grpc::Refusal::Template(cause),
                other @ (Unprepared::Settings | Unprepared::Defect(_)) => {
                    grpc::Refusal::Defect(other.to_string())
                }
            })?;
            let headers = prepared.headers.iter();
            let headers = headers.map(|(name, value)| (name.as_str().to_owned(), shown(value))).collect();
            let (method, url) = (prepared.method.to_string(), prepared.uri.to_string());
            Ok(grpc::Request { method, url, headers, body: prepared.body })
        })
    }
}

/// Calls ask the sender what it finds on the way to a target.
pub(super) struct Check(pub(super) HttpSender);

impl grpc::Check for Check {
    fn check<'a>(
        &'a self,
        target: &'a Target,
        now: Timestamp,
        patience: Duration,
    ) -> BoxFuture<'a, Result<TargetCheck, TooManyChecks>> {
        Box::pin(self.0.check(target, now, patience))
    }

    fn timeout(&self, target: &Target) -> Duration {
        Sender::timeout(&self.0, target)
    }
}

/// Calls wait for what the dispatcher settles.
pub(super) struct Settlements(pub(super) Dispatcher);

impl grpc::Settlements for Settlements {
    fn of(&self, delivery: DeliveryId) -> Option<BoxStream<'static, ()>> {
        let watch = self.0.watch(delivery)?;
        let settled = |watch: Watch| async {
            watch.settled().await;
            Some(((), watch))
        };
        Some(Box::pin(stream::unfold(watch, settled)))
    }
}

/// Calls tell the loops that there is something to do.
pub(super) struct Nudge {
    pub(super) dispatcher: Dispatcher,
    pub(super) ended: Arc<Notify>,
}

impl grpc::Nudge for Nudge {
    fn deliveries_due(&self) {
        self.dispatcher.wake();
    }

    fn subscription_ended(&self) {
        self.ended.notify_one();
    }

    fn send_away(&self, subscription: SubscriptionUid) {
        self.dispatcher.send_away(subscription);
    }

    fn send_one_away(&self, subscription: SubscriptionUid, delivery: DeliveryId) {
        self.dispatcher.send_one_away(subscription, delivery);
    }
}

impl handshakes::Nudge for Nudge {
    fn deliveries_due(&self) {
        self.dispatcher.wake();
    }

    fn subscription_ended(&self) {
        self.ended.notify_one();
    }
}

/// Calls have handshakes made.
pub(super) struct Asker(pub(super) Handshakes);

impl grpc::Handshakes for Asker {
    fn due(&self) {
        self.0.wake();
    }

    fn make_now<'a>(
        &'a self,
        tenant: &'a TenantId,
        subscription: &'a SubscriptionId,
    ) -> BoxFuture<'a, Result<bool, store::Error>> {
        Box::pin(async move { Ok(self.0.make_now(tenant, subscription).await? != Made::TooMany) })
    }
}

/// The HTTP port shows public keys.
pub(super) struct PublicKeys {
    pub(super) store: Store,
    pub(super) clock: SharedClock,
}

impl http::PublicKeys for PublicKeys {
    async fn of(&self, tenant: TenantId, subscription: SubscriptionId) -> Result<Vec<KeyPair>, http::NoKeys> {
        self.store.key_pairs(&tenant, &subscription, self.clock.now()).await.map_err(|cause| {
            tracing::error!(cause = &cause as &dyn std::error::Error, "public keys cannot be read");
            http::NoKeys
        })
    }
}
