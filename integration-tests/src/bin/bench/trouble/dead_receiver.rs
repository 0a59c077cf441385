//! A receiver that is gone while deliveries wait for it, and then comes back.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, ValueEnum};
use tokio::net::TcpSocket;

use super::{drain::Drain, healthy::Healthy, waiting::Waiting};
use crate::{
    Failure, clock,
    options::{Common, seconds},
    receiver::{Behaviour, Receiver},
    report::Report,
    stage::Stage,
    throughput::{added, memory},
    usage,
};

const DEAD: &str = "dead";

/// How it is to be.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Deliveries that wait for the dead receiver.
    #[arg(long, default_value = "100000")]
    waiting: u64,
    /// How it is dead.
    #[arg(long, value_enum, default_value = "refuse")]
    mode: Mode,
    /// The healthy subscription is the same tenant's.
    #[arg(long)]
    same_tenant: bool,
    /// Events in a second for the healthy subscription.
    #[arg(long, default_value = "200")]
    rate: f64,
    /// How long the receiver is watched after it came back.
    #[arg(long, default_value = "60", value_parser = seconds)]
    drain: Duration,
    /// How long it takes for each request after it came back.
    #[arg(long, default_value = "0.01", value_parser = seconds)]
    recovery: Duration,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    /// It refuses connections.
    Refuse,
    /// It takes requests and does not answer.
    Hang,
}

/// The receiver while it is dead.
enum Dead {
    /// The port is taken, so that nobody else takes it, but nobody listens.
    Refusing(TcpSocket, SocketAddr),
    Hanging(Box<Receiver>),
}

/// Runs it.
pub(crate) async fn run(how: &Options, options: &Common, report: &mut Report) -> Result<(), Failure> {
    let stage = Stage::set(options, &[]).await?;
    let measured = measure(how, &stage, report).await;
    measured.and(stage.strike().await)
}

async fn measure(how: &Options, stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let time = stage.options.seconds;
    let dead = Dead::start(how.mode).await?;
    let healthy = Healthy::begin("healthy", how.rate, stage).await?;
    let tenant = if how.same_tenant { healthy.name } else { DEAD };

    let without = healthy.measure(stage, time).await?;
    without.tell("without", report);

    let waiting = Waiting::build(stage, tenant, DEAD, dead.url(), how.waiting).await?;
    let pid = stage.server.pid();
    let section = report.section("backlog");
    waiting.tell(section);
    section.mebibytes("server_memory_mib", usage::memory(pid));
    section.mebibytes("server_memory_peak_mib", usage::peak_memory(pid));
    let paused = healthy.measure(stage, time).await?;
    paused.tell("with the backlog, paused", report);

    section_of_resuming(report, stage.resume(tenant, DEAD).await?);
    let counted = stage.server.counters().await?;
    let with = healthy.measure(stage, time).await?;
    with.tell("with the dead receiver", report);
    let section = report.section("attempts while it was dead");
    for (name, count) in added(&counted, &stage.server.counters().await?) {
        section.number(&name, count);
    }
    section.mebibytes("server_memory_peak_mib", usage::peak_memory(pid));

    let back_at = clock::now();
    let back = dead.come_back(waiting.first, how.recovery).await?;
    let drain = Drain { receiver: &back, group: DEAD, count: waiting.count, back_at, limit: how.drain };
    let meanwhile = async {
        drain.begun().await?;
        healthy.measure(stage, time).await
    };
    let (drained, meanwhile) = tokio::join!(drain.watch(), meanwhile);
    drained?.tell(report);
    let meanwhile = meanwhile?;
    meanwhile.tell("while the receiver catches up", report);

    paused.compare(&without, "paused backlog to without", report);
    with.compare(&without, "dead receiver to without", report);
    meanwhile.compare(&without, "catching up to without", report);
    memory(report, stage);
    Ok(())
}

fn section_of_resuming(report: &mut Report, seconds: f64) {
    report.section("resuming").number("seconds_of_the_call", seconds);
}

impl Dead {
    async fn start(mode: Mode) -> Result<Self, Failure> {
        let anywhere: SocketAddr = "127.0.0.1:0".parse()?;
        match mode {
            Mode::Refuse => {
                let socket = TcpSocket::new_v4()?;
                socket.bind(anywhere)?;
                let address = socket.local_addr()?;
                Ok(Self::Refusing(socket, address))
            }
            Mode::Hang => {
                let receiver = Receiver::start(anywhere).await?;
                receiver.behave(DEAD, Behaviour::Hang).await?;
                Ok(Self::Hanging(Box::new(receiver)))
            }
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Refusing(_, address) => format!("http://{address}/hook/{DEAD}/0"),
            Self::Hanging(receiver) => receiver.url(DEAD, 0),
        }
    }

    /// It counts from now on.
    async fn come_back(self, first: u64, pause: Duration) -> Result<Receiver, Failure> {
        let receiver = match self {
            Self::Refusing(socket, address) => {
                drop(socket);
                Receiver::start(address).await?
            }
            Self::Hanging(receiver) => *receiver,
        };
        receiver.reset(DEAD, first).await?;
        receiver.behave(DEAD, Behaviour::AnswerAfter(pause)).await?;
        Ok(receiver)
    }
}
