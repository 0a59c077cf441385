//! Publishing one event, or many of them in as few calls as is sensible.

use std::collections::VecDeque;

use postrider_proto::v1 as pb;
use prost::Message;

use crate::{
    Client, Error, Event, Published, Result,
    client::{Repeat, Tries},
    convert,
    events::rpc,
};

/// The server takes up to 10,000 events in a call. Fewer keep a call short and its repetition cheap.
const MAX_EVENTS_PER_CALL: usize = 1_000;
/// The server takes up to 32 MiB in a call; proxies on the way often take only gRPC's customary 4 MiB. An event that
/// is larger than this travels alone.
const MAX_BYTES_PER_CALL: usize = 3 << 20;

impl Client {
    /// Publishes an event. When this returns `Ok`, the event is durable and will be delivered to every subscription
    /// that matches it.
    ///
    /// Tried again when the server is unavailable; all tries carry the same `request_id`, so it is published once.
    pub async fn publish(&self, event: Event) -> Result<Published> {
        let item = event.into_item();
        let request =
            pb::PublishEventRequest { parent: self.parent(), event: item.event, request_id: item.request_id };
        let answer = self
            .call(Repeat::Safe, request, async |channel, request| rpc(channel).publish_event(request).await)
            .await?;
        convert::event::published(answer.published)
    }

    /// Publishes any number of events, in their order, and answers for each of them. One that is refused does not fail
    /// its neighbours. Those that fail for a reason that passes are published again, behind what was stored meanwhile.
    ///
    /// ```no_run
    /// # async fn example(client: postrider_sdk::Client) {
    /// use postrider_sdk::Event;
    ///
    /// let events = (1..=5_000).map(|n| Event::new("counted").subject(n.to_string()));
    /// for result in client.publish_batch(events).await {
    ///     if let Err(error) = result {
    ///         eprintln!("{error}");
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use = "each event has a result of its own"]
    pub async fn publish_batch(&self, events: impl IntoIterator<Item = Event>) -> Vec<Result<Published>> {
        let mut waiting: VecDeque<pb::PublishItem> = events.into_iter().map(Event::into_item).collect();
        let mut results = Vec::with_capacity(waiting.len());
        while !waiting.is_empty() {
            results.extend(self.publish_items(next_call(&mut waiting)).await);
        }
        results
    }

    /// Publishes what fits into one call, and repeats it with those items that could not be taken at the moment.
    async fn publish_items(&self, items: Vec<pb::PublishItem>) -> Vec<Result<Published>> {
        let mut results: Vec<Option<Result<Published>>> = items.iter().map(|_| None).collect();
        let mut open: Vec<(usize, pb::PublishItem)> = items.into_iter().enumerate().collect();
        let mut tries = Tries::begin(self.retry());
        while !open.is_empty() {
            let limit = self.timeout().min(tries.time_left());
            let request = pb::PublishEventsRequest {
                parent: self.parent(),
                items: open.iter().map(|(_, item)| item.clone()).collect(),
            };
            let answer = self
                .call_once(limit, request, async |channel, request| {
                    rpc(channel).publish_events(request).await
                })
                .await
                .and_then(|answer| one_result_each(answer, open.len()));
            let failure = match answer {
                Ok(answers) => keep_transient(&mut open, answers, &mut results),
                Err(failure) => Some(failure),
            };
            let Some(failure) = failure else { break };
            if let Err(failure) = tries.pause_after(failure, Repeat::Safe).await {
                for (index, _) in open.drain(..) {
                    results[index] = Some(Err(failure.clone()));
                }
            }
        }
        results.into_iter().flatten().collect()
    }
}

/// Takes from the front what goes into the next call.
fn next_call(waiting: &mut VecDeque<pb::PublishItem>) -> Vec<pb::PublishItem> {
    let mut items = Vec::new();
    let mut bytes = 0;
    while let Some(item) = waiting.front() {
        bytes += item.encoded_len();
        if !items.is_empty() && (bytes > MAX_BYTES_PER_CALL || items.len() == MAX_EVENTS_PER_CALL) {
            break;
        }
        items.extend(waiting.pop_front());
    }
    items
}

fn one_result_each(answer: pb::PublishEventsResponse, items: usize) -> Result<Vec<pb::PublishResult>> {
    if answer.results.len() == items { Ok(answer.results) } else { Err(Error::malformed_answer("results")) }
}

/// Notes every result that is final; leaves in `open` the items that may succeed later, and returns why one of them
/// did not.
fn keep_transient(
    open: &mut Vec<(usize, pb::PublishItem)>,
    answers: Vec<pb::PublishResult>,
    results: &mut [Option<Result<Published>>],
) -> Option<Error> {
    let mut failure = None;
    let mut still_open = Vec::new();
    for ((index, item), answer) in open.drain(..).zip(answers) {
        match convert::event::publish_result(Some(answer)) {
            Err(error) if error.is_transient() => {
                failure = Some(error);
                still_open.push((index, item));
            }
            result => results[index] = Some(result),
        }
    }
    *open = still_open;
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes_of_calls(events: impl IntoIterator<Item = Event>) -> Vec<usize> {
        let mut waiting = events.into_iter().map(Event::into_item).collect();
        std::iter::from_fn(|| Some(next_call(&mut waiting).len()).filter(|size| *size > 0)).collect()
    }

    #[test]
    fn a_call_has_a_bounded_number_of_events() {
        assert_eq!(sizes_of_calls((0..2_500).map(|_| Event::new("small"))), [1_000, 1_000, 500]);
    }

    #[test]
    fn a_call_has_a_bounded_size() {
        let large = || Event::new("large").data(vec![b'x'; 1 << 20], "text/plain");
        assert_eq!(sizes_of_calls([large(), large(), large(), large(), large()]), [2, 2, 1]);
    }

    #[test]
    fn an_event_that_is_larger_than_a_call_should_be_travels_alone() {
        let huge = Event::new("huge").data(vec![b'x'; 8 << 20], "text/plain");
        assert_eq!(sizes_of_calls([Event::new("small"), huge, Event::new("small")]), [1, 1, 1]);
    }
}
