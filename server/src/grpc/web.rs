//! gRPC-Web from pages of other origins (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>).

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{
    TryFutureExt,
    future::{Either, MapOk},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version,
    header::{CONTENT_TYPE, ORIGIN},
};
use tonic::body::Body;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer, Service};
use tower_http::cors::{AllowOrigin, Cors, CorsLayer};

use crate::domain::invalid::Invalid;

/// What a gRPC-Web client sends and reads beyond what every page may.
const REQUEST_HEADERS: [&str; 7] = [
    "authorization",
    "content-type",
    "x-grpc-web",
    "x-user-agent",
    "grpc-timeout",
    "traceparent",
    "tracestate",
];
const RESPONSE_HEADERS: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

/// Checks that origins look like origins.
pub(super) fn check_origins(origins: &[String]) -> Result<(), Invalid> {
    for (index, origin) in origins.iter().enumerate() {
        let is_origin = url::Url::parse(origin)
            .is_ok_and(|url| url.has_host() && url.origin().ascii_serialization() == *origin);
        if !is_origin {
            let field = format!("grpc.web_origins[{index}]");
            return Err(Invalid::new(field, "must be an origin like `https://console.example.com`"));
        }
    }
    Ok(())
}

/// Takes calls of pages and of others that speak gRPC-Web, beside those in plain gRPC, which all this would cost a twentieth of their time.
#[derive(Debug, Clone)]
pub(super) struct WebLayer(Arc<CorsLayer>);

impl WebLayer {
    /// Lets pages of these origins call, and no others: without any, a browser refuses on our behalf.
    pub(super) fn new(origins: &[String]) -> Self {
        let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
        let cors = CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods([Method::POST])
            .allow_headers(REQUEST_HEADERS.map(HeaderName::from_static))
            .expose_headers(RESPONSE_HEADERS.map(HeaderName::from_static));
        Self(Arc::new(cors))
    }
}

impl<S: Clone> Layer<S> for WebLayer {
    type Service = Web<S>;

    fn layer(&self, inner: S) -> Web<S> {
        Web { cors: Arc::clone(&self.0), inner }
    }
}

/// What [`WebLayer`] makes.
#[derive(Debug, Clone)]
pub(super) struct Web<S> {
    cors: Arc<CorsLayer>,
    inner: S,
}

impl<S, B> Service<Request<Body>> for Web<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError> + fmt::Display,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<
        <Cors<GrpcWebService<S>> as Service<Request<Body>>>::Future,
        MapOk<S::Future, fn(Response<B>) -> Response<Body>>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.version() == Version::HTTP_2 && is_plain(request.headers()) {
            Either::Right(self.inner.call(request).map_ok(|response| response.map(Body::new)))
        } else {
            // The one that is ready goes.
            let other = self.inner.clone();
            let ready = mem::replace(&mut self.inner, other);
            Either::Left(self.cors.layer(GrpcWebLayer::new().layer(ready)).call(request))
        }
    }
}

/// Whether a call is in gRPC itself and not a page's: those name their origin.
fn is_plain(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    matches!(content_type, b"application/grpc" | b"application/grpc+proto") && !headers.contains_key(ORIGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_in_grpc_itself_pass_by_what_pages_need() {
        let headers = |headers: &[(&'static str, &'static str)]| {
            headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect()
        };
        assert!(is_plain(&headers(&[("content-type", "application/grpc")])));
        assert!(!is_plain(&headers(&[("content-type", "application/grpc-web+proto")])));
        assert!(!is_plain(&headers(&[
            ("content-type", "application/grpc"),
            ("origin", "https://a.example")
        ])));
        assert!(!is_plain(&headers(&[])), "a preflight request has no content");
    }
}
