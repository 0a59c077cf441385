//! Counts what an evaluation does, and stops one that does too much.
//!
//! The library has no limits of its own. So [`check`](super::check) puts [`SPEND`] around every operand whose size matters to what is
//! done with it: it pays for the size before anything is done. A loop pays for all its rounds at once. When the budget is gone every
//! further payment fails as well, so that nothing is left that takes long.
//!
//! An evaluation runs on one thread from begin to end and functions of the library take no state, hence the thread's own.
//!
//! Counting is also where an evaluation that takes long can be made to wait for others, by its [`Pause`].

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
};

use cel::{
    ExecutionError,
    common::{
        types::{CelBool, CelBytes, CelInt, CelList, CelMap, CelString},
        value::{CowVal, Val},
    },
};
use regex::Regex;

/// Pays for an operand and hands it on.
pub(super) const SPEND: &str = "@spend";
/// `matches`, with a pattern that is compiled already.
pub(super) const MATCHES: &str = "@matches";
/// Pays for what a loop goes over, and for its rounds.
pub(super) const SPEND_ON_ROUNDS: &str = "@spend_on_rounds";

/// Begins a round, which is paid for.
pub(super) const ROUND: &str = "@round";

/// So many bytes of a text cost a step.
const BYTES_PER_STEP: u64 = 16;
/// The longest text that is searched by a pattern: matching is linear in it, but with a factor.
const MAX_MATCHED: usize = 16 << 10;
/// The steps that a byte searched by a pattern costs.
const STEPS_PER_MATCHED_BYTE: u64 = 16;

/// What a round counts for until the next pause, whatever was paid for it.
const STEPS_PER_ROUND: u64 = 5;
/// So many steps are taken between two pauses: about a millisecond.
const STEPS_PER_PAUSE: u64 = 10_000;

/// Is called now and then in the midst of an evaluation, and may block it; says whether to go on.
pub type Pause = Rc<dyn Fn() -> bool>;

thread_local! {
    static CURRENT: RefCell<Current> = RefCell::default();
    /// Steps of all evaluations since the last pause.
    static SINCE_PAUSE: Cell<u64> = const { Cell::new(0) };
}

#[derive(Default)]
struct Current {
    left: u64,
    exhausted: bool,
    stopped: bool,
    patterns: Arc<HashMap<String, Regex>>,
    pause: Option<Pause>,
}

impl Current {
    fn exhaust(&mut self) -> ExecutionError {
        self.exhausted = true;
        self.left = 0;
        ExecutionError::function_error(SPEND, "too many steps")
    }

    fn due_pause(&self, steps: u64) -> Option<Pause> {
        let since = SINCE_PAUSE.get().saturating_add(steps);
        SINCE_PAUSE.set(if since < STEPS_PER_PAUSE { since } else { 0 });
        if since < STEPS_PER_PAUSE { None } else { self.pause.clone() }
    }
}

/// What an evaluation took.
pub(super) struct Spent {
    pub(super) steps: u64,
    /// Whether that was not enough.
    pub(super) exhausted: bool,
    /// Whether it was not to go on.
    pub(super) stopped: bool,
}

/// An evaluation that is counted.
pub(super) struct Metered {
    allowed: u64,
}

impl Metered {
    pub(super) fn begin(allowed: u64, patterns: Arc<HashMap<String, Regex>>, pause: Option<Pause>) -> Self {
        CURRENT.set(Current { left: allowed, exhausted: false, stopped: false, patterns, pause });
        Self { allowed }
    }

    pub(super) fn end(self) -> Spent {
        let current = CURRENT.take();
        Spent { steps: self.allowed - current.left, exhausted: current.exhausted, stopped: current.stopped }
    }
}

/// Takes steps from the budget.
pub(super) fn take(steps: u64) -> Result<(), ExecutionError> {
    let pause = CURRENT.with_borrow_mut(|current| match current.left.checked_sub(steps) {
        Some(left) if !current.exhausted => {
            current.left = left;
            Ok(current.due_pause(steps))
        }
        _ => Err(current.exhaust()),
    });
    pause?.map_or(Ok(()), |pause| go_on(&pause))
}

fn go_on(pause: &Pause) -> Result<(), ExecutionError> {
    if pause() {
        return Ok(());
    }
    Err(CURRENT.with_borrow_mut(|current| {
        current.stopped = true;
        current.exhaust()
    }))
}

fn left() -> u64 {
    CURRENT.with_borrow(|current| if current.exhausted { 0 } else { current.left })
}

/// `@spend(x)` pays for `x`.
pub(super) fn spend<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let Some(operand) = args.pop() else { return Err(ExecutionError::missing_argument_or_target()) };
    take(size(&*operand, left()))?;
    Ok(operand)
}

/// The same for what a loop goes over, with the cost of a round.
pub(super) fn spend_on_rounds<'b, 'v>(
    mut args: Vec<CowVal<'b, 'v>>,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (Some(cost), Some(range)) = (args.pop(), args.pop()) else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    let each = cost.downcast_ref::<CelInt>().map_or(0, |cost| u64::try_from(*cost.inner()).unwrap_or(0));
    let rounds = range.as_sizer().map_or(0, |sizer| u64::try_from(*sizer.size().inner()).unwrap_or(0));
    take(size(&*range, left()).saturating_add(rounds.saturating_mul(each)))?;
    Ok(range)
}

/// `@round(condition)` is the condition of a loop.
pub(super) fn round<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    if let Some(pause) = CURRENT.with_borrow(|current| current.due_pause(STEPS_PER_ROUND)) {
        go_on(&pause)?;
    }
    args.pop().ok_or_else(ExecutionError::missing_argument_or_target)
}

/// `@matches(text, pattern)`.
#[expect(clippy::needless_pass_by_value, reason = "the form of the library's functions")]
pub(super) fn matches<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let texts: Vec<&str> =
        args.iter().filter_map(|arg| arg.downcast_ref::<CelString>().map(CelString::inner)).collect();
    let [text, pattern] = texts[..] else {
        return Err(ExecutionError::function_error("matches", "only texts can be matched"));
    };
    if text.len() > MAX_MATCHED {
        let message = format!("the text has {} bytes; at most {MAX_MATCHED} can be matched", text.len());
        return Err(ExecutionError::function_error("matches", message));
    }
    take(text.len() as u64 * STEPS_PER_MATCHED_BYTE)?;
    let pattern = CURRENT.with_borrow(|current| current.patterns.get(pattern).cloned());
    let Some(pattern) = pattern else {
        return Err(ExecutionError::function_error("matches", "the pattern is unknown"));
    };
    Ok(CowVal::owned(CelBool::from(pattern.is_match(text))))
}

/// How many things are in a value, counted no further than `most`. Recurses as deep as values are nested, which JSON's parser bounds.
fn size(value: &dyn Val, most: u64) -> u64 {
    let text = |length: usize| 1 + length as u64 / BYTES_PER_STEP;
    if let Some(string) = value.downcast_ref::<CelString>() {
        return text(string.inner().len());
    }
    if let Some(bytes) = value.downcast_ref::<CelBytes>() {
        return text(bytes.inner().len());
    }
    let mut total = 1;
    if let Some(list) = value.downcast_ref::<CelList>() {
        for item in list.inner() {
            if total > most {
                break;
            }
            total += size(item.as_ref(), most - total.min(most));
        }
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        for (key, field) in map.inner() {
            if total > most {
                break;
            }
            total += size(key.inner(), most) + size(field.as_ref(), most - total.min(most));
        }
    }
    total
}
