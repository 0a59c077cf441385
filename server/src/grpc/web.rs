//! gRPC-Web from pages of other origins (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>).

use http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

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

/// Lets pages of these origins call, and no others: without any, a browser refuses on our behalf.
pub(super) fn cors(origins: &[String]) -> CorsLayer {
    let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::POST])
        .allow_headers(REQUEST_HEADERS.map(HeaderName::from_static))
        .expose_headers(RESPONSE_HEADERS.map(HeaderName::from_static))
}
