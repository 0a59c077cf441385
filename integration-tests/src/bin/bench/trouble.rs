//! Scenarios with trouble: what becomes of a healthy subscription while others are not, in the same run before and during it.

pub(crate) mod backlog;
pub(crate) mod big_fan_out;
pub(crate) mod dead_receiver;
mod drain;
mod healthy;
pub(crate) mod hostile;
pub(crate) mod idle;
pub(crate) mod noisy_tenant;
pub(crate) mod slow_receivers;
mod waiting;

pub(crate) use self::hostile::serve as serve_hostile;
use crate::{
    Failure,
    options::{Common, Scenario},
    report::Report,
};

/// Runs such a scenario.
pub(crate) async fn run(scenario: &Scenario, options: &Common, report: &mut Report) -> Result<(), Failure> {
    match scenario {
        Scenario::DeadReceiver(how) => dead_receiver::run(how, options, report).await,
        Scenario::NoisyTenant(how) => noisy_tenant::run(how, options, report).await,
        Scenario::SlowReceivers(how) => slow_receivers::run(how, options, report).await,
        Scenario::BigFanOut(how) => big_fan_out::run(how, options, report).await,
        Scenario::Hostile(how) => hostile::run(how, options, report).await,
        Scenario::Idle(how) => idle::run(how, options, report).await,
        Scenario::Backlog(how) => backlog::run(how, options, report).await,
        _ => Err("not a scenario of this kind".into()),
    }
}
