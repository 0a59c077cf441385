//! Where publishes wait for the writer: a line for each tenant, and turns between the lines.
//!
//! A tenant that floods makes its own line long, and callers who find it full wait to get in; the others' next event is in the next
//! batch all the same. Within a line the order is that of arrival: the lines that a batch is taken from are held until it is committed,
//! while batches of other lines are taken, and so is a line whose first items are looked at elsewhere ([`screen`](super::screen)).
//! While only one tenant publishes, which is usual, there are no turns to take, and an event costs no more than its place in a `VecDeque`.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, Semaphore};

use crate::domain::id::TenantId;

/// How many publishes of one tenant may wait; beyond that its callers wait to get in line.
const LINE_LENGTH: usize = 4_096;

/// What can wait here.
pub(super) trait InLine {
    /// Whose line it waits in.
    fn tenant(&self) -> &TenantId;
    /// What it adds to the size of a batch, in bytes.
    fn size(&self) -> usize;
}

/// Lines that are held: nothing is taken of them. Released when this is dropped, whatever happens.
pub(super) struct HeldLines<T: InLine> {
    lines: Arc<Lines<T>>,
    tenants: Vec<TenantId>,
    /// What is in hand of them, and is to be first in its line if it is still here then.
    pub(super) items: Vec<T>,
}

impl<T: InLine> Drop for HeldLines<T> {
    fn drop(&mut self) {
        self.lines.release(&self.tenants, std::mem::take(&mut self.items));
    }
}

/// They are closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed;

/// All lines.
pub(super) struct Lines<T> {
    state: Mutex<State<T>>,
    arrived: Notify,
}

struct State<T> {
    /// Those with something in them, and those that somebody waits to get in.
    lines: HashMap<TenantId, Line<T>>,
    /// Whose turn it is, for each line with something in it that is not held.
    turns: VecDeque<TenantId>,
    closed: bool,
    /// How many times lines are held.
    held: usize,
}

struct Line<T> {
    waiting: VecDeque<T>,
    /// What is left of [`LINE_LENGTH`].
    places: Arc<Semaphore>,
    /// How many of those in line were given back, and have no place of their own.
    given_back: usize,
    /// How many times it is held; nothing is taken meanwhile.
    held: usize,
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        let state = State { lines: HashMap::new(), turns: VecDeque::new(), closed: false, held: 0 };
        Self { state: Mutex::new(state), arrived: Notify::new() }
    }
}

