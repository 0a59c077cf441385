//! One running node: the real publisher, dispatcher and what connects them.

use std::sync::Arc;

use postrider_server::{
    app::Outlet, clock::SharedClock, dispatch::Dispatcher, publish::Publisher, telemetry::metrics::Metrics,
};
use tokio::task::AbortHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{gate::Gate, link::Link, plan::Plan, world::World};

pub(crate) struct Node {
    /// Tells it apart from all that ever ran.
    pub(crate) number: usize,
    pub(crate) dispatcher: Dispatcher<Link, Link>,
    pub(crate) publisher: Publisher,
    gate: Arc<Gate>,
    loops: Vec<AbortHandle>,
}

impl Node {
    pub(crate) fn start(number: usize, world: &Arc<World>, plan: &Plan, tasks: &TaskTracker) -> Self {
        let gate = Arc::new(Gate::default());
        let link = Link { world: Arc::clone(world), node: number, gate: Arc::clone(&gate) };
        let clock: SharedClock = Arc::<postrider_server::clock::ManualClock>::clone(&world.clock);
        let dispatcher = Dispatcher::new(
            plan.config.clone(),
            plan.policy.clone(),
            link.clone(),
            link.clone(),
            Arc::clone(&clock),
            Metrics::default(),
            Arc::default(),
        );
        let outlet = Outlet(dispatcher.clone());
        let (publisher, writer) = Publisher::new(link, outlet, clock, Metrics::default(), Arc::default());
        let (settling, polling) = (dispatcher.clone(), dispatcher.clone());
        // Nodes end with the schedule, or are killed.
        let (stop, stop_too) = (CancellationToken::new(), CancellationToken::new());
        let loops = [
            tasks.spawn(async move { settling.settle().await }),
            tasks.spawn(async move { polling.run(stop).await }),
            tasks.spawn(async move { writer.run(stop_too).await }),
        ];
        let loops = loops.iter().map(tokio::task::JoinHandle::abort_handle).collect();
        Self { number, dispatcher, publisher, gate, loops }
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.gate.is_closed()
    }

    /// Whether any of its loops has come to an end, which none does by itself.
    pub(crate) fn has_lost_a_loop(&self) -> bool {
        self.loops.iter().any(AbortHandle::is_finished)
    }

    /// It is stopped in the midst of whatever it does; what it says reaches nobody, and it hears nothing.
    pub(crate) fn freeze(&self) {
        self.gate.close();
    }

    /// It goes on as if nothing had happened.
    pub(crate) fn thaw(&self) {
        self.gate.open();
    }

    /// All that it knew is gone.
    pub(crate) fn kill(self, world: &World) {
        self.freeze();
        for handle in &self.loops {
            handle.abort();
        }
        let mut state = world.state();
        state.excuse(self.number);
        state.faults.retain(|fault| fault.node != self.number);
        state.troubled.retain(|node| *node != self.number);
        // Nobody waits for these any more.
        for send in state.sends.iter_mut().filter(|send| send.node == self.number) {
            send.answer = None;
        }
    }
}
