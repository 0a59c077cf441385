//! The network between one node and PostgreSQL: it can be cut, and it can fall silent.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;

/// Passes bytes on. Ends when dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    silent: watch::Sender<bool>,
    cuts: watch::Sender<usize>,
    serving: JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn start(target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (silent, cuts) = (watch::Sender::new(false), watch::Sender::new(0));
        let tasks = TaskTracker::new();
        let (listening, to_silent, to_cuts) = (tasks.clone(), silent.clone(), cuts.clone());
        let serving = tasks.spawn(async move {
            while let Ok((inside, _)) = listener.accept().await {
                let (silent, mut cut) = (to_silent.subscribe(), to_cuts.subscribe());
                listening.spawn(async move {
                    let passing = async {
                        // Whoever connects while it is silent waits.
                        let mut open = silent.clone();
                        let _ = open.wait_for(|silent| !silent).await;
                        let Ok(outside) = TcpStream::connect(target).await else { return };
                        let ((inside_in, inside_out), (outside_in, outside_out)) =
                            (inside.into_split(), outside.into_split());
                        tokio::select! {
                            () = pass(inside_in, outside_out, silent.clone()) => {}
                            () = pass(outside_in, inside_out, silent) => {}
                        }
                    };
                    tokio::select! {
                        () = passing => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Ok(Self { address, silent, cuts, serving })
    }

    /// Breaks every connection that there is.
    pub(super) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Passes nothing on, and breaks nothing.
    pub(super) fn silence(&self, silent: bool) {
        self.silent.send_replace(silent);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
        self.cut();
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut silent: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        if silent.wait_for(|silent| !silent).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
