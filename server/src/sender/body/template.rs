//! Renders templates, each when its turn comes.
//!
//! A rendering can take some ten milliseconds where somebody means harm ([`crate::template`]), so it happens on a thread for such things. Of
//! those only a few are used at a time, and by one subscription one at a time: who has many deliveries to render holds up others no
//! longer than who has one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{
    domain::{claim::Target, event::Event, id::SubscriptionUid},
    template::{Error, Escaping, Template},
};

/// How many renderings are under way at a time.
const TURNS: usize = 2;
/// How many compiled templates are kept. Compiling takes less than a millisecond, so it does not matter much which.
const MAX_KEPT: usize = 1_000;

/// What was made of a subscription's template, and whose turn it is.
#[derive(Debug)]
struct Compiled {
    /// Tells whether it is still that of the subscription.
    revision: i64,
    template: Template,
    turn: Semaphore,
}

/// Renders, and keeps what it compiled.
#[derive(Debug)]
pub(super) struct Renderer {
    kept: Mutex<HashMap<SubscriptionUid, Arc<Compiled>>>,
    turns: Semaphore,
}

impl Default for Renderer {
    fn default() -> Self {
        Self { kept: Mutex::default(), turns: Semaphore::new(TURNS) }
    }
}

impl Renderer {
    pub(super) async fn render(
        &self,
        event: &Arc<Event>,
        target: &Target,
        source: &str,
        escaping: Escaping,
    ) -> Result<String, Error> {
        let compiled = self.compiled(target, source)?;
        // Neither is ever closed.
        let _own = compiled.turn.acquire().await;
        let _turn = self.turns.acquire().await;
        let (event, subscription) = (Arc::clone(event), target.id.to_string());
        let rendering = {
            let compiled = Arc::clone(&compiled);
            spawn_blocking(move || compiled.template.render(&event, &subscription, escaping))
        };
        rendering.await.unwrap_or_else(|_| Err(Error::unfinished()))
    }

    fn compiled(&self, target: &Target, source: &str) -> Result<Arc<Compiled>, Error> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept().get(&target.uid).filter(|found| found.revision == target.revision) {
            return Ok(Arc::clone(found));
        }
        let template = Template::compile(source)?;
        let compiled = Arc::new(Compiled { revision: target.revision, template, turn: Semaphore::new(1) });
        let mut kept = kept();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(target.uid, Arc::clone(&compiled));
        Ok(compiled)
    }
}
