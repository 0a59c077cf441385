//! What a run came to, for people.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use super::{Options, evidence::Evidence, invariants::Findings};

/// What a run came to. Shown as a table, with how to repeat it.
#[derive(Debug)]
pub struct Report {
    seed: u64,
    duration: Duration,
    rows: Vec<(&'static str, String)>,
    faults: Vec<(String, Duration, Duration)>,
    /// What must not be, each in a sentence. Empty if all is well.
    pub violations: Vec<String>,
    /// Where the logs of a run that failed are.
    pub kept: Option<PathBuf>,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        evidence: &Evidence,
        findings: Findings,
        took: Duration,
        settled_after: Option<Duration>,
        metrics: Vec<(String, f64)>,
    ) -> Self {
        let duplicates = findings.duplicates;
        let read_your_writes =
            evidence.published.iter().filter(|published| published.read_your_writes).count();
        let settled = settled_after
            .map_or("NOT".to_owned(), |after| format!("{:.1} s after the load", after.as_secs_f64()));
        let mut rows = vec![
            ("nodes", options.nodes.to_string()),
            ("took", format!("{:.0} s", took.as_secs_f64())),
            ("faults", evidence.faults.len().to_string()),
            ("events acknowledged", evidence.published.len().to_string()),
            ("of them, read your writes", read_your_writes.to_string()),
            ("deliveries wanted", findings.expected.to_string()),
            ("requests seen", evidence.requests.len().to_string()),
            ("to be cancelled", evidence.cancelled.len().to_string()),
            ("ended without success", findings.ended_otherwise.to_string()),
            ("duplicates around faults", duplicates.around_faults.to_string()),
            ("duplicates, answer lost", duplicates.unanswered.to_string()),
            ("duplicates, unexplained", duplicates.unexplained.to_string()),
            ("attempts not recorded", findings.unrecorded.to_string()),
            ("requests far from faults", findings.undisturbed.to_string()),
            ("records compared", findings.compared.to_string()),
            ("pending, due later", findings.pending.to_string()),
            ("all ended", settled),
        ];
        for (name, value) in metrics {
            let name = if name.contains("lost") { "settlements lost" } else { "attempts given up" };
            rows.push((name, format!("{value} since the last starts")));
        }
        Self {
            seed: options.seed,
            duration: options.duration,
            rows,
            faults: evidence
                .faults
                .iter()
                .map(|window| (window.what.clone(), window.from, window.until))
                .collect(),
            violations: findings.violations,
            kept: None,
        }
    }

    /// Whether everything was as it must be.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        for (name, value) in &self.rows {
            writeln!(f, "  {name:<28} {value}")?;
        }
        if self.is_sound() {
            return writeln!(f, "sound");
        }
        let mut kinds = BTreeMap::new();
        for (what, from, until) in &self.faults {
            kinds.insert(*from, (what, until));
        }
        writeln!(f, "what broke when:")?;
        for (from, (what, until)) in kinds {
            writeln!(f, "  {:>7.1} to {:>7.1} s  {what}", from.as_secs_f64(), until.as_secs_f64())?;
        }
        writeln!(f, "VIOLATIONS:")?;
        for violation in &self.violations {
            writeln!(f, "  {violation}")?;
        }
        if let Some(kept) = &self.kept {
            writeln!(f, "the logs of the nodes are in {}", kept.display())?;
        }
        let minutes = self.duration.as_secs_f64() / 60.0;
        writeln!(
            f,
            "to repeat it: cargo build && cargo run -p postrider-integration-tests --bin bench -- faults --seed {} --minutes {minutes}",
            self.seed
        )
    }
}
