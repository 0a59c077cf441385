//! Carries the plan out: breaks things, waits, heals them, and notes when that was.

use std::time::Duration;

use super::{
    Error, Stopwatch,
    chance::Chance,
    evidence::Window,
    nodes::Nodes,
    plan::{Fault, Step},
    postgres::Postgres,
};

/// How long a node waits for an answer of the database at most.
const GIVES_UP: Duration = Duration::from_secs(40);

pub(super) struct Executor {
    // Before PostgreSQL, so that they end before it does.
    pub(super) nodes: Nodes,
    pub(super) windows: Vec<Window>,
    postgres: Postgres,
    watch: Stopwatch,
    chance: Chance,
}

impl Executor {
    pub(super) fn new(postgres: Postgres, nodes: Nodes, watch: Stopwatch, chance: Chance) -> Self {
        Self { nodes, windows: Vec::new(), postgres, watch, chance }
    }

    /// Breaks what the step says, together, and heals it.
    pub(super) async fn carry_out(&mut self, step: Step) -> Result<(), Error> {
        let from = self.watch.elapsed();
        tracing::info!(at = ?from, faults = ?step.faults, lasting = ?step.lasting, "breaking");
        let mut broken = Vec::new();
        for fault in &step.faults {
            // Two that cannot be together, like a stop of a database that is gone.
            match self.break_it(*fault).await {
                Ok(()) => broken.push(*fault),
                Err(error) => tracing::warn!(?fault, %error, "could not be broken beside the other one"),
            }
        }
        tokio::time::sleep(step.lasting).await;
        // The database first: nodes do not start without it.
        broken.sort_by_key(|fault| match fault {
            Fault::RestartDatabase | Fault::CrashDatabase | Fault::KillDatabase => 0,
            Fault::KillNode(_) | Fault::RestartNode(_) => 2,
            _ => 1,
        });
        for fault in broken {
            self.heal_it(fault).await?;
        }
        let what = format!("{:?}", step.faults);
        // What a node was waiting for on a connection that is gone without a word it gives up only then.
        let forgotten = step.faults.iter().any(|fault| matches!(fault, Fault::ForgetNode(_)));
        let until = self.watch.elapsed() + if forgotten { GIVES_UP } else { Duration::ZERO };
        self.windows.push(Window { what, from, until });
        tokio::time::sleep(step.quiet).await;
        Ok(())
    }

    async fn break_it(&mut self, fault: Fault) -> Result<(), Error> {
        match fault {
            Fault::KillNode(node) => self.nodes.kill(node).await,
            Fault::RestartNode(node) | Fault::StopNode(node) if self.nodes.is_down(node) => {
                return Err(Error("the node is down".to_owned()));
            }
            Fault::RestartNode(node) => self.nodes.signal(node, "TERM")?,
            Fault::StopNode(node) => self.nodes.signal(node, "STOP")?,
            Fault::RestartDatabase => self.postgres.stop().await?,
            Fault::CrashDatabase => self.postgres.signal("QUIT").await?,
            Fault::KillDatabase => self.postgres.signal("KILL").await?,
            Fault::RefuseConnections => self.postgres.allow_connections(false).await?,
            Fault::EndSomeConnections => {
                let percent = 20 + self.chance.below(80);
                self.postgres.end_connections(percent).await?;
            }
            Fault::CutNode(node) => self.nodes.proxy(node).cut(),
            Fault::ForgetNode(node) => self.nodes.proxy(node).forget(),
            Fault::StallNode(node) => self.nodes.proxy(node).silence(true),
            Fault::StallAll => self.nodes.proxies().for_each(|proxy| proxy.silence(true)),
        }
        Ok(())
    }

    async fn heal_it(&mut self, fault: Fault) -> Result<(), Error> {
        match fault {
            Fault::KillNode(node) | Fault::RestartNode(node) => self.nodes.start_again(node).await?,
            Fault::StopNode(node) => {
                if !self.nodes.is_down(node) {
                    self.nodes.signal(node, "CONT")?;
                }
            }
            Fault::RestartDatabase | Fault::CrashDatabase | Fault::KillDatabase => {
                self.postgres.come_back().await?;
            }
            Fault::RefuseConnections => self.postgres.allow_connections(true).await?,
            Fault::EndSomeConnections | Fault::CutNode(_) | Fault::ForgetNode(_) => {}
            Fault::StallNode(node) => self.nodes.proxy(node).silence(false),
            Fault::StallAll => self.nodes.proxies().for_each(|proxy| proxy.silence(false)),
        }
        Ok(())
    }

    /// Whatever two faults together left broken.
    pub(super) async fn heal(&mut self) -> Result<(), Error> {
        self.nodes.proxies().for_each(|proxy| proxy.silence(false));
        self.postgres.allow_connections(true).await?;
        self.nodes.start_missing().await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    }
}
