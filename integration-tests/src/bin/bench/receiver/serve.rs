//! The process of the receiver: plain hyper, HTTP/1.1, as little work for each request as counting takes.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpSocket, task::JoinSet};

use super::{Behaviour, board::Board};
use crate::{Failure, helper};

/// As many connections as may be opened at once, or some would wait a second to try again.
const BACKLOG: u32 = 4096;
const PAUSE: Duration = Duration::from_millis(10);

/// Serves until the process ends.
pub(crate) async fn run(listen: SocketAddr) -> Result<(), Failure> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    let listener = socket.listen(BACKLOG)?;
    helper::end_with_parent();
    helper::say(&listener.local_addr()?)?;
    let board = Arc::new(Board::default());
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptors left: connections end, and then there are.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        stream.set_nodelay(true)?;
        let board = Arc::clone(&board);
        let service = service_fn(move |request| answer(Arc::clone(&board), request));
        // Whatever breaks a connection shows in what is missing.
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(board: Arc<Board>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    if let Some(path) = path.strip_prefix("/hook/") {
        let subscription = board.subscription(path);
        let _under_way = subscription.begin();
        let Ok(body) = request.into_body().collect().await else {
            return Ok(status(StatusCode::BAD_REQUEST));
        };
        subscription.arrived(&body.to_bytes());
        behave(subscription.group.behaviour()).await;
        return Ok(status(StatusCode::NO_CONTENT));
    }
    let words: Vec<_> = path.trim_start_matches('/').split('/').collect();
    Ok(control(&board, &words).unwrap_or_else(|| status(StatusCode::NOT_FOUND)))
}

/// Waits as long as the group is to take.
async fn behave(mut behaviour: tokio::sync::watch::Receiver<Behaviour>) {
    let now = *behaviour.borrow_and_update();
    match now {
        Behaviour::Answer => {}
        Behaviour::AnswerAfter(pause) => tokio::time::sleep(pause).await,
        Behaviour::Hang => {
            // The group outlives the process's runtime.
            let _ = behaviour.wait_for(|behaviour| *behaviour != Behaviour::Hang).await;
        }
    }
}

fn control(board: &Board, words: &[&str]) -> Option<Response<Full<Bytes>>> {
    let text = match words {
        ["control", "report", group] => serde_json::to_string(&board.group(group).report()).ok()?,
        ["control", "unique", group] => board.group(group).unique().to_string(),
        ["control", "reset", group, from] => {
            board.reset(group, from.parse().ok()?);
            String::new()
        }
        ["control", "behave", group, behaviour] => {
            board.group(group).behave(behaviour.parse().ok()?);
            String::new()
        }
        _ => return None,
    };
    Some(Response::new(Full::new(text.into())))
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}
