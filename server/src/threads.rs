//! Threads with a runtime each, for work that comes in many small steps.
//!
//! A call, or an attempt, takes a dozen steps of some microseconds: its connection reads, its task goes on, its connection writes. Where all threads
//! share one runtime each step may be another thread's, which is woken for it and finds nothing of it in its caches. What stays on one thread
//! wakes nobody, and what has become ready together is done together.
//!
//! Calls have half as many threads as there are processors, attempts as many, and so has everything else, on the runtime that its threads
//! share.

use std::{
    io,
    num::NonZero,
    thread::{self, available_parallelism},
};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How many threads each of them has.
#[must_use]
pub fn half_of_processors() -> usize {
    available_parallelism().map_or(1, NonZero::get).div_ceil(2)
}

/// What goes first on a thread.
#[derive(Debug, Clone, Copy)]
pub enum First {
    /// What other threads have made ready: all that one commit has, before what it makes ready here.
    Theirs,
    /// What it has made ready itself: what was begun goes on before more is begun.
    Own,
}

impl First {
    /// After how many steps what other threads have made ready is looked at, if there is anything else.
    const fn steps_between(self) -> u32 {
        match self {
            Self::Theirs => 1,
            Self::Own => 31,
        }
    }
}

/// Some threads. They end, and what still runs on them breaks off, when this is dropped: connections that were made there are of no use to anybody
/// from then on.
#[derive(Debug)]
pub struct Threads {
    runtimes: Vec<Handle>,
    #[expect(dead_code, reason = "ends them when it is dropped")]
    end: DropGuard,
}

impl Threads {
    /// Starts so many, at least one.
    pub fn start(name: &str, count: usize, first: First) -> io::Result<Self> {
        let ended = CancellationToken::new();
        // If one cannot be started the others end.
        let end = ended.clone().drop_guard();
        let runtimes =
            (0..count.max(1)).map(|number| start(format!("{name}-{number}"), first, ended.clone()));
        Ok(Self { runtimes: runtimes.collect::<Result<_, _>>()?, end })
    }

    /// The runtime of each.
    #[must_use]
    pub fn runtimes(&self) -> &[Handle] {
        &self.runtimes
    }

    /// That of one of them: the same for the same number.
    #[must_use]
    pub fn runtime_of(&self, number: u128) -> &Handle {
        let count = self.runtimes.len() as u128;
        // Less than their number.
        &self.runtimes[(number % count) as usize]
    }
}

fn start(name: String, first: First, end: CancellationToken) -> io::Result<Handle> {
    let runtime =
        Builder::new_current_thread().enable_all().global_queue_interval(first.steps_between()).build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name(name).spawn(move || runtime.block_on(end.cancelled()))?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use std::{thread::ThreadId, time::Duration};

    use super::*;

    async fn thread_of(runtime: &Handle) -> ThreadId {
        runtime.spawn(async { thread::current().id() }).await.unwrap()
    }

    #[tokio::test]
    async fn each_number_has_a_thread_on_which_its_work_stays() {
        let threads = Threads::start("test", 2, First::Own).unwrap();
        let [first, second] =
            [thread_of(threads.runtime_of(2)).await, thread_of(threads.runtime_of(5)).await];
        assert_ne!(first, second);
        assert_ne!(first, thread::current().id());
        let both = threads.runtimes().iter().map(thread_of);
        assert_eq!(futures_util::future::join_all(both).await, [first, second]);
        assert_eq!(thread_of(threads.runtime_of(u128::MAX - 1)).await, first);
    }

    #[tokio::test]
    async fn with_the_threads_ends_what_runs_on_them() {
        let threads = Threads::start("test", 0, First::Own).unwrap();
        let endless = threads.runtime_of(0).spawn(std::future::pending::<()>());
        drop(threads);
        let ended = tokio::time::timeout(Duration::from_mins(1), endless).await;
        assert!(ended.expect("it goes on").unwrap_err().is_cancelled());
    }
}
