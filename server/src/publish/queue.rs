//! Where publishes wait for the writer: a line for each tenant, and turns between the lines.
//!
//! A tenant that floods makes its own line long, and callers who find it full wait to get in; the others' next event is in the next
//! batch all the same. A line can be held while its first items are looked at elsewhere ([`screen`](super::screen)). Within a line the order is that of arrival. While only one tenant publishes, which is usual, there are no turns to
//! take, and an event costs no more than its place in a `VecDeque`.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, Semaphore};

use crate::domain::id::TenantId;

/// How many publishes of one tenant may wait; beyond that its callers wait to get in line.
const LINE_LENGTH: usize = 4_096;

/// What can wait here.
pub(super) trait Waiting {
    /// Whose line it waits in.
    fn tenant(&self) -> &TenantId;
    /// What it adds to the size of a batch, in bytes.
    fn size(&self) -> usize;
}

/// A line that is held. Released when this is dropped, whatever happens.
pub(super) struct Held<T: Waiting> {
    queue: Arc<Queue<T>>,
    tenant: TenantId,
    /// What is to be first in the line then.
    pub(super) first: Vec<T>,
}

impl<T: Waiting> Drop for Held<T> {
    fn drop(&mut self) {
        self.queue.release(&self.tenant, std::mem::take(&mut self.first));
    }
}

/// The queue is closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed;

/// All lines.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    arrived: Notify,
}

struct State<T> {
    /// Those with something in them, and those that somebody waits to get in.
    lines: HashMap<TenantId, Line<T>>,
    /// Whose turn it is, for each line with something in it.
    turns: VecDeque<TenantId>,
    closed: bool,
    /// How many times items of lines are elsewhere.
    held: usize,
}

struct Line<T> {
    waiting: VecDeque<T>,
    /// What is left of [`LINE_LENGTH`].
    places: Arc<Semaphore>,
    /// How many of those in line were given back, and have no place of their own.
    given_back: usize,
    /// How many times its first items are elsewhere; nothing is taken meanwhile.
    held: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let state = State { lines: HashMap::new(), turns: VecDeque::new(), closed: false, held: 0 };
        Self { state: Mutex::new(state), arrived: Notify::new() }
    }
}

