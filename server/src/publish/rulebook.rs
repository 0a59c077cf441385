//! What the catalogue of event types says of publishing, kept for all who publish.
//!
//! Events are checked in their callers' tasks, by what this node knows of the catalogue. A match table says of which version the catalogue
//! was when it was read; the writer sets events aside that were checked by an earlier one, and they are checked again. As every change
//! of the catalogue makes all match tables out of date, none is committed by rules that are no longer in force. And before one is refused,
//! its caller looks whether there are later rules.

use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::{
    catalogue::{CataloguedType, Rules, UnknownTypes},
    event::EventContent,
    invalid::Invalid,
};

/// Data of up to this many bytes is checked where the caller is; more is given to a thread for work that blocks.
const AT_ONCE: usize = 16 << 10;

/// The rules that are known.
#[derive(Default)]
pub(super) struct Rulebook(RwLock<Arc<Rules>>);

/// By which rules an event was checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checked {
    pub(super) version: i64,
    pub(super) unknown: UnknownTypes,
}

impl Rulebook {
    pub(super) fn current(&self) -> Arc<Rules> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes these over, unless it knows later ones.
    pub(super) async fn renew(&self, version: i64, types: Vec<CataloguedType>) {
        // Compiling takes its time, of which the runtime's threads have none.
        let compiled = tokio::task::spawn_blocking(move || Rules::new(version, &types)).await;
        match compiled {
            Ok(rules) => {
                let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
                if current.version < version {
                    *current = Arc::new(rules);
                }
            }
            Err(cause) => {
                tracing::error!(cause = &cause as &dyn std::error::Error, "the catalogue cannot be compiled");
            }
        }
    }

    /// Checks an event; also says whether its type is deprecated.
    pub(super) async fn check(
        &self,
        event: &EventContent,
        unknown: UnknownTypes,
    ) -> Result<(Checked, bool), Vec<Invalid>> {
        let rules = self.current();
        let (version, deprecated) = (rules.version, rules.is_deprecated(&event.event_type));
        let checked = if rules.enforces(&event.event_type) && event.payload.data.len() > AT_ONCE {
            let event = event.clone();
            let checking = tokio::task::spawn_blocking(move || rules.check(&event, unknown));
            let defect = |_| vec![Invalid::new("event.data", "cannot be checked")];
            checking.await.map_err(defect)?
        } else {
            rules.check(event, unknown)
        };
        checked?;
        Ok((Checked { version, unknown }, deprecated))
    }
}
