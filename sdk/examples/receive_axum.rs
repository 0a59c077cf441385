//! Receives callbacks with axum and answers those that are genuine: `receive_axum ADDRESS SECRET…`, until Ctrl-C.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::{error::Error, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use postrider_sdk::verify::Verifier;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().ok_or("usage: receive_axum ADDRESS SECRET…")?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app(Verifier::new(args)?))
        .with_graceful_shutdown(async { tokio::signal::ctrl_c().await.unwrap_or_default() })
        .await?;
    Ok(())
}

pub(crate) fn app(verifier: Verifier) -> Router {
    Router::new().route("/hooks", post(receive)).with_state(Arc::new(verifier))
}

/// Takes the body as bytes: the signature is over what was sent, not over what a parser makes of it.
async fn receive(State(verifier): State<Arc<Verifier>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    match verifier.verify(&headers, &body) {
        Ok(callback) => {
            // Hand it to a queue of your own, then answer: the sender waits 15 seconds at most.
            println!("event {} with {} bytes", callback.id, body.len());
            StatusCode::NO_CONTENT
        }
        Err(error) => {
            println!("refused: {error}");
            StatusCode::UNAUTHORIZED
        }
    }
}
