//! The background task of a publisher: keeps a stream open while there is something to publish, and goes on after it
//! broke.

use tokio::sync::mpsc;

use super::{
    stream::Stream,
    window::{Waiting, Window},
};
use crate::{
    Client, Error,
    client::{Repeat, TraceContext, Tries},
};

pub(super) struct Worker {
    client: Client,
    trace: TraceContext,
    queue: mpsc::UnboundedReceiver<Waiting>,
    window: Window,
}

impl Worker {
    pub(super) fn new(client: Client, trace: TraceContext, queue: mpsc::UnboundedReceiver<Waiting>) -> Self {
        Self { client, trace, queue, window: Window::default() }
    }

    /// Runs until the publisher is gone and every event has its answer.
    pub(super) async fn run(mut self) -> Option<Error> {
        while let Some(first) = self.queue.recv().await {
            self.window.push(first);
            self.publish_what_waits().await;
        }
        self.window.into_unheard()
    }

    /// Opens streams until every event has its answer. Tries are counted from the last answer on: a stream that got
    /// something done was no failure.
    async fn publish_what_waits(&mut self) {
        let client = self.client.clone();
        let mut tries = Tries::begin(client.retry());
        while !self.window.is_empty() {
            let mut stream = Stream::new(&client, &mut self.queue, &mut self.window);
            let Err(error) = stream.run(&self.trace).await else {
                return;
            };
            if stream.answered_any() {
                tries = Tries::begin(client.retry());
            }
            if let Err(error) = tries.pause_after(error, Repeat::Safe).await {
                self.window.fail_all(&error);
            }
        }
    }
}
