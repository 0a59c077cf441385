//! The body of an answer, which brings its connection along.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::{Keeper, alone::Alone, shared::Exchange};

/// What comes after the head. When it has been read to its end, the connection serves the next request.
#[derive(Debug)]
pub(in crate::sender) struct AnswerBody {
    incoming: Incoming,
    connection: Connection,
}

#[derive(Debug)]
enum Connection {
    /// Moved by whoever reads.
    Alone(Box<(Alone, Keeper)>),
    /// Moved by its own task.
    Shared(#[expect(dead_code, reason = "what it does it does when it is dropped")] Box<Exchange>),
    /// No longer needed.
    Left,
}

impl AnswerBody {
    pub(super) fn alone(incoming: Incoming, alone: Alone, keeper: Keeper) -> Self {
        let mut body = Self { incoming, connection: Connection::Alone(Box::new((alone, keeper))) };
        if body.incoming.is_end_stream() {
            body.leave();
        }
        body
    }

    pub(super) fn shared(incoming: Incoming, exchange: Exchange) -> Self {
        Self { incoming, connection: Connection::Shared(Box::new(exchange)) }
    }

    /// All of it is there.
    fn leave(&mut self) {
        if let Connection::Alone(parts) = std::mem::replace(&mut self.connection, Connection::Left) {
            let (mut alone, keeper) = *parts;
            if alone.rest() {
                keeper.keep(alone);
            }
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let polled = match &mut this.connection {
            Connection::Alone(parts) => {
                // What has arrived first; only then is there anything to wait for.
                let mut quietly = Context::from_waker(Waker::noop());
                match Pin::new(&mut this.incoming).poll_frame(&mut quietly) {
                    Poll::Pending => {
                        parts.0.advance(context);
                        Pin::new(&mut this.incoming).poll_frame(&mut quietly)
                    }
                    ready @ Poll::Ready(_) => ready,
                }
            }
            Connection::Shared(_) | Connection::Left => Pin::new(&mut this.incoming).poll_frame(context),
        };
        if let Poll::Ready(None) = polled {
            this.leave();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
