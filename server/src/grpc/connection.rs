//! Connections as tonic wants them.

use std::io;

use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::gathered::Gathered;
use crate::accept::{Accepted, Connection};

/// The connections that a thread is given, as connections of its runtime.
pub(super) fn incoming(
    given: mpsc::UnboundedReceiver<Accepted>,
) -> impl Stream<Item = io::Result<Gathered<Connection>>> {
    stream::unfold(given, async |mut given| {
        let accepted = given.recv().await?;
        Some((accepted.open().map(Gathered::new), given))
    })
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream().connect_info()
    }
}
