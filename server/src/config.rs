//! All configuration: collected from the components that it belongs to, read from a file and the environment, checked as a whole.
//!
//! Later ones win: defaults, the TOML file, variables `POSTRIDER_<SECTION>_<KEY>`, flags. `config.example.toml` shows every key.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use config::{Environment, File, FileFormat};
use humantime_serde::Serde;
use serde::{Deserialize, Serialize};

use crate::{
    dispatch,
    domain::{
        breaker::BreakerPolicy,
        catalogue::UnknownTypes,
        failing::{DEFAULT_DISABLE_AFTER, Disable, FailurePolicy},
        invalid::Invalid,
        retry::{DEFAULT_SCHEDULE, Pauses, RetryPolicy},
    },
    grpc, http, sender, shutdown,
    store::{self, keyring::EncryptionKey},
    telemetry,
};

/// What all our variables begin with.
const PREFIX: &str = "POSTRIDER_";
/// Variables of the command line, not of the configuration.
const NOT_OURS: [&str; 2] = ["POSTRIDER_CONFIG", "POSTRIDER_TEST_CLOCK_OFFSET"];
/// Kubernetes sets `POSTRIDER_SERVICE_HOST`, `POSTRIDER_PORT_50051_TCP` and the like where there is a Service of that name.
const KUBERNETES: [&str; 2] = ["service", "port"];
/// Keys that hold lists; in a variable their items are separated by commas.
const LISTS: [&str; 6] = [
    "auth.key_hashes",
    "grpc.web_origins",
    "retry.schedule",
    "secrets.keys",
    "sender.allowed_networks",
    "sender.no_proxy",
];

/// The configuration of one server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Files of the server itself.
    pub data: Data,
    /// The database.
    pub database: store::Config,
    /// The gRPC port.
    pub grpc: grpc::Config,
    /// The HTTP port.
    pub http: http::Config,
    /// Events.
    pub events: Events,
    /// Who may call.
    pub auth: grpc::auth::Config,
    /// Signing secrets.
    pub secrets: Secrets,
    /// How attempts are made.
    pub sender: sender::Config,
    /// How deliveries are taken over.
    pub dispatch: dispatch::Config,
    /// When attempts are repeated.
    pub retry: Retry,
    /// When receivers that fail are left alone.
    pub breaker: Breaker,
    /// When receivers that fail for days are given up.
    pub failing: Failing,
    /// How long things are kept.
    pub retention: store::Retention,
    /// Logs.
    pub log: telemetry::Config,
    /// How the server stops.
    pub shutdown: shutdown::Config,
}

/// Files of the server itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// The folder for the embedded database and the key file.
    pub dir: PathBuf,
}

impl Default for Data {
    fn default() -> Self {
        Self { dir: "data".into() }
    }
}

/// Events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// What happens to events whose types are not in the catalogue.
    pub unknown_types: UnknownTypes,
}

/// Signing secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Secrets {
    /// Keys that secrets are encrypted with in the database: the first encrypts, all decrypt. Empty: a key
    /// file in `data.dir`, made at first start.
    pub keys: Vec<EncryptionKey>,
    /// How long a replaced signing secret goes on signing.
    #[serde(with = "humantime_serde")]
    pub rotation_overlap: Duration,
}

impl Default for Secrets {
    fn default() -> Self {
        Self { keys: Vec::new(), rotation_overlap: Duration::from_hours(24) }
    }
}

/// When attempts are repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// The pauses after the first attempt, the second, …: one attempt more than there are pauses.
    pub schedule: Vec<Serde<Duration>>,
    /// Each pause is longer or shorter by up to this part of itself.
    pub jitter: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            schedule: DEFAULT_SCHEDULE.into_iter().map(Serde::from).collect(),
            jitter: RetryPolicy::default().jitter,
        }
    }
}

impl Retry {
    fn validate(&self) -> Result<(), Invalid> {
        if self.schedule.len() > 100 {
            return Err(Invalid::new("retry.schedule", "must not have more than 100 pauses"));
        }
        if self.schedule.iter().any(|pause| pause.into_inner() > Duration::from_hours(30 * 24)) {
            return Err(Invalid::new("retry.schedule", "must not hold a pause longer than 30 days"));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(Invalid::new("retry.jitter", "must be from 0 to 1"));
        }
        Ok(())
    }

    /// As the domain knows it.
    #[must_use]
    pub fn policy(&self) -> RetryPolicy {
        RetryPolicy {
            pauses: Pauses::Listed(self.schedule.iter().map(|pause| pause.into_inner()).collect()),
            jitter: self.jitter,
            max_age: None,
        }
    }
}

