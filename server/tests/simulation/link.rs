//! A node's way to the database, on which things can go wrong.

use std::{collections::HashSet, sync::Arc, time::Duration};

use postrider_server::{
    dispatch::{Ask, Claimed, Overdue, Queue, QueueError, Settled, Settling, Trouble},
    domain::{
        breaker::HealthChange,
        catalogue::CataloguedType,
        id::{SubscriptionUid, TenantId},
        timestamp::Timestamp,
    },
    publish::{Batch, Commit, Interests, Journal, JournalError},
};

use crate::{
    faults::{Call, Fault, Harm},
    gate::Gate,
    world::{State, World},
};

/// One node's way; its attempts go out on it as well ([`sends`](crate::sends)). Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) world: Arc<World>,
    pub(crate) node: usize,
    pub(crate) gate: Arc<Gate>,
}

/// A call that came to nothing, as far as the node knows.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the database is away")]
    Unavailable,
    #[error("the database refuses")]
    Broken,
}

impl Link {
    pub(crate) async fn while_it_runs(&self) {
        self.gate.pass().await;
    }

    /// One transaction, unless something happens.
    async fn call<T>(&self, call: Call, transaction: impl FnOnce(&mut State) -> T) -> Result<T, Failed> {
        let was_frozen = self.gate.pass().await;
        let harm = self.harm(call);
        let answer = self.harmed(harm.as_ref(), transaction).await;
        let is_frozen = self.gate.pass().await;
        let mut state = self.world.state();
        if harm.is_some() {
            state.troubled.extract_if(.., |node| *node == self.node).next();
        }
        if was_frozen || is_frozen || harm.is_some() {
            state.excuse(self.node);
        }
        answer
    }

    async fn harmed<T>(
        &self,
        harm: Option<&Harm>,
        transaction: impl FnOnce(&mut State) -> T,
    ) -> Result<T, Failed> {
        match harm {
            Some(Harm::Unavailable) => return Err(Failed::Unavailable),
            Some(Harm::Broken) => return Err(Failed::Broken),
            Some(Harm::Late(span)) => self.wait(*span).await,
            Some(Harm::AnswerLost | Harm::LateAnswer(_)) | None => {}
        }
        // Two transactions are not at one time.
        self.world.clock.advance(Duration::from_micros(1));
        let answer = transaction(&mut self.world.state());
        match harm {
            Some(Harm::AnswerLost) => return Err(Failed::Unavailable),
            Some(Harm::LateAnswer(span)) => self.wait(*span).await,
            Some(Harm::Unavailable | Harm::Broken | Harm::Late(_)) | None => {}
        }
        Ok(answer)
    }

    async fn wait(&self, span: Duration) {
        tokio::time::sleep(span).await;
        self.while_it_runs().await;
    }

    fn harm(&self, call: Call) -> Option<Harm> {
        let mut state = self.world.state();
        let is_meant = |fault: &mut Fault| fault.node == self.node && fault.call == call;
        let harm = state.faults.extract_if(.., is_meant).next()?.harm;
        state.excuse(self.node);
        state.troubled.push(self.node);
        if (call, &harm) == (Call::Settle, &Harm::Broken) {
            state.refused.insert(self.node);
        }
        state.say(self.world.now(), format_args!("n{} {call:?}: {harm:?}", self.node));
        Some(harm)
    }
}

impl Queue for Link {
    async fn claim(&self, ask: &Ask) -> Result<Claimed, QueueError> {
        let claimed = self.call(Call::Claim, |state| state.claim(self, ask)).await?;
        Ok(claimed)
    }

    async fn trouble(&self, now: Timestamp) -> Result<Trouble, QueueError> {
        let trouble = self.call(Call::Trouble, |state| state.database.trouble(now)).await?;
        self.learn(&trouble.blocked);
        Ok(trouble)
    }

    async fn settle(&self, batch: &[Settled]) -> Result<Settling, QueueError> {
        let settling = self.call(Call::Settle, |state| state.settle(self, batch)).await?;
        for settled in batch.iter().filter(|settled| settling.breakers_turned.contains(&settled.target.uid)) {
            if let Some(HealthChange::Open { .. }) = settled.health {
                let mut state = self.world.state();
                let subscription = state.database.subscription_of(settled.target.uid);
                state.known_blocked.insert((self.node, subscription), self.world.now());
            }
        }
        Ok(settling)
    }

    async fn overdue(&self, ask: &Ask) -> Result<Option<Overdue>, QueueError> {
        Ok(self.world.state().database.overdue(ask))
    }

    async fn hint(&self) -> Result<(), QueueError> {
        self.world.state().hints.push(self.node);
        Ok(())
    }
}

impl Journal for Link {
    async fn catalogue(&self) -> Result<(i64, Vec<CataloguedType>), JournalError> {
        Ok((0, Vec::new()))
    }

    async fn interests(&self, tenant: &TenantId) -> Result<Interests, JournalError> {
        Ok(self.call(Call::Interests, |state| state.database.interests(tenant)).await?)
    }

    fn commits_at_once(&self) -> usize {
        2
    }

    async fn commit(&self, batch: &Batch) -> Result<Commit, JournalError> {
        Ok(self.call(Call::Commit, |state| state.commit(self, batch)).await?)
    }
}

impl Link {
    /// The node is told who is blocked.
    fn learn(&self, blocked: &HashSet<SubscriptionUid>) {
        let (now, mut state) = (self.world.now(), self.world.state());
        let State { database, known_blocked, .. } = &mut *state;
        let is_blocked = |subscription: usize| blocked.contains(&database.subscriptions[subscription].uid);
        known_blocked.retain(|(node, subscription), _| *node != self.node || is_blocked(*subscription));
        for uid in blocked {
            known_blocked.entry((self.node, database.subscription_of(*uid))).or_insert(now);
        }
    }
}

impl From<Failed> for QueueError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unavailable => Self::Unavailable(failed.into()),
            Failed::Broken => Self::Broken(failed.into()),
        }
    }
}

impl From<Failed> for JournalError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unavailable => Self::Unavailable(failed.into()),
            Failed::Broken => Self::Broken(failed.into()),
        }
    }
}
