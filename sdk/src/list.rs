//! Lists: a page at a time, or item by item with the pages fetched as they are needed.

use std::{fmt, pin::Pin};

use time::OffsetDateTime;

use crate::{
    Client, Result,
    model::{Delivery, DeliveryState, StoredEvent},
};

/// A list to be read, newest first unless said otherwise: set what to look for, then read one [`page`](Self::page) or
/// all [`items`](Self::items).
///
/// ```no_run
/// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
/// let mut events = client.events().list().event_type("order.created").items();
/// while let Some(event) = events.next().await? {
///     println!("{}", event.name);
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a list is read with `page` or `items`"]
pub struct List<T> {
    client: Client,
    query: Query,
    fetch: Fetch<T>,
}

/// Reads one page of a kind of list.
pub(crate) type Fetch<T> = fn(Client, Query) -> PageFuture<T>;
pub(crate) type PageFuture<T> = Pin<Box<dyn Future<Output = Result<Page<T>>> + Send>>;

/// Everything that any list can be asked for; each kind of list offers the part that it has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pub(crate) parent: String,
    pub(crate) page_size: i32,
    pub(crate) page_token: String,
    pub(crate) event_type: String,
    pub(crate) request_id: String,
    pub(crate) event: String,
    pub(crate) subscription: String,
    pub(crate) state: Option<DeliveryState>,
    pub(crate) created_from: Option<OffsetDateTime>,
    pub(crate) created_until: Option<OffsetDateTime>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Page<T> {
    /// What is on the page.
    pub items: Vec<T>,
    /// Where the next page begins; `None` on the last page.
    pub next_page_token: Option<String>,
}

impl<T> Page<T> {
    pub(crate) fn new(items: Vec<T>, next_page_token: String) -> Self {
        Self { items, next_page_token: Some(next_page_token).filter(|token| !token.is_empty()) }
    }
}

impl<T> List<T> {
    pub(crate) fn new(client: Client, parent: String, fetch: Fetch<T>) -> Self {
        Self { client, query: Query { parent, ..Query::default() }, fetch }
    }

    /// At most this many items on a page; 50 if not set, and 1,000 at most.
    pub fn page_size(mut self, items: u16) -> Self {
        self.query.page_size = i32::from(items);
        self
    }

    /// Begins with the page that an earlier [`Page::next_page_token`] names. Everything else must be as it was then.
    pub fn page_token(mut self, token: impl Into<String>) -> Self {
        self.query.page_token = token.into();
        self
    }

    /// Reads one page.
    pub async fn page(&self) -> Result<Page<T>> {
        (self.fetch)(self.client.clone(), self.query.clone()).await
    }

    /// Reads everything, page by page.
    pub fn items(self) -> Items<T> {
        Items { list: self, page: Vec::new().into_iter(), ended: false }
    }
}

impl List<StoredEvent> {
    /// Only events of exactly this type.
    pub fn event_type(mut self, event_type: impl Into<String>) -> Self {
        self.query.event_type = event_type.into();
        self
    }

    /// Only the event that was published with this `request_id`.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.query.request_id = request_id.into();
        self
    }

    /// Only events accepted at this time or later.
    pub fn created_from(mut self, time: OffsetDateTime) -> Self {
        self.query.created_from = Some(time);
        self
    }

    /// Only events accepted before this time.
    pub fn created_until(mut self, time: OffsetDateTime) -> Self {
        self.query.created_until = Some(time);
        self
    }
}

impl List<Delivery> {
    /// Only deliveries of this event, given by its name or id.
    pub fn event(mut self, event: impl Into<String>) -> Self {
        self.query.event = self.client.name("events", event);
        self
    }

    /// Only deliveries to this subscription, given by its name or id.
    pub fn subscription(mut self, subscription: impl Into<String>) -> Self {
        self.query.subscription = self.client.name("subscriptions", subscription);
        self
    }

    /// Only deliveries in this state.
    pub fn state(mut self, state: DeliveryState) -> Self {
        self.query.state = Some(state);
        self
    }

    /// Only deliveries created at this time or later.
    pub fn created_from(mut self, time: OffsetDateTime) -> Self {
        self.query.created_from = Some(time);
        self
    }

    /// Only deliveries created before this time.
    pub fn created_until(mut self, time: OffsetDateTime) -> Self {
        self.query.created_until = Some(time);
        self
    }
}

impl<T> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List").field("query", &self.query).finish_non_exhaustive()
    }
}

/// The items of a list, fetched page by page. Made by [`List::items`].
#[must_use = "nothing is read until `next` is called"]
pub struct Items<T> {
    list: List<T>,
    page: std::vec::IntoIter<T>,
    ended: bool,
}

impl<T> Items<T> {
    /// The next item, or `None` after the last one. After an error it can be called again and goes on where it was.
    pub async fn next(&mut self) -> Result<Option<T>> {
        loop {
            if let Some(item) = self.page.next() {
                return Ok(Some(item));
            }
            if self.ended {
                return Ok(None);
            }
            let page = self.list.page().await?;
            self.page = page.items.into_iter();
            match page.next_page_token {
                Some(token) => self.list.query.page_token = token,
                None => self.ended = true,
            }
        }
    }

    /// All the items that are left, in memory.
    pub async fn collect(mut self) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while let Some(item) = self.next().await? {
            items.push(item);
        }
        Ok(items)
    }
}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").field("list", &self.list).field("ended", &self.ended).finish_non_exhaustive()
    }
}