/// When receivers that fail are left alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// A subscription is blocked after so many failures in a row,
    pub consecutive_failures: u32,
    /// or when at least this part of its attempts fail,
    pub failure_rate: f64,
    /// of which there are at least so many
    pub min_attempts: u32,
    /// within this time.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// How long it is blocked before a probe is sent.
    #[serde(with = "humantime_serde")]
    pub first_pause: Duration,
    /// Each probe that fails doubles the pause, up to this.
    #[serde(with = "humantime_serde")]
    pub max_pause: Duration,
    /// Each pause is longer or shorter by up to this part of itself.
    pub jitter: f64,
}

impl Default for Breaker {
    fn default() -> Self {
        let policy = BreakerPolicy::default();
        Self {
            consecutive_failures: policy.consecutive_failures,
            failure_rate: policy.failure_rate,
            min_attempts: policy.min_attempts,
            window: policy.window,
            first_pause: policy.first_pause,
            max_pause: policy.max_pause,
            jitter: policy.jitter,
        }
    }
}

impl Breaker {
    fn validate(&self) -> Result<(), Invalid> {
        let counts = [
            ("breaker.consecutive_failures", self.consecutive_failures),
            ("breaker.min_attempts", self.min_attempts),
        ];
        if let Some((field, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(Invalid::new(field, "must be at least 1"));
        }
        if !(self.failure_rate > 0.0 && self.failure_rate <= 1.0) {
            return Err(Invalid::new("breaker.failure_rate", "must be more than 0 and at most 1"));
        }
        if !(Duration::from_secs(1)..=Duration::from_hours(1)).contains(&self.window) {
            return Err(Invalid::new("breaker.window", "must be from 1s to 1h"));
        }
        if !(Duration::from_millis(100)..=Duration::from_hours(24)).contains(&self.max_pause) {
            return Err(Invalid::new("breaker.max_pause", "must be from 100ms to 1 day"));
        }
        if !(Duration::from_millis(100)..=self.max_pause).contains(&self.first_pause) {
            return Err(Invalid::new("breaker.first_pause", "must be from 100ms to `breaker.max_pause`"));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(Invalid::new("breaker.jitter", "must be from 0 to 1"));
        }
        Ok(())
    }

    /// As the domain knows it.
    #[must_use]
    pub fn policy(&self) -> BreakerPolicy {
        BreakerPolicy {
            consecutive_failures: self.consecutive_failures,
            failure_rate: self.failure_rate,
            min_attempts: self.min_attempts,
            window: self.window,
            first_pause: self.first_pause,
            max_pause: self.max_pause,
            jitter: self.jitter,
        }
    }
}

/// When receivers that fail for days are given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Failing {
    /// A subscription whose owner says nothing is disabled after nothing but failure for so long; never if it is 0.
    #[serde(with = "humantime_serde")]
    pub disable_after: Duration,
}

impl Default for Failing {
    fn default() -> Self {
        Self { disable_after: DEFAULT_DISABLE_AFTER }
    }
}

impl Failing {
    fn validate(&self) -> Result<(), Invalid> {
        if self.disable_after.is_zero() || FailurePolicy::parse_disable_after(self.disable_after).is_ok() {
            return Ok(());
        }
        Err(Invalid::new("failing.disable_after", "must be from 1h to 90 days, or 0s for never"))
    }

