//! The command line.

use std::{error::Error, path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Args, Parser, Subcommand};
use postrider_server::{
    app::{App, World, keyring, make_data_folder},
    clock::{SharedClock, SkewedClock, SystemClock},
    config::{self, Config},
    grpc::auth::{KeyHash, draw_token},
    shutdown::Shutdown,
    store::{self, Store, reseal::Resealed},
    telemetry,
    threads::half_of_processors,
};

mod check_target;
mod demo;
mod event_types;

/// Delivers events as signed webhooks.
#[derive(Debug, Parser)]
#[command(name = "postrider", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service: gRPC on 127.0.0.1:50051, health and metrics on 127.0.0.1:50052, SQLite in ./data.
    Serve(Settings),
    /// Bring the database's schema up to date, and end. `serve` does so by itself.
    Migrate(Settings),
    /// Check the configuration, and end.
    CheckConfig(Settings),
    /// See whether a target can be reached as deliveries would be sent to it, and why not. Nothing is stored or sent but `HEAD`.
    CheckTarget(check_target::Options),
    /// Make a token for callers, and the hash of it that goes into `auth.key_hashes`.
    Key,
    /// Look after what is encrypted in the database: signing secrets, and settings of subscriptions.
    #[command(subcommand)]
    Secrets(Secrets),
    /// Import the catalogue of event types from a directory of JSON Schema files, or export it.
    #[command(subcommand)]
    EventTypes(event_types::Command),
    /// Show what Postrider does: a server, a receiver and some events on this machine, for a few seconds.
    Demo(demo::Options),
}

#[derive(Debug, Subcommand)]
enum Secrets {
    /// Encrypt all of them with the first of `secrets.keys`, so that the other keys can be removed. Nodes may run meanwhile, with
    /// that key first.
    Reseal(Settings),
}

#[derive(Debug, Args)]
struct Settings {
    /// The configuration file (TOML). Environment variables `POSTRIDER_<SECTION>_<KEY>` win over it.
    #[arg(long, env = "POSTRIDER_CONFIG")]
    config: Option<PathBuf>,
    /// The folder for the embedded database and the key file; `data.dir` of the configuration.
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

impl Settings {
    #[expect(clippy::disallowed_methods, reason = "the environment is read here, for `config::load`")]
    fn load(self) -> Result<Config, config::Error> {
        // A variable that is not UTF-8 is none of ours.
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        config::load(self.config.as_deref(), variables, |config| {
            if let Some(dir) = self.data_dir {
                config.data.dir = dir;
            }
        })
    }
}

/// Runs the command and says in one line what went wrong.
pub(crate) fn main() -> ExitCode {
    let command = Cli::parse().command;
    let ended = tokio::runtime::Builder::new_multi_thread()
        // For everything but calls and attempts.
        .worker_threads(half_of_processors())
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(command)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postrider: {}", in_one_line(&*error));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "what these commands are for")]
async fn run(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Serve(settings) => serve(settings.load()?).await,
        Command::Migrate(settings) => {
            let config = settings.load()?;
            make_data_folder(&config.data.dir)?;
            store::migrate(&config.database, &config.data.dir).await?;
            println!("the schema is up to date");
            Ok(())
        }
        Command::CheckConfig(settings) => {
            settings.load()?;
            println!("the configuration is valid");
            Ok(())
        }
        Command::CheckTarget(options) => check_target::run(options).await,
        Command::Key => {
            let token = draw_token();
            println!("token: {token}\nhash:  {}", KeyHash::of(&token));
            Ok(())
        }
        Command::Secrets(Secrets::Reseal(settings)) => {
            let Resealed { secrets, settings, retired } = reseal(settings.load()?).await?;
            println!("signing secrets encrypted anew: {secrets}");
            println!("settings of subscriptions encrypted anew: {settings}");
            for key in &retired {
                println!("key retired: {key}");
            }
            println!("nothing needs any key but the first of `secrets.keys`; the others can be removed");
            Ok(())
        }
        Command::EventTypes(command) => event_types::run(command).await,
        Command::Demo(options) => demo::run(options).await,
    }
}

#[expect(clippy::print_stderr, reason = "for the person who started it, beside the log")]
async fn serve(config: Config) -> Result<(), Box<dyn Error>> {
    let telemetry = telemetry::init(&config.log)?;
    let shutdown = Shutdown::default();
    let signals = shutdown.clone().follow_signals(config.shutdown.grace);
    let world = World::bind(&config, clock()?).await?;
    let (grpc, http) = (world.grpc.local_addr()?, world.http.local_addr()?);
    let running = App::build(config, world).await?.start().await?;
    tracing::info!(grpc.address = %grpc, http.address = %http, "Postrider takes calls");
    let ended = tokio::select! {
        ended = running.until(shutdown) => ended,
        failed = never(signals) => return Err(failed.into()),
    };
    // Flushing blocks until the collector has answered.
    if let Err(cause) = tokio::task::spawn_blocking(move || telemetry.flush()).await {
        eprintln!("postrider: the last spans could not be exported: {cause}");
    }
    Ok(ended?)
}

async fn reseal(config: Config) -> Result<Resealed, Box<dyn Error>> {
    let (keyring, now) = (keyring(&config)?, clock()?.now());
    let store = Store::open(&config.database, &config.data.dir, keyring, now).await?;
    let now = store.time().await?.unwrap_or(now);
    let resealed = store.reseal(now).await?;
    store.close().await;
    Ok(resealed)
}

/// The machine's clock. For fault tests, which cannot set that, `POSTRIDER_TEST_CLOCK_OFFSET` puts it off by some seconds.
#[expect(clippy::disallowed_methods, reason = "not configuration: nobody who runs a service wants it")]
fn clock() -> Result<SharedClock, Box<dyn Error>> {
    let machine: SharedClock = Arc::new(SystemClock);
    match std::env::var("POSTRIDER_TEST_CLOCK_OFFSET") {
        Err(_) => Ok(machine),
        Ok(seconds) => {
            let seconds =
                seconds.parse().map_err(|_| "POSTRIDER_TEST_CLOCK_OFFSET is not a number of seconds")?;
            tracing::warn!(seconds, "the clock of this node is off, as a test wants it");
            Ok(Arc::new(SkewedClock { clock: machine, seconds }))
        }
    }
}

/// Ends only with an error: when the signals have been followed to their end, somebody else ends.
async fn never(signals: impl Future<Output = std::io::Result<()>>) -> std::io::Error {
    match signals.await {
        Ok(()) => std::future::pending().await,
        Err(error) => error,
    }
}

/// An error with its causes, which say what the error itself leaves out.
fn in_one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        source = cause.source();
    }
    line
}
