//! Spreads connections over the threads that take calls.

use std::sync::Arc;

use futures_util::future::{join_all, select_all};
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinHandle},
};

use super::Error;
use crate::{accept::Accepted, threads::Threads};

/// All of them.
pub(super) struct Spread(Vec<Thread>);

/// One that serves the connections it is given.
struct Thread {
    given: mpsc::UnboundedSender<Accepted>,
    /// Held by each of its connections.
    load: Arc<()>,
    serving: JoinHandle<Result<(), Error>>,
}

impl Spread {
    /// Has each thread serve what it is given.
    pub(super) fn over<F>(threads: &Threads, serve: impl Fn(mpsc::UnboundedReceiver<Accepted>) -> F) -> Self
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let thread = |runtime: &tokio::runtime::Handle| {
            let (given, connections) = mpsc::unbounded_channel();
            Thread { given, load: Arc::default(), serving: runtime.spawn(serve(connections)) }
        };
        Self(threads.runtimes().iter().map(thread).collect())
    }

    /// Gives a connection to the thread that has fewest.
    pub(super) fn give(&self, connection: Accepted) {
        let least = self.0.iter().min_by_key(|thread| Arc::strong_count(&thread.load));
        if let Some(thread) = least {
            // If it has ended, so does everything.
            let _ = thread.given.send(connection.counting_for(Arc::clone(&thread.load)));
        }
    }

    /// Waits until one of them serves nobody any more, and gives it nothing more.
    pub(super) async fn one_ends(&mut self) -> Result<(), Error> {
        let serving = self.0.iter_mut().map(|thread| &mut thread.serving);
        let (ended, number, _) = select_all(serving).await;
        self.0.swap_remove(number);
        served(ended)
    }

    /// Waits until none of them serves anybody any more.
    pub(super) async fn all_end(self) -> Result<(), Error> {
        let serving = self.0.into_iter().map(|thread| thread.serving);
        join_all(serving).await.into_iter().try_for_each(served)
    }
}

/// What serving came to. A defect is the caller's, as if it had served by itself.
fn served(ended: Result<Result<(), Error>, JoinError>) -> Result<(), Error> {
    match ended.map_err(JoinError::try_into_panic) {
        Ok(served) => served,
        Err(Ok(defect)) => std::panic::resume_unwind(defect),
        Err(Err(cancelled)) => Err(Error::Thread(cancelled)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{
        accept::{Acceptor, Patience},
        telemetry::metrics::Metrics,
        threads::First,
    };

    #[tokio::test]
    async fn the_thread_with_fewest_connections_gets_the_next_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let patience = Patience::ToOpen(Duration::from_mins(1));
        let mut acceptor = Acceptor::new(listener, 10, patience, Metrics::default());
        let threads = Threads::start("test", 2, First::Own).unwrap();
        let (kept, mut keep) = mpsc::unbounded_channel();
        let spread = Spread::over(&threads, |mut given| {
            let kept = kept.clone();
            async move {
                while let Some(connection) = given.recv().await {
                    let thread = std::thread::current().id();
                    kept.send((connection.open().unwrap(), thread)).unwrap();
                }
                Ok(())
            }
        });
        let mut next = async || {
            let _caller = TcpStream::connect(address).await.unwrap();
            let (connection, _) = acceptor.accept().await;
            spread.give(connection);
            keep.recv().await.unwrap()
        };
        let [(first, one), (_second, other)] = [next().await, next().await];
        assert_ne!(one, other);
        drop(first);
        let (_third, instead) = next().await;
        assert_eq!(instead, one, "it has none any more");
    }
}
