//! Connections as tonic wants them.

use std::io;

use futures_util::{Stream, stream};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::gathered::Gathered;
use crate::accept::{Acceptor, Connection};

/// All connections of a port.
pub(super) fn incoming(acceptor: Acceptor) -> impl Stream<Item = io::Result<Gathered<Connection>>> {
    stream::unfold(acceptor, async |mut acceptor| {
        let (connection, _) = acceptor.accept().await;
        Some((Ok(Gathered::new(connection)), acceptor))
    })
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream().connect_info()
    }
}
