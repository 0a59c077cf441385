//! The network between one node and PostgreSQL: it can be cut, fall silent, and forget connections.

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
    losses: watch::Sender<usize>,
    serving: JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn start(target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (silent, cuts, losses) =
            (watch::Sender::new(false), watch::Sender::new(0), watch::Sender::new(0));
        let tasks = TaskTracker::new();
        let (listening, to_silent) = (tasks.clone(), silent.clone());
        let (to_cuts, to_losses) = (cuts.clone(), losses.clone());
        let serving = tasks.spawn(async move {
            while let Ok((inside, _)) = listener.accept().await {
                let (silent, mut cut) = (to_silent.subscribe(), to_cuts.subscribe());
                let mut lost = to_losses.subscribe();
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
                    let mut passing = std::pin::pin!(passing);
                    tokio::select! {
                        () = &mut passing => return,
                        _ = cut.changed() => return,
                        _ = lost.changed() => {}
                    }
                    // Nobody is told: the sockets stay open and nothing passes any more.
                    let _ = cut.changed().await;
                });
            }
        });
        Ok(Self { address, silent, cuts, losses, serving })
    }

    /// Breaks every connection that there is.
    pub(super) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Forgets every connection that there is, as a firewall does that was started anew: neither side hears of it.
    pub(super) fn forget(&self) {
        self.losses.send_modify(|losses| *losses += 1);
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
