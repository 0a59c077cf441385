//! What can happen to a node's call to the database.

use std::time::Duration;

use crate::chance::Chance;

/// The calls that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Trouble,
    Claim,
    Commit,
    Interests,
    Settle,
}

/// What happens to one call of this kind, the next one of the node.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) node: usize,
    pub(crate) call: Call,
    pub(crate) harm: Harm,
}

/// What happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Harm {
    /// The database is away before anything is done.
    Unavailable,
    /// The database refuses it for a reason that does not pass.
    Broken,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// It takes long until it is done.
    Late(Duration),
    /// It is done, and the answer takes long.
    LateAnswer(Duration),
}

impl Fault {
    /// What happens to the next calls of one kind, one after another.
    pub(crate) fn draw(chance: &mut Chance, node: usize) -> Vec<Self> {
        let calls = [Call::Trouble, Call::Claim, Call::Commit, Call::Interests, Call::Settle, Call::Settle];
        let call = chance.one_of(&calls);
        (0..chance.from(1..=3)).map(|_| Self { node, call, harm: Harm::draw(chance) }).collect()
    }
}

impl Harm {
    fn draw(chance: &mut Chance) -> Self {
        let span =
            chance.about(&[Duration::from_millis(50), Duration::from_secs(3), Duration::from_secs(30)]);
        let often = Self::AnswerLost;
        let harms =
            [Self::Unavailable, Self::Broken, often.clone(), often, Self::Late(span), Self::LateAnswer(span)];
        chance.one_of(&harms)
    }
}
