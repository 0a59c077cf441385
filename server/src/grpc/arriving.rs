//! Counts what has arrived of messages that are not whole yet ([`Budget`]): a message is kept until all of it is there, and a caller may take
//! its time for that, on a thousand calls of each of its connections.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, SizeHint};
use tonic::Status;
use tower::{Layer, Service};

use super::{
    budget::{Arriving, Budget},
    failure::Failure,
};

/// What comes before each message: a flag and a length (gRPC over HTTP2, "Length-Prefixed-Message").
const PREFIX_BYTES: usize = 5;

/// Counts the bodies of requests.
#[derive(Debug, Clone)]
pub(super) struct CountLayer(pub(super) Budget);

impl<S> Layer<S> for CountLayer {
    type Service = Count<S>;

    fn layer(&self, inner: S) -> Count<S> {
        Count { inner, budget: self.0.clone() }
    }
}

/// What [`CountLayer`] makes.
#[derive(Debug, Clone)]
pub(super) struct Count<S> {
    inner: S,
    budget: Budget,
}

impl<S, A> Service<Request<tonic::body::Body>> for Count<S>
where
    S: Service<Request<tonic::body::Body>, Response = Response<A>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> S::Future {
        let budget = self.budget.clone();
        self.inner.call(request.map(|inner| {
            let (messages, arriving) = (Messages::default(), Arriving::default());
            tonic::body::Body::new(Counted { inner, budget, messages, arriving })
        }))
    }
}

/// A body that is counted.
struct Counted {
    inner: tonic::body::Body,
    budget: Budget,
    messages: Messages,
    arriving: Arriving,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { inner, budget, messages, arriving } = &mut *self;
        // More is asked for only when no whole message is left.
        budget.adjust(arriving, messages.unfinished);
        let polled = Pin::new(inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let there = messages.unfinished + data.len();
            messages.read(data);
            if !budget.adjust(arriving, there) {
                return Poll::Ready(Some(Err(Failure::Busy.into())));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Follows a body from message to message.
#[derive(Debug, Default)]
struct Messages {
    prefix: [u8; PREFIX_BYTES],
    /// How much of the last message is there, with its prefix.
    unfinished: usize,
    /// How long that will be; known once the prefix is there.
    length: usize,
}

impl Messages {
    fn read(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let whole = if self.unfinished < PREFIX_BYTES { PREFIX_BYTES } else { self.length };
            let (part, rest) = data.split_at(data.len().min(whole - self.unfinished));
            if self.unfinished < PREFIX_BYTES {
                self.prefix[self.unfinished..][..part.len()].copy_from_slice(part);
            }
            self.unfinished += part.len();
            if self.unfinished == PREFIX_BYTES && whole == PREFIX_BYTES {
                let [_, length @ ..] = self.prefix;
                self.length = PREFIX_BYTES
                    .saturating_add(usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX));
            }
            if self.unfinished >= PREFIX_BYTES && self.unfinished == self.length {
                self.unfinished = 0;
            }
            data = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_followed_wherever_they_are_cut() {
        let body: Vec<u8> = [3_usize, 0, 1, 300]
            .into_iter()
            .flat_map(|length| {
                let prefix = u32::try_from(length).unwrap().to_be_bytes();
                [vec![0], prefix.to_vec(), vec![7; length]].concat()
            })
            .collect();
        for size in 1..body.len() {
            let mut messages = Messages::default();
            for part in body.chunks(size) {
                messages.read(part);
            }
            assert_eq!(messages.unfinished, 0, "in parts of {size}");
        }
        let mut messages = Messages::default();
        messages.read(&body[..8 + 5 + 4]);
        assert_eq!(messages.unfinished, 4);
        messages.read(&body[8 + 5 + 4..body.len() - 1]);
        assert_eq!(messages.unfinished, 304);
    }
}
