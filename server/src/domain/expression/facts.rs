//! What an expression sees of an event.

use std::{
    cell::{Cell, OnceCell},
    collections::HashMap,
    sync::Arc,
};

use cel::{Context, Value, objects::Map};
use chrono::DateTime;

use super::{MAX_STEPS, Pause, environment};
use crate::domain::{event::EventContent, timestamp::Timestamp};

/// The steps that all expressions together may take on one event.
const MAX_STEPS_TOGETHER: u64 = 10 * MAX_STEPS;

/// One event, for any number of expressions: it is read once, and only if there is one that asks.
pub struct Facts<'a> {
    event: &'a EventContent,
    time: Timestamp,
    context: OnceCell<Context<'static, 'static>>,
    spent: Cell<u64>,
    pause: Option<Pause>,
}

impl<'a> Facts<'a> {
    /// Of an event that happened at `time`, unless it says otherwise.
    #[must_use]
    pub fn new(event: &'a EventContent, time: Timestamp) -> Self {
        let time = event.time.unwrap_or(time);
        Self { event, time, context: OnceCell::new(), spent: Cell::new(0), pause: None }
    }

    /// With a pause now and then while it is evaluated.
    #[must_use]
    pub fn with_pause(self, pause: Pause) -> Self {
        Self { pause: Some(pause), ..self }
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> &'a EventContent {
        self.event
    }

    pub(super) fn pause(&self) -> Option<Pause> {
        self.pause.clone()
    }

    pub(super) fn steps_left(&self) -> u64 {
        MAX_STEPS_TOGETHER.saturating_sub(self.spent.get())
    }

    pub(super) fn count(&self, steps: u64) {
        self.spent.set(self.spent.get().saturating_add(steps));
    }

    pub(super) fn context(&self) -> &Context<'static, 'static> {
        self.context.get_or_init(|| {
            let event = self.event;
            let mut context = Context::with_env(Arc::clone(environment()));
            context.add_variable_from_value("type", event.event_type.as_str());
            context.add_variable_from_value("source", event.source.as_str());
            context.add_variable_from_value("subject", event.subject.as_str());
            let attributes: HashMap<String, String> = event.attributes.as_map().clone().into_iter().collect();
            context.add_variable_from_value("attributes", attributes);
            if let Some(time) = DateTime::from_timestamp_micros(self.time.as_micros()) {
                context.add_variable_from_value("time", Value::Timestamp(time.fixed_offset()));
            }
            // Its nesting was bounded when it was accepted, and the parser has a bound as well.
            let data = event.payload.is_json().then(|| serde_json::from_slice(&event.payload.data).ok());
            if let Some(data) = data.flatten() {
                context.add_variable_from_value("data", value(data));
            }
            context
        })
    }
}

/// Whole numbers become `int` where they fit, as in a text, so that the two can be added up.
fn value(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(bool) => Value::Bool(bool),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Value::Int(int),
            (None, Some(uint)) => Value::UInt(uint),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::String(Arc::new(text)),
        serde_json::Value::Array(items) => Value::List(Arc::new(items.into_iter().map(value).collect())),
        serde_json::Value::Object(fields) => {
            let fields = fields.into_iter().map(|(key, field)| (key.into(), value(field)));
            Value::Map(Map { map: Arc::new(fields.collect()) })
        }
    }
}
