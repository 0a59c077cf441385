//! Expressions are compiled once, whoever's they are: kept by their text.

use std::{collections::HashMap, sync::Arc};

use crate::domain::expression::Program;

/// Beyond this many they are dropped and compiled anew as they are needed, to bound the memory.
const MAX_PROGRAMS: usize = 10_000;

/// Those that were used lately.
#[derive(Default)]
pub(super) struct Programs(HashMap<String, Option<Arc<Program>>>);

impl Programs {
    /// Returns the program of a text; none if this version cannot compile it, which is logged.
    pub(super) fn of(&mut self, text: &str) -> Option<Arc<Program>> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let program = Program::compile(text).map(Arc::new);
        if let Err(fault) = &program {
            // The text is the owner's and stays out of the log.
            tracing::error!(line = fault.line, column = fault.column, "an expression cannot be compiled");
        }
        if self.0.len() >= MAX_PROGRAMS {
            self.0.clear();
        }
        self.0.insert(text.to_owned(), program.as_ref().ok().cloned());
        program.ok()
    }
}
