//! One stream, from its opening to its end.

use std::pin::{Pin, pin};

use postrider_proto::v1 as pb;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::window::{Waiting, Window};
use crate::{Client, Code, Error, Result, client::TraceContext, convert, events::rpc};

/// Requests between this task and the connection. What waits here counts as sent.
const OUTBOX: usize = 16;

type Answers = Streaming<pb::PublishEventStreamResponse>;

pub(super) struct Stream<'a> {
    client: &'a Client,
    queue: &'a mut mpsc::UnboundedReceiver<Waiting>,
    window: &'a mut Window,
    begun: bool,
    answered: i64,
}

impl<'a> Stream<'a> {
    pub(super) fn new(
        client: &'a Client,
        queue: &'a mut mpsc::UnboundedReceiver<Waiting>,
        window: &'a mut Window,
    ) -> Self {
        window.forget_sent();
        Self { client, queue, window, begun: false, answered: 0 }
    }

    pub(super) fn answered_any(&self) -> bool {
        self.answered > 0
    }

    /// Sends the window and what is queued. Ends well when the publisher is gone or the server ends the stream, and no
    /// event is left without an answer.
    pub(super) async fn run(&mut self, trace: &TraceContext) -> Result<()> {
        let (outbox, requests) = mpsc::channel(OUTBOX);
        let mut rpc = rpc(self.client.channel());
        let request = self.client.request(ReceiverStream::new(requests), trace);
        let mut opening = pin!(rpc.publish_event_stream(request));
        let mut answers = None;
        let mut deadline = self.next_deadline();
        let mut queue_open = true;
        while queue_open || !self.window.is_empty() {
            tokio::select! {
                answer = next_answer(opening.as_mut(), &mut answers) => {
                    match answer.map_err(Error::from_status) {
                        Ok(Some(answer)) => self.take(answer)?,
                        _ if self.window.is_empty() => return Ok(()),
                        Ok(None) => return Err(Error::new(Code::Unavailable, "the server ended the stream")),
                        Err(error) => return Err(error),
                    }
                    deadline = self.next_deadline();
                }
                // When the connection is gone there is no place to be had; the answer then says why.
                Ok(place) = outbox.reserve(), if self.window.has_unsent() => {
                    if !self.window.has_sent() {
                        deadline = self.next_deadline();
                    }
                    if let Some(request) = self.next_request() {
                        place.send(request);
                    }
                }
                queued = self.queue.recv(), if queue_open => match queued {
                    Some(event) => self.window.push(event),
                    None => queue_open = false,
                },
                () = sleep_until(deadline), if self.window.has_sent() => {
                    // As good as a connection that broke: every event can be sent again on another stream.
                    let limit = self.client.timeout();
                    return Err(Error::new(Code::Unavailable, format!("no answer within {limit:?}")));
                }
            }
        }
        drop(outbox);
        self.let_the_server_end(answers).await;
        Ok(())
    }

    fn next_deadline(&self) -> Instant {
        Instant::now() + self.client.timeout()
    }

    fn next_request(&mut self) -> Option<pb::PublishEventStreamRequest> {
        let item = self.window.next_unsent()?;
        let parent = if self.begun { String::new() } else { self.client.parent() };
        self.begun = true;
        Some(pb::PublishEventStreamRequest { parent, item: Some(item) })
    }

    /// Passes an answer on. One that may be better in a moment ends the stream instead: its event, and those behind it,
    /// are sent again on the next one.
    fn take(&mut self, answer: pb::PublishEventStreamResponse) -> Result<()> {
        if answer.index != self.answered || !self.window.has_sent() {
            return Err(Error::malformed_answer("index"));
        }
        match convert::event::publish_result(answer.result) {
            Err(error) if error.is_transient() => Err(error),
            result => {
                self.answered += 1;
                self.window.answer_oldest(result);
                Ok(())
            }
        }
    }

    /// So that the call ends as a success in the server's books. Everything is answered; nothing depends on it.
    async fn let_the_server_end(&self, answers: Option<Answers>) {
        if let Some(mut answers) = answers {
            let end = async { while let Ok(Some(_)) = answers.message().await {} };
            timeout(self.client.timeout(), end).await.unwrap_or_default();
        }
    }
}

/// The head of the answer may come late: some servers wait for the first request. Can be dropped and called again.
async fn next_answer(
    opening: Pin<&mut impl Future<Output = std::result::Result<Response<Answers>, Status>>>,
    answers: &mut Option<Answers>,
) -> std::result::Result<Option<pb::PublishEventStreamResponse>, Status> {
    let answers = match answers {
        Some(answers) => answers,
        None => answers.insert(opening.await?.into_inner()),
    };
    answers.message().await
}
