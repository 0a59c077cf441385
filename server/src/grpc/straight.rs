//! Takes calls of the service that events come in by straight to it, and all others by way of a router, which would be a twentieth of what the server
//! does for such a call, and [`elsewhere`](super::elsewhere).

use std::{
    convert::Infallible,
    task::{Context, Poll, ready},
};

use futures_util::future::Either;
use http::{Request, Response};
use tonic::{body::Body, server::NamedService};
use tower::Service;

use super::elsewhere::Elsewhere;

/// The one service, and the others.
#[derive(Debug, Clone)]
pub(super) struct Straight<S> {
    pub(super) events: S,
    pub(super) others: Elsewhere,
}

impl<S> Service<Request<Body>> for Straight<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, <Elsewhere as Service<Request<Body>>>::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        ready!(self.events.poll_ready(context))?;
        Service::<Request<Body>>::poll_ready(&mut self.others, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if is_of(request.uri().path(), S::NAME) {
            Either::Left(self.events.call(request))
        } else {
            Either::Right(self.others.call(request))
        }
    }
}

/// Whether a path is `/{service}/{method}`.
fn is_of(path: &str, service: &str) -> bool {
    let method = path.strip_prefix('/').and_then(|path| path.strip_prefix(service));
    method.is_some_and(|method| method.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_the_paths_that_begin_with_its_whole_name() {
        for (path, is) in [
            ("/a.v1.Events/Publish", true),
            ("/a.v1.Events/", true),
            ("/a.v1.Events", false),
            ("/a.v1.EventsOfOthers/Publish", false),
            ("/a.v1.Event/Publish", false),
            ("a.v1.Events/Publish", false),
            ("/", false),
        ] {
            assert_eq!(is_of(path, "a.v1.Events"), is, "{path}");
        }
    }
}
