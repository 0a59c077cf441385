//! The benchmark's end of the receiver.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use super::GroupReport;
use crate::{Failure, client, helper::Helper};

const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// How a group answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// At once.
    Answer,
    /// After a pause.
    AnswerAfter(Duration),
    /// Not before it behaves otherwise.
    Hang,
}

/// A receiver in a process of its own.
pub(crate) struct Receiver {
    helper: Helper,
    address: SocketAddr,
    client: reqwest::Client,
}

impl Receiver {
    /// Starts one; port 0 is any port.
    pub(crate) async fn start(listen: SocketAddr) -> Result<Self, Failure> {
        let mut helper = Helper::start("receiver", &listen)?;
        let address = helper.says(PATIENCE).await?;
        Ok(Self { helper, address, client: client::new()? })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.helper.pid()
    }

    /// Where a subscription of a group is to be sent to.
    pub(crate) fn url(&self, group: &str, subscription: impl fmt::Display) -> String {
        format!("http://{}/hook/{group}/{subscription}", self.address)
    }

    /// What has arrived since the last reset.
    pub(crate) async fn report(&self, group: &str) -> Result<GroupReport, Failure> {
        Ok(serde_json::from_str(&self.control(&format!("report/{group}")).await?)?)
    }

    /// How many unique deliveries have arrived since the last reset.
    pub(crate) async fn unique(&self, group: &str) -> Result<u64, Failure> {
        Ok(self.control(&format!("unique/{group}")).await?.parse()?)
    }

    /// Counts anew, and only events with this number or a greater one.
    pub(crate) async fn reset(&self, group: &str, from: u64) -> Result<(), Failure> {
        self.control(&format!("reset/{group}/{from}")).await.map(drop)
    }

    /// Changes how a group answers.
    pub(crate) async fn behave(&self, group: &str, behaviour: Behaviour) -> Result<(), Failure> {
        self.control(&format!("behave/{group}/{behaviour}")).await.map(drop)
    }

    /// Waits until that many unique deliveries have arrived, or no more has for `patience`.
    pub(crate) async fn expect(
        &self,
        group: &str,
        count: u64,
        patience: Duration,
    ) -> Result<GroupReport, Failure> {
        let (mut before, mut since) = (0, tokio::time::Instant::now());
        loop {
            let unique = self.unique(group).await?;
            if unique != before {
                (before, since) = (unique, tokio::time::Instant::now());
            }
            if unique >= count || since.elapsed() > patience {
                return self.report(group).await;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn control(&self, what: &str) -> Result<String, Failure> {
        let url = format!("http://{}/control/{what}", self.address);
        Ok(self.client.get(url).send().await?.error_for_status()?.text().await?)
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer => f.write_str("answer"),
            Self::AnswerAfter(pause) => write!(f, "{}", pause.as_millis()),
            Self::Hang => f.write_str("hang"),
        }
    }
}

impl FromStr for Behaviour {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "answer" => Self::Answer,
            "hang" => Self::Hang,
            millis => Self::AnswerAfter(Duration::from_millis(millis.parse()?)),
        })
    }
}