impl<T: Waiting> Queue<T> {
    /// Gets in line, as soon as there is a place.
    pub(super) async fn join(&self, item: T) -> Result<(), Closed> {
        let full = self.state().join(item)?;
        if let Some((item, places)) = full {
            // Those who wait for a place get one in turn.
            places.acquire().await.map_err(|_| Closed)?.forget();
            self.state().push(item)?;
        }
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes the next batch, as soon as there is one: one item of each tenant in turn, until there are `max` or their sizes reach `bytes`.
    pub(super) async fn next(&self, max: usize, bytes: usize) -> Vec<T> {
        loop {
            let batch = self.take(max, bytes);
            if !batch.is_empty() {
                return batch;
            }
            self.arrived.notified().await;
        }
    }

    /// Takes what there is of the next batch.
    pub(super) fn take(&self, max: usize, bytes: usize) -> Vec<T> {
        self.state().take(max, bytes)
    }

    /// Takes items back that were not needed, in the order in which they were taken: each is the next of its line again.
    pub(super) fn give_back(&self, items: Vec<T>) {
        self.state().give_back(items);
    }

    /// Takes what is left, after the queue was closed; nothing only when nothing comes back any more.
    pub(super) async fn rest(&self, max: usize, bytes: usize) -> Vec<T> {
        loop {
            let (batch, held) = {
                let mut state = self.state();
                (state.take(max, bytes), state.held)
            };
            if !batch.is_empty() || held == 0 {
                return batch;
            }
            self.arrived.notified().await;
        }
    }

    /// Takes nothing of a line until it is released.
    pub(super) fn hold(self: &Arc<Self>, tenant: TenantId) -> Held<T> {
        let mut state = self.state();
        state.held += 1;
        state.turns.retain(|turn| *turn != tenant);
        state.lines.entry(tenant.clone()).or_default().held += 1;
        drop(state);
        Held { queue: Arc::clone(self), tenant, first: Vec::new() }
    }

    /// Gives items back that were first in a line that was held.
    fn release(&self, tenant: &TenantId, items: Vec<T>) {
        self.state().release(tenant, items);
        self.arrived.notify_one();
    }

    /// Lets nobody in any more. What is in line can still be taken.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        for line in state.lines.values() {
            line.places.close();
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Waiting> State<T> {
    /// Lets an item in, or gives it back with what to wait for if its line is full.
    fn join(&mut self, item: T) -> Result<Option<(T, Arc<Semaphore>)>, Closed> {
        let line = self.lines.entry(item.tenant().clone()).or_default();
        let Ok(place) = line.places.try_acquire() else {
            return Ok(Some((item, Arc::clone(&line.places))));
        };
        place.forget();
        self.push(item)?;
        Ok(None)
    }

    /// Puts an item in a place that was taken for it.
    fn push(&mut self, item: T) -> Result<(), Closed> {
        if self.closed {
            return Err(Closed);
        }
        let line = self.lines.entry(item.tenant().clone()).or_default();
        if line.waiting.is_empty() && line.held == 0 {
            self.turns.push_back(item.tenant().clone());
        }
        line.waiting.push_back(item);
        Ok(())
    }

    fn give_back(&mut self, items: Vec<T>) {
        for item in items.into_iter().rev() {
            let line = self.lines.entry(item.tenant().clone()).or_default();
            if line.waiting.is_empty() && line.held == 0 {
                self.turns.push_front(item.tenant().clone());
            }
            // Its place may be somebody else's by now.
            line.given_back += 1;
            line.waiting.push_front(item);
        }
    }

    fn release(&mut self, tenant: &TenantId, items: Vec<T>) {
        self.held -= 1;
        let line = self.lines.entry(tenant.clone()).or_default();
        line.given_back += items.len();
        for item in items.into_iter().rev() {
            line.waiting.push_front(item);
        }
        line.held -= 1;
        if line.held > 0 {
            return;
        }
        if !line.waiting.is_empty() {
            self.turns.push_back(tenant.clone());
        } else if Arc::strong_count(&line.places) == 1 {
            self.lines.remove(tenant);
        }
    }

    fn take(&mut self, max: usize, bytes: usize) -> Vec<T> {
        let mut batch = Vec::new();
        let mut size = 0;
        while batch.len() < max && size < bytes {
            let Some(tenant) = self.turns.pop_front() else { break };
            let Some(line) = self.lines.get_mut(&tenant) else { continue };
            let alone = self.turns.is_empty();
            let before = batch.len();
            while batch.len() < max && size < bytes {
                let Some(item) = line.waiting.pop_front() else { break };
                size += item.size();
                batch.push(item);
                if !alone {
                    break;
                }
            }
            let taken = batch.len() - before;
            let without_place = line.given_back.min(taken);
            line.given_back -= without_place;
            line.places.add_permits(taken - without_place);
            if !line.waiting.is_empty() {
                self.turns.push_back(tenant);
            } else if Arc::strong_count(&line.places) == 1 {
                // Nobody waits to get in.
                self.lines.remove(&tenant);
            }
        }
        batch
    }
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            places: Arc::new(Semaphore::new(LINE_LENGTH)),
            given_back: 0,
            held: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    /// The item of this number in a tenant's line.
    #[derive(Debug, PartialEq, Eq)]
    struct Item(TenantId, usize);

    impl Waiting for Item {
        fn tenant(&self) -> &TenantId {
            &self.0
        }

        fn size(&self) -> usize {
            10
        }
    }

    fn item(tenant: &str, number: usize) -> Item {
        Item(TenantId::parse(tenant).unwrap(), number)
    }

    async fn joined(queue: &Queue<Item>, tenant: &str, numbers: std::ops::Range<usize>) {
        for number in numbers {
            queue.join(item(tenant, number)).await.unwrap();
        }
    }

    fn names(batch: &[Item]) -> String {
        let names: Vec<_> = batch.iter().map(|Item(tenant, number)| format!("{tenant}{number}")).collect();
        names.join(" ")
    }

    #[tokio::test]
    async fn a_tenant_that_floods_has_one_turn_like_the_others() {
        let queue = Queue::default();
        joined(&queue, "a", 0..6).await;
        joined(&queue, "b", 0..2).await;
        joined(&queue, "c", 0..1).await;
        assert_eq!(names(&queue.next(5, 1_000).await), "a0 b0 c0 a1 b1");
        joined(&queue, "c", 1..2).await;
        assert_eq!(names(&queue.next(2, 1_000).await), "a2 c1");
        assert_eq!(names(&queue.next(9, 1_000).await), "a3 a4 a5");
        assert!(queue.state().lines.is_empty() && queue.state().turns.is_empty());
    }

    #[tokio::test]
    async fn a_batch_has_an_end_in_events_and_in_bytes() {
        let queue = Queue::default();
        joined(&queue, "a", 0..9).await;
        assert_eq!(queue.next(4, 1_000).await.len(), 4);
        assert_eq!(queue.next(4, 15).await.len(), 2, "the last one may go beyond");
        assert_eq!(queue.next(4, 1_000).await.len(), 3);
    }

    #[tokio::test]
    async fn whoever_finds_the_line_full_waits_for_a_place_in_it_and_nobody_else_does() {
        let queue = Queue::default();
        joined(&queue, "a", 0..LINE_LENGTH).await;
        let mut first = pin!(queue.join(item("a", LINE_LENGTH)));
        let mut second = pin!(queue.join(item("a", LINE_LENGTH + 1)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        joined(&queue, "b", 0..1).await;

        assert_eq!(names(&queue.take(2, 1_000)), "a0 b0");
        assert!(second.as_mut().poll(&mut context).is_pending(), "the first one waits longer");
        assert_eq!(first.as_mut().poll(&mut context), Poll::Ready(Ok(())));
        assert_eq!(names(&queue.take(1, 1_000)), "a1");
        assert_eq!(second.as_mut().poll(&mut context), Poll::Ready(Ok(())));
        let rest = queue.take(LINE_LENGTH * 2, usize::MAX);
        let expected: Vec<_> = (2..LINE_LENGTH + 2).map(|number| item("a", number)).collect();
        assert_eq!(rest, expected);
    }

    #[tokio::test]
    async fn what_is_given_back_is_the_next_of_its_line_again() {
        let queue = Queue::default();
        joined(&queue, "a", 0..4).await;
        joined(&queue, "b", 0..2).await;
        let mut batch = queue.take(5, 1_000);
        assert_eq!(names(&batch), "a0 b0 a1 b1 a2");
        queue.give_back(batch.split_off(2));
        joined(&queue, "b", 2..3).await;
        assert_eq!(names(&queue.take(9, 1_000)), "b1 a1 b2 a2 a3");
        assert!(queue.state().lines.is_empty() && queue.state().turns.is_empty());
    }

    #[tokio::test]
    async fn what_is_given_back_takes_nobodys_place() {
        let queue = Queue::default();
        joined(&queue, "a", 0..LINE_LENGTH).await;
        for _ in 0..3 {
            queue.give_back(queue.take(100, usize::MAX));
        }
        joined(&queue, "a", LINE_LENGTH..LINE_LENGTH + 100).await;
        let mut waiting = pin!(queue.join(item("a", LINE_LENGTH + 100)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending(), "the line is full");
        assert_eq!(queue.take(100, usize::MAX).len(), 100);
        assert!(waiting.as_mut().poll(&mut context).is_pending(), "those had no place to leave");
        assert_eq!(queue.take(1, usize::MAX).len(), 1);
        assert_eq!(waiting.as_mut().poll(&mut context), Poll::Ready(Ok(())));
        assert_eq!(queue.take(LINE_LENGTH * 2, usize::MAX).len(), LINE_LENGTH);
    }

    #[tokio::test]
    async fn what_comes_back_to_a_held_line_is_first_again_and_nothing_overtakes_it() {
        let queue = Arc::new(Queue::default());
        joined(&queue, "a", 0..2).await;
        let aside = queue.take(2, 1_000);
        let mut held = queue.hold(aside[0].0.clone());
        held.first = aside;
        joined(&queue, "a", 2..LINE_LENGTH + 2).await;
        joined(&queue, "b", 0..1).await;
        assert_eq!(names(&queue.take(10, 1_000)), "b0", "the others go on");
        drop(held);
        assert_eq!(names(&queue.take(3, 1_000)), "a0 a1 a2");
        joined(&queue, "a", 0..1).await;
        let mut waiting = pin!(queue.join(item("a", 1)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending(), "no place was made twice");
    }

    #[tokio::test]
    async fn the_rest_waits_for_what_is_held() {
        let queue = Arc::new(Queue::default());
        joined(&queue, "a", 0..1).await;
        let aside = queue.take(1, 1_000);
        let mut held = queue.hold(aside[0].0.clone());
        held.first = aside;
        queue.close();
        let mut rest = pin!(queue.rest(10, 1_000));
        let mut context = Context::from_waker(Waker::noop());
        assert!(rest.as_mut().poll(&mut context).is_pending());
        drop(held);
        let Poll::Ready(batch) = rest.as_mut().poll(&mut context) else { panic!("it was released") };
        assert_eq!(names(&batch), "a0");
        assert!(queue.rest(10, 1_000).await.is_empty());
    }

    #[tokio::test]
    async fn once_closed_it_lets_nobody_in_and_the_rest_out() {
        let queue = Queue::default();
        joined(&queue, "a", 0..LINE_LENGTH).await;
        let mut waiting = pin!(queue.join(item("a", LINE_LENGTH)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        queue.close();
        assert_eq!(waiting.as_mut().poll(&mut context), Poll::Ready(Err(Closed)));
        assert_eq!(queue.join(item("a", 0)).await, Err(Closed));
        assert_eq!(queue.join(item("b", 0)).await, Err(Closed));
        assert_eq!(queue.take(LINE_LENGTH * 2, usize::MAX).len(), LINE_LENGTH);
    }
}
