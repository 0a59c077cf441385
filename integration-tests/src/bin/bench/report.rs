//! What a run has found: a table for people, JSON for machines, from the same figures.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{Failure, latency::Latencies};

const MIB: f64 = 1024.0 * 1024.0;

/// Sections of named figures, in the order in which they are to be read.
pub(crate) struct Report {
    title: String,
    sections: Vec<Section>,
}

/// Figures that belong together.
pub(crate) struct Section {
    name: String,
    rows: Vec<(String, Figure)>,
}

enum Figure {
    Number(f64),
    Count(u64),
    Text(String),
    Unknown,
}

impl Report {
    /// An empty one.
    pub(crate) fn new(title: String) -> Self {
        Self { title, sections: Vec::new() }
    }

    /// A new section at the end.
    pub(crate) fn section(&mut self, name: &str) -> &mut Section {
        let index = self.sections.len();
        self.sections.push(Section { name: name.to_owned(), rows: Vec::new() });
        &mut self.sections[index]
    }

    /// Prints the table, and writes the JSON if there is a file for it.
    #[expect(clippy::print_stdout, reason = "what a benchmark is for")]
    pub(crate) fn publish(&self, file: Option<&Path>) -> Result<(), Failure> {
        let names = self.sections.iter().flat_map(|section| &section.rows).map(|(name, _)| name.len());
        let width = names.max().unwrap_or(0);
        println!("\n{}", self.title);
        for section in &self.sections {
            println!("\n  {}", section.name);
            for (name, figure) in &section.rows {
                println!("    {:<width$}  {:>14}", spoken(name), figure.for_people());
            }
        }
        println!();
        if let Some(file) = file {
            let sections = self
                .sections
                .iter()
                .map(|section| (section.name.to_lowercase().replace(' ', "_"), section.json()));
            let all = json!({ "title": self.title, "sections": Value::Object(sections.collect()) });
            std::fs::write(file, serde_json::to_string_pretty(&all)?)?;
        }
        Ok(())
    }
}

impl Section {
    /// Adds a measured number.
    pub(crate) fn number(&mut self, name: &str, value: impl Into<Option<f64>>) -> &mut Self {
        let known = value.into().filter(|value| value.is_finite());
        self.row(name, known.map_or(Figure::Unknown, Figure::Number))
    }

    /// Adds a number of things.
    pub(crate) fn count(&mut self, name: &str, value: u64) -> &mut Self {
        self.row(name, Figure::Count(value))
    }

    /// Adds words.
    pub(crate) fn text(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.row(name, Figure::Text(value.into()))
    }

    /// Adds an amount of memory, in bytes, as MiB.
    #[expect(clippy::cast_precision_loss, reason = "no machine has 2^53 bytes")]
    pub(crate) fn mebibytes(&mut self, name: &str, bytes: u64) -> &mut Self {
        self.row(name, Figure::Number(bytes as f64 / MIB))
    }

    /// Adds the middle and the tail of a distribution.
    pub(crate) fn latencies(&mut self, name: &str, latencies: &Latencies) -> &mut Self {
        for (quantile, part) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
            self.number(&format!("{name}_{quantile}_ms"), latencies.quantile(part));
        }
        self
    }

    fn row(&mut self, name: &str, figure: Figure) -> &mut Self {
        self.rows.push((name.to_owned(), figure));
        self
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(name, figure)| (name.clone(), figure.for_machines()));
        Value::Object(rows.collect::<Map<_, _>>())
    }
}

impl Figure {
    fn for_people(&self) -> String {
        match self {
            Self::Number(value) if value.abs() >= 1000.0 => grouped(&format!("{value:.0}")),
            Self::Number(value) if value.abs() >= 100.0 => format!("{value:.1}"),
            Self::Number(value) => format!("{value:.2}"),
            Self::Count(value) => grouped(&value.to_string()),
            Self::Text(text) => text.clone(),
            Self::Unknown => "n/a".to_owned(),
        }
    }

    fn for_machines(&self) -> Value {
        match self {
            Self::Number(value) => json!(value),
            Self::Count(value) => json!(value),
            Self::Text(text) => json!(text),
            Self::Unknown => Value::Null,
        }
    }
}

/// A figure's name without underscores; a metric is called what it is called.
fn spoken(name: &str) -> String {
    if name.starts_with("postrider_") { name.to_owned() } else { name.replace('_', " ") }
}

/// `1234567` as `1,234,567`.
fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        let rest = digits.len() - index;
        if index > 0 && rest.is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many of something there are to each of something else; none if there is nothing else.
#[expect(clippy::cast_precision_loss, reason = "three digits are read")]
pub(crate) fn per(amount: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| amount as f64 / of as f64)
}

/// CPU time, in microseconds, as percent of one core.
pub(crate) fn percent_of_a_core(cpu: u64, seconds: f64) -> Option<f64> {
    // A second has a million microseconds, and a hundredth of that is 1 %.
    rate(cpu, seconds * 1e4)
}

/// How many there are in a second; none if it took no time.
#[expect(clippy::cast_precision_loss, reason = "three digits are read")]
pub(crate) fn rate(count: u64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| count as f64 / seconds)
}
