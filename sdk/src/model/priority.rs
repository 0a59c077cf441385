//! Which deliveries come first.

/// Which of the deliveries that are due to one subscription come first.
///
/// A delivery counts as due the later, the lower its priority is: at once if it is high, after 30 seconds if it is normal, after
/// 5 minutes if it is low. So none waits for ever behind others of a higher priority.
///
/// ```
/// use postrider_sdk::{Event, model::Priority};
///
/// let event = Event::new("payment.failed").priority(Priority::High);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Priority {
    /// After the others.
    Low,
    /// What most events are.
    #[default]
    Normal,
    /// Before the others.
    High,
    /// A priority newer than this SDK, with its number.
    Unrecognized(i32),
}