impl<T: InLine> Lines<T> {
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
    /// None when they are closed, nothing is left and nothing comes back any more.
    pub(super) async fn next(self: &Arc<Self>, max: usize, bytes: usize) -> Option<HeldLines<T>> {
        loop {
            {
                let mut state = self.state();
                let (items, tenants) = state.take(max, bytes);
                if !items.is_empty() {
                    return Some(HeldLines { lines: Arc::clone(self), tenants, items });
                }
                if state.closed && state.held == 0 {
                    return None;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Holds a line that is held already once more: until both have released it.
    pub(super) fn hold(self: &Arc<Self>, tenant: TenantId) -> HeldLines<T> {
        self.state().hold(&tenant);
        HeldLines { lines: Arc::clone(self), tenants: vec![tenant], items: Vec::new() }
    }

    fn release(&self, tenants: &[TenantId], items: Vec<T>) {
        self.state().release(tenants, items);
        self.arrived.notify_one();
    }

    /// Lets nobody in any more. What is in line can still be taken.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        for line in state.lines.values() {
            line.places.close();
        }
        drop(state);
        self.arrived.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: InLine> State<T> {
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

    fn hold(&mut self, tenant: &TenantId) {
        self.held += 1;
        self.lines.entry(tenant.clone()).or_default().held += 1;
    }

    fn release(&mut self, tenants: &[TenantId], items: Vec<T>) {
        for item in items.into_iter().rev() {
            let line = self.lines.entry(item.tenant().clone()).or_default();
            // Its place may be somebody else's by now.
            line.given_back += 1;
            line.waiting.push_front(item);
        }
        self.held -= tenants.len();
        for tenant in tenants {
            let Some(line) = self.lines.get_mut(tenant) else { continue };
            line.held -= 1;
            if line.held > 0 {
                continue;
            }
            if !line.waiting.is_empty() {
                self.turns.push_back(tenant.clone());
            } else if Arc::strong_count(&line.places) == 1 {
                // Nobody waits to get in.
                self.lines.remove(tenant);
            }
        }
    }

    /// Takes a batch, and holds the lines that it is of.
    fn take(&mut self, max: usize, bytes: usize) -> (Vec<T>, Vec<TenantId>) {
        let (mut items, mut tenants) = (Vec::new(), Vec::new());
        let mut size = 0;
        // Those that have had a turn and have more.
        let mut again = VecDeque::new();
        while items.len() < max && size < bytes {
            let Some(tenant) = self.turns.pop_front().or_else(|| again.pop_front()) else { break };
            let Some(line) = self.lines.get_mut(&tenant) else { continue };
            let alone = self.turns.is_empty() && again.is_empty();
            let before = items.len();
            while items.len() < max && size < bytes {
                let Some(item) = line.waiting.pop_front() else { break };
                size += item.size();
                items.push(item);
                if !alone {
                    break;
                }
            }
            let taken = items.len() - before;
            let without_place = line.given_back.min(taken);
            line.given_back -= without_place;
            line.places.add_permits(taken - without_place);
            if line.held == 0 {
                line.held = 1;
                self.held += 1;
                tenants.push(tenant.clone());
            }
            if !line.waiting.is_empty() {
                again.push_back(tenant);
            }
        }
        (items, tenants)
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

    impl InLine for Item {
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

    async fn joined(lines: &Lines<Item>, tenant: &str, numbers: std::ops::Range<usize>) {
        for number in numbers {
            lines.join(item(tenant, number)).await.unwrap();
        }
    }

    /// What there is of the next batch.
    fn take(lines: &Arc<Lines<Item>>, max: usize, bytes: usize) -> HeldLines<Item> {
        let mut next = pin!(lines.next(max, bytes));
        let Poll::Ready(Some(batch)) = next.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("there is something")
        };
        batch
    }

    /// The same, committed at once.
    fn names(lines: &Arc<Lines<Item>>, max: usize, bytes: usize) -> String {
        let mut batch = take(lines, max, bytes);
        names_of(&std::mem::take(&mut batch.items))
    }

    fn names_of(items: &[Item]) -> String {
        let names: Vec<_> = items.iter().map(|Item(tenant, number)| format!("{tenant}{number}")).collect();
        names.join(" ")
    }

    fn is_idle(lines: &Lines<Item>) -> bool {
        let state = lines.state();
        state.lines.is_empty() && state.turns.is_empty() && state.held == 0
    }

    #[tokio::test]
    async fn a_tenant_that_floods_has_one_turn_like_the_others() {
        let lines = Arc::default();
        joined(&lines, "a", 0..6).await;
        joined(&lines, "b", 0..2).await;
        joined(&lines, "c", 0..1).await;
        assert_eq!(names(&lines, 5, 1_000), "a0 b0 c0 a1 b1");
        joined(&lines, "c", 1..2).await;
        assert_eq!(names(&lines, 2, 1_000), "a2 c1");
        assert_eq!(names(&lines, 9, 1_000), "a3 a4 a5");
        assert!(is_idle(&lines));
    }

    #[tokio::test]
    async fn a_batch_has_an_end_in_events_and_in_bytes() {
        let lines = Arc::default();
        joined(&lines, "a", 0..9).await;
        assert_eq!(take(&lines, 4, 1_000).items.len(), 4);
        assert_eq!(names(&lines, 4, 15), "a0 a1", "the last one may go beyond");
        assert_eq!(names(&lines, 4, 1_000), "a2 a3 a4 a5");
        assert_eq!(names(&lines, 4, 1_000), "a6 a7 a8");
    }

    #[tokio::test]
    async fn whoever_finds_the_line_full_waits_for_a_place_in_it_and_nobody_else_does() {
        let lines = Arc::default();
        joined(&lines, "a", 0..LINE_LENGTH).await;
        let mut first = pin!(lines.join(item("a", LINE_LENGTH)));
        let mut second = pin!(lines.join(item("a", LINE_LENGTH + 1)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        joined(&lines, "b", 0..1).await;

        assert_eq!(names(&lines, 2, 1_000), "a0 b0");
        assert!(second.as_mut().poll(&mut context).is_pending(), "the first one waits longer");
        assert_eq!(first.as_mut().poll(&mut context), Poll::Ready(Ok(())));
        assert_eq!(names(&lines, 1, 1_000), "a1");
        assert_eq!(second.as_mut().poll(&mut context), Poll::Ready(Ok(())));
        let expected: Vec<_> = (2..LINE_LENGTH + 2).map(|number| item("a", number)).collect();
        assert_eq!(take(&lines, LINE_LENGTH * 2, usize::MAX).items, expected);
    }

    #[tokio::test]
    async fn what_is_left_of_a_batch_is_the_next_of_its_line_again() {
        let lines = Arc::default();
        joined(&lines, "a", 0..4).await;
        joined(&lines, "b", 0..2).await;
        let mut batch = take(&lines, 5, 1_000);
        assert_eq!(names_of(&batch.items), "a0 b0 a1 b1 a2");
        batch.items.drain(..2);
        joined(&lines, "b", 2..3).await;
        drop(batch);
        assert_eq!(names(&lines, 9, 1_000), "a1 b1 a2 b2 a3");
        assert!(is_idle(&lines));
    }

    #[tokio::test]
    async fn lines_that_a_batch_is_of_are_held_until_it_ends_and_the_others_go_on() {
        let lines = Arc::default();
        joined(&lines, "a", 0..3).await;
        joined(&lines, "b", 0..1).await;
        let mut batch = take(&lines, 2, 1_000);
        joined(&lines, "b", 1..2).await;
        joined(&lines, "c", 0..1).await;
        assert_eq!(names(&lines, 9, 1_000), "c0");
        assert_eq!(names_of(&std::mem::take(&mut batch.items)), "a0 b0");
        drop(batch);
        assert_eq!(names(&lines, 9, 1_000), "a1 b1 a2");
        assert!(is_idle(&lines));
    }

    #[tokio::test]
    async fn what_is_given_back_takes_nobodys_place() {
        let lines = Arc::default();
        joined(&lines, "a", 0..LINE_LENGTH).await;
        for _ in 0..3 {
            drop(take(&lines, 100, usize::MAX));
        }
        joined(&lines, "a", LINE_LENGTH..LINE_LENGTH + 100).await;
        let mut waiting = pin!(lines.join(item("a", LINE_LENGTH + 100)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending(), "the line is full");
        names(&lines, 100, usize::MAX);
        assert!(waiting.as_mut().poll(&mut context).is_pending(), "those had no place to leave");
        names(&lines, 1, usize::MAX);
        assert_eq!(waiting.as_mut().poll(&mut context), Poll::Ready(Ok(())));
        assert_eq!(take(&lines, LINE_LENGTH * 2, usize::MAX).items.len(), LINE_LENGTH);
    }

    #[tokio::test]
    async fn what_comes_back_to_a_line_that_was_held_longer_is_first_again_and_nothing_overtakes_it() {
        let lines = Arc::default();
        joined(&lines, "a", 0..2).await;
        let mut batch = take(&lines, 2, 1_000);
        let mut held = lines.hold(batch.items[0].0.clone());
        held.items = std::mem::take(&mut batch.items);
        drop(batch);
        joined(&lines, "a", 2..LINE_LENGTH + 2).await;
        joined(&lines, "b", 0..1).await;
        assert_eq!(names(&lines, 10, 1_000), "b0", "the others go on");
        drop(held);
        assert_eq!(names(&lines, 3, 1_000), "a0 a1 a2");
        joined(&lines, "a", 0..1).await;
        let mut waiting = pin!(lines.join(item("a", 1)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending(), "no place was made twice");
    }

    #[tokio::test]
    async fn the_end_comes_after_what_is_held() {
        let lines = Arc::default();
        joined(&lines, "a", 0..1).await;
        let batch = take(&lines, 2, 1_000);
        lines.close();
        let mut next = pin!(lines.next(10, 1_000));
        let mut context = Context::from_waker(Waker::noop());
        assert!(next.as_mut().poll(&mut context).is_pending());
        drop(batch);
        let Poll::Ready(Some(mut batch)) = next.as_mut().poll(&mut context) else {
            panic!("it was released")
        };
        assert_eq!(names_of(&std::mem::take(&mut batch.items)), "a0");
        drop(batch);
        assert!(lines.next(10, 1_000).await.is_none());
    }
}
