//! What breaks, in which order and for how long: of the seed alone.

use std::time::Duration;

use super::{LEASE, chance::Chance};

/// Something that breaks, and heals by itself at the end of its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGKILL; started again afterwards.
    KillNode(usize),
    /// SIGSTOP for longer than a lease, then SIGCONT.
    StopNode(usize),
    /// SIGTERM; started again afterwards.
    RestartNode(usize),
    /// `pg_ctl restart -m fast`.
    RestartDatabase,
    /// SIGQUIT to PostgreSQL, and recovery.
    CrashDatabase,
    /// SIGKILL to the first process of PostgreSQL, and recovery.
    KillDatabase,
    /// PostgreSQL ends all connections and takes no new ones.
    RefuseConnections,
    /// PostgreSQL ends some connections.
    EndSomeConnections,
    /// The network drops a node's connections to PostgreSQL; new ones are let through.
    CutNode(usize),
    /// The network between a node and PostgreSQL is silent, longer than a lease.
    StallNode(usize),
    /// The network forgets a node's connections to PostgreSQL, and tells nobody; new ones are let through.
    ForgetNode(usize),
    /// The network between all nodes and PostgreSQL is silent for a while.
    StallAll,
}

/// Faults that are there together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) faults: Vec<Fault>,
    /// How long they last.
    pub(super) lasting: Duration,
    /// How long it is quiet afterwards.
    pub(super) quiet: Duration,
}

/// How many steps there are to each long quiet.
const STEPS_TO_REST: usize = 4;

/// Steps without end: every kind once, then again in another order.
pub(super) fn steps(mut chance: Chance, nodes: usize) -> impl Iterator<Item = Step> {
    let mut round = Vec::new();
    let mut numbers = 1..;
    std::iter::from_fn(move || {
        if round.is_empty() {
            round = kinds(&mut chance, nodes);
            chance.shuffle(&mut round);
        }
        let first = round.pop()?;
        let mut faults = vec![first];
        // Sometimes two at once.
        if chance.percent(25)
            && let Some(second) = round.pop()
        {
            faults.push(second);
        }
        let lasting = faults.iter().map(|fault| lasting(*fault, &mut chance)).max()?;
        // Now and then long enough for what happens then to have no fault to be explained by.
        let quiet = match numbers.next()? % STEPS_TO_REST {
            0 => chance.millis(12_000, 16_000),
            _ => chance.millis(1_500, 4_000),
        };
        Some(Step { faults, lasting, quiet })
    })
}

fn kinds(chance: &mut Chance, nodes: usize) -> Vec<Fault> {
    let mut node = || chance.below(nodes);
    vec![
        Fault::KillNode(node()),
        Fault::KillNode(node()),
        Fault::StopNode(node()),
        Fault::RestartNode(node()),
        Fault::RestartDatabase,
        Fault::CrashDatabase,
        Fault::KillDatabase,
        Fault::RefuseConnections,
        Fault::EndSomeConnections,
        Fault::CutNode(node()),
        Fault::StallNode(node()),
        Fault::StallAll,
        Fault::ForgetNode(node()),
    ]
}

fn lasting(fault: Fault, chance: &mut Chance) -> Duration {
    match fault {
        Fault::StopNode(_) | Fault::StallNode(_) => LEASE + chance.millis(1_500, 3_500),
        Fault::KillNode(_) | Fault::RestartNode(_) => chance.millis(100, 3_000),
        Fault::RefuseConnections | Fault::StallAll => chance.millis(1_500, 7_000),
        Fault::RestartDatabase | Fault::CrashDatabase | Fault::KillDatabase => chance.millis(100, 2_000),
        Fault::EndSomeConnections | Fault::CutNode(_) | Fault::ForgetNode(_) => chance.millis(100, 500),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_plan_and_another_seed_another() {
        let plan = |seed| steps(Chance::seeded(seed), 3).take(30).collect::<Vec<_>>();
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
    }

    #[test]
    fn every_kind_of_fault_comes_in_the_first_round() {
        let faults: Vec<_> = steps(Chance::seeded(7), 1).take(13).flat_map(|step| step.faults).collect();
        for kind in kinds(&mut Chance::seeded(0), 1) {
            assert!(faults.contains(&kind), "{kind:?}");
        }
    }
}
