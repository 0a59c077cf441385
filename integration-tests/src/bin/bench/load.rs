//! A producer in a process of its own. As a helper it publishes what a [`Task`] says; [`Load`] is the other end.

mod batch;
mod events;
mod open_loop;
mod sequence;
mod stream;
mod tally;
mod task;
mod unary;

use std::{sync::Arc, time::Duration};

use postrider_proto::v1::event_service_client::EventServiceClient;
use tonic::transport::{Channel, Endpoint};

use self::{events::Events, sequence::Sequence, tally::Tally};
pub(crate) use self::{
    tally::Outcome,
    task::{Data, Shape, Task, Until},
};
use crate::{Failure, clock, helper, helper::Helper, usage};

/// What a call may take ten times of, and a producer twice beyond its time.
const PATIENCE: Duration = Duration::from_mins(1);

/// A producer that is at work.
pub(crate) struct Load {
    helper: Helper,
    limit: Duration,
}

impl Load {
    /// Starts one.
    pub(crate) fn start(task: &Task) -> Result<Self, Failure> {
        let limit = task.until.limit() + PATIENCE * 2;
        Ok(Self { helper: Helper::start("load", task)?, limit })
    }

    /// Waits until it is done.
    pub(crate) async fn done(mut self) -> Result<Outcome, Failure> {
        self.helper.says(self.limit).await
    }
}

/// What all ways of publishing need.
struct Producer {
    events: Events,
    sequence: Sequence,
    tally: Tally,
}

/// The process of the producer.
pub(crate) async fn run(task: Task) -> Result<(), Failure> {
    helper::end_with_parent();
    let mut clients = Vec::new();
    for _ in 0..task.connections.max(1) {
        let endpoint = Endpoint::from_shared(task.grpc.clone())?.timeout(PATIENCE * 10);
        clients.push(EventServiceClient::new(endpoint.connect().await?));
    }
    let producer = Arc::new(Producer {
        events: Events::new(&task)?,
        sequence: Sequence::new(task.first, task.until),
        tally: Tally::default(),
    });
    let (begun, cpu) = (clock::now(), usage::own_cpu());
    match task.shape {
        Shape::Unary { concurrency } => unary::run(&producer, &clients, concurrency).await,
        Shape::Batch { size, in_flight } => batch::run(&producer, &clients, size, in_flight).await,
        Shape::Stream { in_flight } => stream::run(&producer, &clients, in_flight).await?,
        Shape::OpenLoop { rate } => open_loop::run(&producer, &clients, rate).await,
    }
    let cpu = usage::own_cpu() - cpu;
    helper::say(&producer.tally.outcome(begun, cpu))
}

type Client = EventServiceClient<Channel>;
