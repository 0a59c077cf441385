//! Publishing and reading events.

use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use postrider_proto::v1::{self as pb, event_service_server::EventService};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{Answer, Fake, now};

type Results = Pin<Box<dyn Stream<Item = Result<pb::PublishEventStreamResponse, Status>> + Send>>;

#[async_trait]
impl EventService for Fake {
    async fn publish_event(
        &self,
        request: Request<pb::PublishEventRequest>,
    ) -> Answer<pb::PublishEventResponse> {
        self.begin("PublishEvent", &request, vec![request.get_ref().request_id.clone()]).await?;
        let request = request.into_inner();
        match self.store(pb::PublishItem {
            event: request.event,
            request_id: request.request_id,
            ..Default::default()
        }) {
            pb::publish_result::Result::Published(published) => {
                Ok(Response::new(pb::PublishEventResponse { published: Some(published) }))
            }
            pb::publish_result::Result::Error(error) => {
                Err(Status::new(tonic::Code::from_i32(error.code), error.message))
            }
        }
    }

    async fn publish_events(
        &self,
        request: Request<pb::PublishEventsRequest>,
    ) -> Answer<pb::PublishEventsResponse> {
        let ids = request.get_ref().items.iter().map(|item| item.request_id.clone()).collect();
        self.begin("PublishEvents", &request, ids).await?;
        let results = request.into_inner().items.into_iter();
        let results = results.map(|item| pb::PublishResult { result: Some(self.store(item)) }).collect();
        Ok(Response::new(pb::PublishEventsResponse { results }))
    }

    type PublishEventStreamStream = Results;

    async fn publish_event_stream(
        &self,
        request: Request<Streaming<pb::PublishEventStreamRequest>>,
    ) -> Answer<Self::PublishEventStreamStream> {
        let (answers, stream) = mpsc::channel(1);
        let call = request.metadata().clone();
        let mut requests = request.into_inner();
        let fake = self.clone();
        fake.note_stream(call);
        let planned = fake.next_break();
        let serve = async move {
            let mut index = 0;
            loop {
                if let Some((after, status)) = &planned
                    && usize::try_from(index).unwrap() == *after
                {
                    answers.send(Err(status.clone())).await.unwrap_or_default();
                    return;
                }
                let Some(Ok(request)) = requests.next().await else {
                    return;
                };
                let item = request.item.unwrap_or_default();
                fake.note_stream_request(item.request_id.clone());
                fake.until_answer_is_allowed().await;
                let result = Some(pb::PublishResult { result: Some(fake.store(item)) });
                if answers.send(Ok(pb::PublishEventStreamResponse { index, result })).await.is_err() {
                    return;
                }
                index += 1;
            }
        };
        #[expect(clippy::disallowed_methods, reason = "ends with the stream or with the test's runtime")]
        tokio::spawn(serve);
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn get_event(&self, request: Request<pb::GetEventRequest>) -> Answer<pb::GetEventResponse> {
        self.begin("GetEvent", &request, Vec::new()).await?;
        let name = request.into_inner().name;
        let event = pb::Event {
            name,
            r#type: "order.created".to_owned(),
            data: b"17".as_slice().into(),
            create_time: now(),
            ..pb::Event::default()
        };
        Ok(Response::new(pb::GetEventResponse { event: Some(event) }))
    }

    /// Three events on two pages.
    async fn list_events(&self, request: Request<pb::ListEventsRequest>) -> Answer<pb::ListEventsResponse> {
        self.begin("ListEvents", &request, Vec::new()).await?;
        let request = request.into_inner();
        let (ids, next) = match request.page_token.as_str() {
            "" => (vec!["evt_3", "evt_2"], "second"),
            _ => (vec!["evt_1"], ""),
        };
        let event = |id| pb::Event {
            name: format!("{}/events/{id}", request.parent),
            r#type: request.r#type.clone(),
            create_time: now(),
            ..pb::Event::default()
        };
        let events = ids.into_iter().map(event).collect();
        Ok(Response::new(pb::ListEventsResponse { events, next_page_token: next.to_owned() }))
    }

    async fn explain_event(
        &self,
        _: Request<pb::ExplainEventRequest>,
    ) -> Result<Response<pb::ExplainEventResponse>, Status> {
        Err(Status::unimplemented("no test asks for this"))
    }
}
