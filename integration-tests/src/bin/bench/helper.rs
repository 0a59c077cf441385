//! Parts of a run in processes of their own, so that what they use can be told apart: this binary again, with a hidden subcommand.
//!
//! A helper gets what it is to do as JSON in its one argument, answers with lines of JSON on standard output, and ends when
//! its standard input does: also when whoever started it was killed.

use std::{io::Read, process::Stdio, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::Failure;

/// A helper that runs; killed when dropped.
pub(crate) struct Helper {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    name: &'static str,
}

impl Helper {
    /// Starts this binary with a subcommand and its one argument.
    pub(crate) fn start(name: &'static str, task: &impl Serialize) -> Result<Self, Failure> {
        Self::run(Command::new(std::env::current_exe()?), name, task)
    }

    /// The same, with whatever the machine has left: for what would be elsewhere if this were not a benchmark.
    pub(crate) fn start_nicely(name: &'static str, task: &impl Serialize) -> Result<Self, Failure> {
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(std::env::current_exe()?);
        Self::run(command, name, task)
    }

    fn run(mut command: Command, name: &'static str, task: &impl Serialize) -> Result<Self, Failure> {
        command.arg(name).arg(serde_json::to_string(task)?).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("a helper without standard output")?;
        Ok(Self { child, lines: BufReader::new(stdout).lines(), name })
    }

    /// What it says next.
    pub(crate) async fn says<T: DeserializeOwned>(&mut self, within: Duration) -> Result<T, Failure> {
        let line = tokio::time::timeout(within, self.lines.next_line())
            .await
            .map_err(|_| format!("the {} did not answer within {within:?}", self.name))??;
        let line = line.ok_or_else(|| format!("the {} ended too early", self.name))?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Its process id; 0 once it has ended.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }
}

/// In a helper: says something to whoever started it.
#[expect(clippy::print_stdout, reason = "how helpers answer")]
pub(crate) fn say(what: &impl Serialize) -> Result<(), Failure> {
    println!("{}", serde_json::to_string(what)?);
    Ok(())
}

/// In a helper: ends the process when standard input ends.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}
