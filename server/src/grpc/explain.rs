//! Gives refusals of the gRPC library a reason ([`explained`]): those that come before any of our code, and are nothing but headers.

use http::{HeaderMap, Response};
use tonic::{Status, body::Body};
use tower::util::MapResponseLayer;

use super::failure::explained;

/// What changes answers.
type Explain = fn(Response<Body>) -> Response<Body>;

/// Explains what is refused without a reason.
pub(super) fn layer() -> MapResponseLayer<Explain> {
    MapResponseLayer::new(|mut answer| {
        // All others have theirs in the trailers, and come from us.
        if answer.headers().contains_key(Status::GRPC_STATUS) {
            explain(answer.headers_mut());
        }
        answer
    })
}

fn explain(headers: &mut HeaderMap) {
    let explained = Status::from_header_map(headers).as_ref().and_then(explained);
    if let Some(Err(cause)) = explained.map(|status| status.add_header(headers)) {
        tracing::debug!(cause = &cause as &dyn std::error::Error, "a refusal has no reason");
    }
}
