//! What a rendering may cost. Work is counted in bytes that are read or written; an element of a list or a map counts as [`ELEMENT`].

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use minijinja::{
    Error, ErrorKind, Output, State, Value,
    value::{Enumerator, Object, ObjectRepr, ValueKind},
};

use super::{Escaping, MAX_OUTPUT, filters};

/// Filters that [`guard`](super::guard) puts around operands. No template can spell their names.
pub(super) const FREE: &str = "*free";
pub(super) const PAID: &str = "*paid";
pub(super) const NUMBER: &str = "*number";
pub(super) const ADDEND: &str = "*addend";
pub(super) const ITERATED: &str = "*iterated";
pub(super) const INDEXED: &str = "*indexed";
/// The name of the budget among the names of a template, which none can spell either.
const BUDGET: &str = "*budget";

/// What an element costs.
const ELEMENT: u64 = 16;
/// What each rendering may cost.
const WORK: u64 = 4 << 20;
/// How often the data of its event may be gone through besides.
const PASSES: u64 = 8;
/// The deepest nesting of values: that of the data and some more.
const MAX_DEPTH: usize = 200;

/// What is left.
#[derive(Debug)]
pub(super) struct Budget {
    work: AtomicU64,
    output: AtomicU64,
    escaping: Escaping,
}

impl Object for Budget {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

impl Budget {
    pub(super) fn for_data(length: usize, escaping: Escaping) -> Self {
        let work = WORK + PASSES * length as u64;
        Self { work: AtomicU64::new(work), output: AtomicU64::new(MAX_OUTPUT as u64), escaping }
    }

    fn take(left: &AtomicU64, amount: u64) -> bool {
        // One thread renders; the atomic is for the library, whose values may be shared.
        let before = left.load(Ordering::Relaxed);
        left.store(before.saturating_sub(amount), Ordering::Relaxed);
        before >= amount
    }

    pub(super) fn pay(&self, amount: u64) -> Result<(), Error> {
        if Self::take(&self.work, amount) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::OutOfFuel, "the template does more work than is allowed"))
    }

    fn pay_output(&self, amount: u64) -> Result<(), Error> {
        if Self::take(&self.output, amount) {
            return Ok(());
        }
        let message = format!("the template writes more than {MAX_OUTPUT} bytes");
        Err(Error::new(ErrorKind::WriteFailure, message))
    }

    /// Pays for all of a value. One that holds the same list in many places pays for each of them.
    pub(super) fn pay_for(&self, value: &Value) -> Result<(), Error> {
        self.pay_below(value, 0)
    }

    fn pay_below(&self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::new(ErrorKind::InvalidOperation, "a value is nested too deeply"));
        }
        if let Some(text) = value.as_str() {
            return self.pay(text.len() as u64 + 1);
        }
        self.pay(ELEMENT)?;
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                for item in value.try_iter()? {
                    self.pay_below(&item, depth + 1)?;
                }
            }
            ValueKind::Map => {
                for key in value.try_iter()? {
                    self.pay_below(&key, depth + 1)?;
                    self.pay_below(&value.get_item(&key)?, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The names of a template, and its budget.
#[derive(Debug)]
pub(super) struct Names {
    names: HashMap<&'static str, Value>,
    budget: Value,
}

impl Names {
    pub(super) fn new(names: HashMap<&'static str, Value>, budget: Budget) -> Self {
        Self { names, budget: Value::from_object(budget) }
    }
}

impl Object for Names {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            BUDGET => Some(self.budget.clone()),
            name => self.names.get(name).cloned(),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}

/// The budget of the rendering that is under way.
pub(super) fn of(state: &State) -> Result<Arc<Budget>, Error> {
    let found = state.lookup(BUDGET).and_then(|value| value.downcast_object::<Budget>());
    found.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "there is no budget"))
}

/// Writes a value to the output: texts as they are, everything else as JSON, and nothing for what is not there.
pub(super) fn write(output: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if value.is_undefined() || value.is_none() {
        return Ok(());
    }
    let budget = of(state)?;
    let text: Cow<'_, str> = if let Some(text) = value.as_str() {
        text.into()
    } else {
        budget.pay_for(value)?;
        filters::to_json(value)?.into()
    };
    let text = match budget.escaping {
        Escaping::Mrkdwn if !value.is_safe() => {
            budget.pay(text.len() as u64)?;
            filters::mrkdwn(&text).into()
        }
        Escaping::Mrkdwn | Escaping::None => text,
    };
    budget.pay_output(text.len() as u64)?;
    Ok(output.write_str(&text)?)
}

/// [`PAID`]: all of it.
pub(super) fn paid(state: &State, value: Value) -> Result<Value, Error> {
    of(state)?.pay_for(&value)?;
    Ok(value)
}

/// [`NUMBER`]: texts and lists could be multiplied.
pub(super) fn number(value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Number => Ok(value),
        other => {
            let message = format!("this operator is for numbers, not for {other}");
            Err(Error::new(ErrorKind::InvalidOperation, message))
        }
    }
}

/// [`ADDEND`]: lists would be put together lazily, to be paid for by nobody.
pub(super) fn addend(state: &State, value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Number | ValueKind::String => paid(state, value),
        other => {
            let message = format!("`+` is for numbers and texts, not for {other}");
            Err(Error::new(ErrorKind::InvalidOperation, message))
        }
    }
}

/// [`ITERATED`]: its length, as what is below may never be looked at.
pub(super) fn iterated(state: &State, value: Value) -> Result<Value, Error> {
    let length =
        value.as_str().map_or_else(|| value.len().unwrap_or(0) as u64 * ELEMENT, |text| text.len() as u64);
    of(state)?.pay(length)?;
    Ok(value)
}

/// [`INDEXED`]: texts are counted through to the character, lists and maps are looked up.
pub(super) fn indexed(state: &State, value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Iterable => iterated(state, value),
        _ => Ok(value),
    }
}
