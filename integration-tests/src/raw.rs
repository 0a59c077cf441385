//! Calls past the SDK: for what it cannot express, and for what it hides.

use std::net::SocketAddr;

use postrider_proto::v1::{
    delivery_service_client::DeliveryServiceClient, event_service_client::EventServiceClient,
    subscription_service_client::SubscriptionServiceClient,
};
use tonic::transport::{Channel, Endpoint};

use crate::TestApp;

/// The generated clients, on a connection of their own.
#[derive(Debug, Clone)]
pub struct Raw {
    /// The connection.
    pub channel: Channel,
    /// Takes events in and shows what was taken.
    pub events: EventServiceClient<Channel>,
    /// Manages subscriptions.
    pub subscriptions: SubscriptionServiceClient<Channel>,
    /// Shows what became of events.
    pub deliveries: DeliveryServiceClient<Channel>,
}

impl Raw {
    /// Connects with the first call.
    #[must_use]
    pub fn to(grpc: SocketAddr) -> Self {
        /// The largest request that a server with the defaults takes.
        const MAX_BYTES: usize = 32 << 20;
        let channel = Endpoint::from_shared(format!("http://{grpc}")).unwrap().connect_lazy();
        Self {
            events: EventServiceClient::new(channel.clone()).max_decoding_message_size(MAX_BYTES),
            subscriptions: SubscriptionServiceClient::new(channel.clone()),
            deliveries: DeliveryServiceClient::new(channel.clone()).max_decoding_message_size(MAX_BYTES),
            channel,
        }
    }
}

impl TestApp {
    /// Calls the server past the SDK.
    #[must_use]
    pub fn raw(&self) -> Raw {
        Raw::to(self.grpc)
    }
}