    /// As the domain knows it.
    #[must_use]
    pub fn policy(&self) -> Disable {
        if self.disable_after.is_zero() { Disable::Never } else { Disable::After(self.disable_after) }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a variable cannot be read, or has an unknown key.
    #[error("the configuration cannot be read: {}", without_excerpt(.0))]
    Unreadable(#[from] config::ConfigError),
    /// A value may not be.
    #[error("the configuration is invalid: {0}")]
    Invalid(#[from] Invalid),
}

/// What is wrong, without the line of the file in which it is: that may hold a key or a password.
fn without_excerpt(error: &config::ConfigError) -> String {
    let text = error.to_string();
    let is_excerpt = |line: &&str| {
        line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|')
    };
    text.lines().filter(|line| !is_excerpt(line)).collect::<Vec<_>>().join(" ")
}

/// Reads the configuration from a file, if one is named, and from environment variables, and checks it.
///
/// `adjust` has the last word before the check, for flags.
pub fn load(
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
    adjust: impl FnOnce(&mut Config),
) -> Result<Config, Error> {
    let mut builder = config::Config::builder();
    if let Some(file) = file {
        builder = builder.add_source(File::from(file).format(FileFormat::Toml));
    }
    let mut environment =
        Environment::default().source(Some(keys(variables))).try_parsing(true).list_separator(",");
    for list in LISTS {
        environment = environment.with_list_parse_key(list);
    }
    let mut config: Config = builder.add_source(environment).build()?.try_deserialize()?;
    adjust(&mut config);
    config.validate()?;
    Ok(config)
}

/// `POSTRIDER_DATABASE_MAX_CONNECTIONS` is `database.max_connections`: the first word is the section.
fn keys(variables: impl Iterator<Item = (String, String)>) -> HashMap<String, String> {
    variables
        .filter(|(name, value)| !NOT_OURS.contains(&name.as_str()) && !value.is_empty())
        .filter_map(|(name, value)| {
            let key = name.strip_prefix(PREFIX)?.to_ascii_lowercase().replacen('_', ".", 1);
            let section = key.split('.').next()?;
            let items = || value.split(',').map(str::trim).collect::<Vec<_>>().join(",");
            let value = if LISTS.contains(&key.as_str()) { items() } else { value.clone() };
            (!KUBERNETES.contains(&section)).then_some((key, value))
        })
        .collect()
}

impl Config {
    /// The longest timeout that a subscription can have: as configured, if the lease leaves room for that.
    #[must_use]
    pub fn max_timeout(&self) -> Duration {
        self.sender.max_timeout.min(self.dispatch.longest_attempt()).max(self.sender.timeout)
    }

    /// Checks every component, and what must be true between them.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.database.validate()?;
        self.grpc.validate()?;
        self.sender.validate()?;
        self.dispatch.validate(self.sender.timeout)?;
        self.retry.validate()?;
        self.breaker.validate()?;
        self.failing.validate()?;
        self.retention.validate()?;
        self.log.validate()?;
        self.shutdown.validate()?;
        if self.secrets.rotation_overlap > Duration::from_hours(30 * 24) {
            return Err(Invalid::new("secrets.rotation_overlap", "must not be longer than 30 days"));
        }
        let open_to_all = self.auth.key_hashes.is_empty();
        for (field, listen) in [("grpc.listen", self.grpc.listen), ("http.listen", self.http.listen)] {
            if open_to_all && !listen.ip().is_loopback() {
                let reason = format!(
                    "is {listen}, which others can reach, but no keys are configured: make one with `postrider key` and \
                     add its hash to `auth.key_hashes`, or listen on 127.0.0.1"
                );
                return Err(Invalid::new(field, reason));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_variables(variables: &[(&str, &str)]) -> Result<Config, Error> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        load(None, variables, |_| {})
    }

    fn from_file(text: &str) -> Result<Config, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postrider.toml");
        std::fs::write(&path, text).unwrap();
        load(Some(&path), std::iter::empty(), |_| {})
    }

    #[test]
    fn the_longest_timeout_fits_into_the_lease_and_is_no_shorter_than_the_usual_one() {
        let longest = |text: &str| toml::from_str::<Config>(text).unwrap().max_timeout();
        assert_eq!(longest(""), Duration::from_secs(30));
        assert_eq!(longest("[dispatch]\nlease = \"22s\""), Duration::from_secs(17));
        assert_eq!(longest("[sender]\ntimeout = \"40s\""), Duration::from_secs(40));
    }

    #[test]
    fn nothing_at_all_is_a_configuration() {
        assert_eq!(from_variables(&[]).unwrap(), Config::default());
    }

    #[test]
    fn the_example_shows_every_key_with_its_default() {
        let text = include_str!("../config.example.toml");
        assert_eq!(from_file(text).unwrap(), Config::default());
        let example: toml::Table = text.parse().unwrap();
        let defaults = toml::Table::try_from(Config::default()).unwrap();
        let keys = |table: &toml::Table| {
            let section = |(name, section): (&String, &toml::Value)| {
                let keys: Vec<_> = section.as_table().unwrap().keys().cloned().collect();
                (name.clone(), keys)
            };
            table.iter().map(section).collect::<Vec<_>>()
        };
        assert_eq!(keys(&example), keys(&defaults));
    }

    #[test]
    fn variables_name_section_and_key() {
        let config = from_variables(&[
            ("POSTRIDER_DATABASE_URL", "postgres://localhost/postrider"),
            ("POSTRIDER_DATABASE_MAX_CONNECTIONS", "7"),
            ("POSTRIDER_SENDER_ALLOW_HTTP", "true"),
            ("POSTRIDER_SENDER_ALLOWED_NETWORKS", "127.0.0.0/8, 10.0.0.0/8"),
            ("POSTRIDER_RETRY_SCHEDULE", "1s"),
            ("POSTRIDER_DISPATCH_LEASE", "2m"),
            ("POSTRIDER_LOG_FILTER", ""),
            ("POSTRIDER_CONFIG", "elsewhere.toml"),
            ("POSTRIDER_PORT", "tcp://10.0.0.1:50051"),
            ("POSTRIDER_PORT_50051_TCP_ADDR", "10.0.0.1"),
            ("POSTRIDER_SERVICE_HOST", "10.0.0.1"),
            ("HOME", "/"),
        ])
        .unwrap();
        assert_eq!(config.database.url, "postgres://localhost/postrider");
        assert_eq!(config.database.max_connections, 7);
        assert!(config.sender.allow_http);
        assert_eq!(config.sender.allowed_networks.len(), 2);
        assert_eq!(config.retry.policy().pauses, Pauses::Listed(vec![Duration::from_secs(1)]));
        assert_eq!(config.dispatch.lease, Duration::from_mins(2));
        assert_eq!(config.log.filter, "info");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |text: &str, named: &str| {
            let error = from_file(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        };
        refused("[sender]\ntimeuot = \"5s\"", "timeuot");
        refused("[sendr]\ntimeout = \"5s\"", "sendr");
        refused("[dispatch]\nlease = \"19s\"", "dispatch.lease");
        refused("[dispatch]\nlease = 20", "dispatch.lease");
        refused("[dispatch]\nmax_in_flight = 0", "dispatch.max_in_flight");
        refused("[grpc]\nlisten = \"0.0.0.0:50051\"", "grpc.listen");
        refused("[http]\nlisten = \"0.0.0.0:50052\"", "http.listen");
        refused("[grpc]\nweb_origins = [\"*\"]", "grpc.web_origins[0]");
        refused("[grpc]\ntls_key = \"key.pem\"", "grpc.tls_certificate");
        refused("[database]\nurl = \"mysql://localhost\"", "database.url");
        refused("[auth]\nkey_hashes = [\"token\"]", "auth.key_hashes");
        refused("[secrets]\nkeys = [\"short\"]", "secrets.keys");
        refused("[retry]\njitter = 2.0", "retry.jitter");
        refused("[dispatch]\nmax_in_flight_per_tenant = 1025", "dispatch.max_in_flight_per_tenant");
        refused("[breaker]\nconsecutive_failures = 0", "breaker.consecutive_failures");
        refused("[breaker]\nfailure_rate = 1.1", "breaker.failure_rate");
        refused("[breaker]\nmin_attempts = 0", "breaker.min_attempts");
        refused("[breaker]\nwindow = \"0s\"", "breaker.window");
        refused("[breaker]\nfirst_pause = \"6m\"", "breaker.first_pause");
        refused("[breaker]\nmax_pause = \"25h\"", "breaker.max_pause");
        refused("[breaker]\njitter = -0.1", "breaker.jitter");
        refused("[retention]\npayloads = \"100d\"", "retention.payloads");
        refused("[log]\nfilter = \"no such=level\"", "log.filter");
        let error = from_variables(&[("POSTRIDER_SENDER_TIMEUOT", "5s")]).unwrap_err().to_string();
        assert!(error.contains("timeuot"), "{error}");
    }

    #[test]
    fn secrets_are_not_told_by_errors() {
        for text in [
            "[secrets]\nkeys = [\"hunter2\"",
            "[secrets]\nkeys = [\"hunter2\"]",
            "[database]\nurl = \"postgres://u:hunt/er2@h/d\"",
            "[database]\nurl = \"postgres://u:hunter2@h:port/d\"",
            "[sender]\nproxy = \"http://u:hunter2@h:port\"",
        ] {
            let error = from_file(text).unwrap_err().to_string();
            assert!(!error.contains("hunt"), "{error}");
        }
        let config = from_variables(&[
            ("POSTRIDER_DATABASE_URL", "postgres://u:hunter2@h/d"),
            ("POSTRIDER_SENDER_PROXY", "http://u:hunter2@h:3128"),
        ])
        .unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn with_a_key_the_server_may_listen_anywhere() {
        let hash = grpc::auth::KeyHash::of("token");
        let text = format!("[grpc]\nlisten = \"0.0.0.0:50051\"\n[auth]\nkey_hashes = [\"{hash}\"]");
        assert!(from_file(&text).is_ok());
    }
}
