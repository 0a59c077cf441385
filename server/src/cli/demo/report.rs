//! The table at the end of the demo.

use std::{collections::HashMap, time::Instant};

use postrider_sdk::model::{Attempt, Delivery};

/// What came in at the receiver.
#[derive(Debug, Clone, Default)]
pub(super) struct Arrivals {
    /// When the first callback of an event came for a subscription.
    pub(super) first: HashMap<(String, String), Instant>,
    /// How many signatures were good.
    pub(super) verified: u32,
    /// How many were not.
    pub(super) refused: u32,
}

/// One delivery.
pub(super) struct Row {
    event: String,
    subscription: String,
    attempts: String,
    outcome: String,
    first_callback: String,
}

impl Row {
    pub(super) fn new(
        event_type: &str,
        delivery: &Delivery,
        attempts: &[Attempt],
        published_at: Instant,
        arrivals: &Arrivals,
    ) -> Self {
        let last_segment = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
        let subscription = last_segment(&delivery.subscription);
        let key = (last_segment(&delivery.event), subscription.clone());
        let status =
            |attempt: &Attempt| attempt.status().map_or_else(|| "—".to_owned(), |status| status.to_string());
        let statuses: Vec<_> = attempts.iter().map(status).collect();
        let reason = delivery.end_reason.map_or_else(String::new, |reason| format!(", {reason:?}"));
        Self {
            event: event_type.to_owned(),
            subscription,
            attempts: format!("{}: {}", attempts.len(), statuses.join(" ")),
            outcome: format!("{:?}{reason}", delivery.state).to_lowercase(),
            first_callback: arrivals.first.get(&key).map_or_else(
                || "—".to_owned(),
                |arrived| format!("{:.1} ms", arrived.duration_since(published_at).as_secs_f64() * 1_000.0),
            ),
        }
    }

    fn cells(&self) -> [&str; 5] {
        [&self.event, &self.subscription, &self.attempts, &self.outcome, &self.first_callback]
    }
}

/// Prints the rows under their headings.
#[expect(clippy::print_stdout, reason = "what the demo is for")]
pub(super) fn print(rows: &[Row]) {
    let headings = ["EVENT", "SUBSCRIPTION", "ATTEMPTS", "OUTCOME", "PUBLISH TO CALLBACK"];
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row.cells()) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for cells in std::iter::once(headings).chain(rows.iter().map(Row::cells)) {
        let line: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("{}", line.join("  ").trim_end());
    }
}
