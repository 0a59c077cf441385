//! What must be true at the end, whatever broke on the way.
//!
//! 1. Every acknowledged event was delivered to every subscription that wanted it, or ended with a reason that is recorded.
//! 2. What is recorded as delivered was acknowledged by the receiver.
//! 3. The receiver acknowledged a delivery twice only where the first outcome could not be recorded: around a fault, or because the
//!    answer did not reach the node.
//! 4. Nothing is pending past its due time, but for what a breaker keeps from being sent until its next probe.
//! 5. The API's record of attempts agrees with what the receiver saw.
//! 6. Events of one ordering key came one after another, in the order in which they were published; none while a request of the one before was
//!    under way, also if that was cancelled meanwhile.
//! 7. Every node is ready again.
//! 8. Nothing was sent before its time, or after it had expired.
//! 9. What was cancelled ended so, and nothing else did.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use postrider_sdk::model::{DeliveryState, EndReason};

use super::{
    evidence::{Delivery, Evidence, Published, Request, Window},
    receiver::DEAD,
};

/// How long before a fault an outcome may have been on its way to the database.
const BEFORE: Duration = Duration::from_secs(2);
/// How long after a fault outcomes may still be held up by it: the longest pause of the settler, and a timeout.
const AFTER: Duration = Duration::from_secs(7);
/// How late a request may arrive that was begun in time, and how far the clocks may be apart.
const UNDER_WAY: Duration = Duration::from_secs(2);
const BETWEEN_CLOCKS: Duration = Duration::from_millis(100);
/// How many violations of one kind are told.
const TOLD: usize = 5;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What must not be, each in a sentence.
    pub(super) violations: Vec<String>,
    /// Deliveries that were to be made.
    pub(super) expected: usize,
    /// Deliveries that ended without success, with a reason.
    pub(super) ended_otherwise: usize,
    /// Acknowledgements beyond the first, by why they were asked for.
    pub(super) duplicates: Duplicates,
    /// Attempts that were begun and are not recorded.
    pub(super) unrecorded: usize,
    /// Deliveries whose attempts were compared with what the receiver saw.
    pub(super) compared: usize,
    /// Pending, and due later.
    pub(super) pending: usize,
    /// Requests for which no fault would be an excuse.
    pub(super) undisturbed: usize,
}

/// Acknowledgements beyond the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Duplicates {
    /// The outcome before could not be recorded because of a fault.
    pub(super) around_faults: usize,
    /// The answer before did not reach the node in time.
    pub(super) unanswered: usize,
    /// Nothing explains them.
    pub(super) unexplained: usize,
}

/// Judges a run.
pub(super) fn check(evidence: &Evidence) -> Findings {
    let mut judge = Judge::of(evidence);
    for published in &evidence.published {
        judge.delivered(published);
        judge.in_time(published);
    }
    for delivery in &evidence.deliveries {
        judge.pending(delivery);
        judge.recorded(delivery);
    }
    judge.findings.undisturbed =
        evidence.requests.iter().filter(|request| !near(&evidence.faults, request.at)).count();
    judge.known();
    judge.in_order();
    for node in &evidence.not_ready {
        judge.complain("not ready at the end", node.clone());
    }
    judge.findings()
}

/// A delivery, by its subscription and its event.
type Key<'a> = (&'a str, &'a str);

struct Judge<'a> {
    evidence: &'a Evidence,
    requests: HashMap<Key<'a>, Vec<&'a Request>>,
    deliveries: HashMap<Key<'a>, &'a Delivery>,
    /// Those that were to be cancelled, and whether that is certain.
    cancelled: HashMap<Key<'a>, bool>,
    complaints: BTreeMap<&'static str, Vec<String>>,
    findings: Findings,
}

impl<'a> Judge<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let mut requests: HashMap<Key<'_>, Vec<_>> = HashMap::new();
        for request in &evidence.requests {
            requests.entry((&request.subscription, &request.event)).or_default().push(request);
        }
        let deliveries = evidence.deliveries.iter().map(|delivery| (key(delivery), delivery)).collect();
        let mut cancelled: HashMap<Key<'_>, bool> = HashMap::new();
        for one in &evidence.cancelled {
            *cancelled.entry((&one.subscription, &one.event)).or_default() |= one.is_certain;
        }
        let (complaints, findings) = (BTreeMap::new(), Findings::default());
        Self { evidence, requests, deliveries, cancelled, complaints, findings }
    }

    fn complain(&mut self, kind: &'static str, what: String) {
        self.complaints.entry(kind).or_default().push(what);
    }

    fn requests(&self, key: Key<'a>) -> &[&'a Request] {
        self.requests.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Invariants 1 and 2.
    fn delivered(&mut self, published: &'a Published) {
        for subscription in &published.wanted_by {
            self.findings.expected += 1;
            let key = (subscription.as_str(), published.event.as_str());
            let what = format!("{} ({}) for {subscription}", published.event, published.request_id);
            let Some(delivery) = self.deliveries.get(&key) else {
                let kind =
                    if published.read_your_writes { "a write was not read" } else { "no delivery was made" };
                self.complain(kind, what);
                continue;
            };
            let is_cancelled = (delivery.state, delivery.end_reason)
                == (DeliveryState::Cancelled, Some(EndReason::Cancelled));
            if !is_cancelled && self.cancelled.get(&key) == Some(&true) {
                self.complain("was cancelled, and did not end so", what);
                continue;
            }
            let acknowledged = self.requests(key).iter().any(|request| request.acknowledged_at().is_some());
            match (delivery.state, delivery.end_reason) {
                (DeliveryState::Succeeded, _) if !acknowledged => {
                    self.complain("recorded as delivered, and never acknowledged", what);
                }
                (DeliveryState::Succeeded | DeliveryState::Pending, _) => {}
                // Chance alone does not use up a schedule.
                (DeliveryState::Failed, Some(EndReason::Exhausted)) if subscription.contains(DEAD) => {
                    self.findings.ended_otherwise += 1;
                }
                (DeliveryState::Failed, Some(EndReason::Expired)) if published.expire_at.is_some() => {
                    self.findings.ended_otherwise += 1;
                }
                (DeliveryState::Cancelled, Some(EndReason::Cancelled))
                    if self.cancelled.contains_key(&key) =>
                {
                    self.findings.ended_otherwise += 1;
                }
                (state, reason) => {
                    self.complain("ended without a cause", format!("{what}: {state:?}, {reason:?}"));
                }
            }
        }
    }

    /// Invariant 8.
    fn in_time(&mut self, published: &'a Published) {
        for subscription in &published.wanted_by {
            let requests = self.requests((subscription, &published.event));
            let early = published
                .deliver_at
                .is_some_and(|from| requests.iter().any(|request| request.at + BETWEEN_CLOCKS < from));
            let late = published.expire_at.is_some_and(|until| {
                let is_late = |at| at > until + UNDER_WAY && !near(&self.evidence.faults, at);
                requests.iter().any(|request| is_late(request.at))
            });
            let what = format!("{} for {subscription}", published.event);
            if early {
                self.complain("sent before its time", what);
            } else if late {
                self.complain("sent when it had expired", what);
            }
        }
    }

    /// Invariant 4.
    fn pending(&mut self, delivery: &Delivery) {
        if delivery.state == DeliveryState::Pending {
            if delivery.overdue {
                self.complain("pending past its due time", delivery.name.clone());
            } else {
                self.findings.pending += 1;
            }
        }
    }

    /// Invariants 3 and 5.
    fn recorded(&mut self, delivery: &'a Delivery) {
        let seen = self.requests(key(delivery)).to_vec();
        let mut acknowledgements: Vec<_> =
            seen.iter().filter_map(|request| request.acknowledged_at()).collect();
        acknowledgements.sort();
        let attempts = delivery.attempts.unwrap_or_default();
        let mut unanswered = attempts.failed as usize;
        for first in acknowledgements.iter().take(acknowledgements.len().saturating_sub(1)) {
            if near(&self.evidence.faults, *first) {
                self.findings.duplicates.around_faults += 1;
            } else if unanswered > 0 {
                unanswered -= 1;
                self.findings.duplicates.unanswered += 1;
            } else {
                self.findings.duplicates.unexplained += 1;
                let what = format!(
                    "{} for {}, acknowledged at {acknowledgements:?}",
                    delivery.event, delivery.subscription
                );
                self.complain("acknowledged twice without a fault", what);
            }
        }
        let Some(attempts) = delivery.attempts else { return };
        self.findings.compared += 1;
        let what =
            format!("{}: {attempts:?} of {} begun, {} seen", delivery.name, delivery.begun, seen.len());
        // What was about to be sent when it was cancelled was not.
        let unsent = u32::from(delivery.state == DeliveryState::Cancelled);
        if attempts.acknowledged as usize > acknowledgements.len() {
            self.complain("recorded as acknowledged, and not seen", what);
        } else if (attempts.acknowledged + attempts.rejected) as usize > seen.len() {
            self.complain("recorded as answered, and not seen", what);
        } else if seen.len() > delivery.begun as usize {
            self.complain("seen more often than begun", what);
        } else if attempts.recorded() > delivery.begun {
            self.complain("recorded more often than begun", what);
        } else if attempts.recorded() + unsent < delivery.begun && delivery.state != DeliveryState::Pending {
            self.findings.unrecorded += (delivery.begun - unsent - attempts.recorded()) as usize;
            // An attempt that was begun and never sent leaves nothing to judge by.
            if !seen.is_empty() && !seen.iter().any(|request| near(&self.evidence.faults, request.at)) {
                self.complain("not recorded without a fault", what);
            }
        }
    }

    /// The receiver got nothing that nobody published, and everything under the right id.
    fn known(&mut self) {
        let names: HashMap<_, _> = self
            .evidence
            .published
            .iter()
            .map(|published| (published.event.as_str(), published.request_id.as_str()))
            .collect();
        let mut ids: HashMap<&str, &str> = HashMap::new();
        let mut wrong = HashSet::new();
        for published in &self.evidence.published {
            if ids
                .insert(&published.request_id, &published.event)
                .is_some_and(|other| other != published.event)
            {
                wrong.insert(format!("{} is two events", published.request_id));
            }
        }
        for request in &self.evidence.requests {
            if names.get(request.event.as_str()).is_none_or(|name| *name != request.named) {
                wrong.insert(format!("{} came as {}", request.named, request.event));
            }
        }
        for what in wrong {
            self.complain("an event is not what was published", what);
        }
    }

    /// Invariant 6: nothing of an event is sent before the one before it is acknowledged or given up, and nothing of that is under way.
    fn in_order(&mut self) {
        let mut lines: BTreeMap<(&str, &str), Vec<&Published>> = BTreeMap::new();
        for published in &self.evidence.published {
            let Some(ordering_key) = &published.ordering_key else { continue };
            for subscription in &published.wanted_by {
                lines.entry((subscription, ordering_key)).or_default().push(published);
            }
        }
        for ((subscription, ordering_key), mut line) in lines {
            line.sort_by_key(|published| published.place);
            for pair in line.windows(2) {
                let [before, after] = pair else { continue };
                let begun =
                    self.requests((subscription, &after.event)).iter().map(|request| request.at).min();
                let done = self
                    .requests((subscription, &before.event))
                    .iter()
                    .filter_map(|request| request.acknowledged_at())
                    .min();
                let given_up =
                    self.deliveries.get(&(subscription, before.event.as_str())).is_some_and(|delivery| {
                        !matches!(delivery.state, DeliveryState::Succeeded | DeliveryState::Pending)
                    });
                let Some(begun) = begun else { continue };
                let is_beside = self.requests((subscription, &before.event)).iter().any(|request| {
                    request.at < begun && request.answered_at().is_some_and(|answered| begun < answered)
                });
                if is_beside && !near(&self.evidence.faults, begun) {
                    let what = format!(
                        "{subscription}, key {ordering_key}: {} beside {}",
                        after.event, before.event
                    );
                    self.complain("sent beside the one before", what);
                }
                if !given_up && done.is_none_or(|done| done > begun) {
                    let what = format!(
                        "{subscription}, key {ordering_key}: {} before {}",
                        after.event, before.event
                    );
                    self.complain("out of order", what);
                }
            }
        }
    }

    fn findings(mut self) -> Findings {
        for (kind, complaints) in self.complaints {
            let count = complaints.len();
            let told = complaints.into_iter().take(TOLD).collect::<Vec<_>>().join("\n      ");
            self.findings.violations.push(format!("{kind} ({count}):\n      {told}"));
        }
        self.findings
    }
}

fn key(delivery: &Delivery) -> Key<'_> {
    (&delivery.subscription, &delivery.event)
}

/// Whether something was broken at that time, or so shortly before or after that it may have suffered.
fn near(faults: &[Window], at: Duration) -> bool {
    faults.iter().any(|window| at + BEFORE >= window.from && at <= window.until + AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{
        TIMEOUT,
        evidence::{Answer, Attempts, Cancelled},
    };

    const S: &str = "acme/all";

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn published(event: &str, place: u64) -> Published {
        Published {
            event: event.to_owned(),
            request_id: format!("r-{event}"),
            wanted_by: vec![S.to_owned()],
            ordering_key: Some("k".to_owned()),
            place,
            read_your_writes: false,
            deliver_at: None,
            expire_at: None,
        }
    }

    fn request(event: &str, seconds: u64, answer: Answer) -> Request {
        Request {
            subscription: S.to_owned(),
            event: event.to_owned(),
            named: format!("r-{event}"),
            at: at(seconds),
            answer: Some((answer, at(seconds))),
        }
    }

    fn delivery(event: &str, begun: u32, attempts: Attempts) -> Delivery {
        Delivery {
            name: format!("tenants/acme/deliveries/{event}"),
            event: event.to_owned(),
            subscription: S.to_owned(),
            state: DeliveryState::Succeeded,
            end_reason: Some(EndReason::Acknowledged),
            begun,
            overdue: false,
            attempts: Some(attempts),
        }
    }

    /// Two events of one key, each rejected or acknowledged as it should be, and a fault from 100 to 110.
    fn good() -> Evidence {
        Evidence {
            published: vec![published("a", 1), published("b", 2)],
            requests: vec![
                request("a", 10, Answer::Rejected),
                request("a", 20, Answer::Acknowledged),
                request("b", 30, Answer::Acknowledged),
            ],
            deliveries: vec![
                delivery("a", 2, Attempts { acknowledged: 1, rejected: 1, failed: 0 }),
                delivery("b", 1, Attempts { acknowledged: 1, ..Attempts::default() }),
            ],
            faults: vec![Window { what: "x".to_owned(), from: at(100), until: at(110) }],
            ..Evidence::default()
        }
    }

    /// The kind of the one violation that a change of good evidence makes.
    fn violation(spoil: impl FnOnce(&mut Evidence)) -> String {
        let mut evidence = good();
        spoil(&mut evidence);
        let violations = check(&evidence).violations;
        assert_eq!(violations.len(), 1, "{violations:?}");
        violations[0].split(" (").next().unwrap().to_owned()
    }

    #[test]
    fn good_evidence_is_sound() {
        let findings = check(&good());
        assert!(findings.violations.is_empty(), "{:?}", findings.violations);
        assert_eq!((findings.expected, findings.compared, findings.unrecorded), (2, 2, 0));
    }

    #[test]
    fn what_is_lost_is_seen() {
        assert_eq!(violation(|e| drop(e.deliveries.remove(1))), "no delivery was made");
        assert_eq!(
            violation(|e| {
                e.deliveries.remove(1);
                e.published[1].read_your_writes = true;
            }),
            "a write was not read"
        );
        assert_eq!(
            violation(|e| {
                e.deliveries[1].state = DeliveryState::Cancelled;
                e.deliveries[1].end_reason = Some(EndReason::SubscriptionDisabled);
            }),
            "ended without a cause"
        );
        assert_eq!(
            violation(|e| {
                e.deliveries[1].state = DeliveryState::Pending;
                e.deliveries[1].overdue = true;
            }),
            "pending past its due time"
        );
    }

    #[test]
    fn what_goes_at_the_wrong_time_is_seen() {
        assert_eq!(violation(|e| e.published[1].deliver_at = Some(at(31))), "sent before its time");
        assert_eq!(violation(|e| e.published[1].expire_at = Some(at(27))), "sent when it had expired");
        let mut evidence = good();
        (evidence.published[1].deliver_at, evidence.published[1].expire_at) = (Some(at(30)), Some(at(30)));
        assert!(check(&evidence).violations.is_empty());
    }

    #[test]
    fn a_second_acknowledgement_needs_a_fault() {
        let twice = |seconds| {
            move |e: &mut Evidence| {
                e.requests[2] = request("b", seconds, Answer::Acknowledged);
                e.requests.push(request("b", seconds + 5, Answer::Acknowledged));
                e.deliveries[1] = delivery("b", 2, Attempts { acknowledged: 2, ..Attempts::default() });
            }
        };
        assert_eq!(violation(twice(50)), "acknowledged twice without a fault");
        let mut evidence = good();
        twice(105)(&mut evidence);
        let findings = check(&evidence);
        assert!(findings.violations.is_empty(), "{:?}", findings.violations);
        assert_eq!(findings.duplicates, Duplicates { around_faults: 1, ..Duplicates::default() });
    }

    #[test]
    fn the_record_must_agree_with_what_was_seen() {
        let attempts = |acknowledged, rejected| Attempts { acknowledged, rejected, failed: 0 };
        assert_eq!(
            violation(|e| e.deliveries[0].attempts = Some(attempts(2, 0))),
            "recorded as acknowledged, and not seen"
        );
        assert_eq!(
            violation(|e| e.deliveries[1] = delivery("b", 2, attempts(1, 1))),
            "recorded as answered, and not seen"
        );
        assert_eq!(violation(|e| e.deliveries[0].begun = 1), "seen more often than begun");
        assert_eq!(violation(|e| e.deliveries[1].begun = 2), "not recorded without a fault");
        assert_eq!(
            violation(|e| e.requests[2].named = "other".to_owned()),
            "an event is not what was published"
        );
    }

    #[test]
    fn an_event_that_overtakes_the_one_before_it_is_seen() {
        assert_eq!(violation(|e| e.requests[2] = request("b", 15, Answer::Acknowledged)), "out of order");
        let other_key = |e: &mut Evidence| {
            e.requests[2] = request("b", 15, Answer::Acknowledged);
            e.published[1].ordering_key = Some("other".to_owned());
        };
        let mut evidence = good();
        other_key(&mut evidence);
        assert!(check(&evidence).violations.is_empty());
    }

    #[test]
    fn a_cancelled_one_ends_so_and_lets_nothing_go_beside_its_request() {
        let cancel = |is_certain| {
            move |e: &mut Evidence| {
                e.cancelled.push(Cancelled { event: "a".to_owned(), subscription: S.to_owned(), is_certain });
            }
        };
        let end = |e: &mut Evidence| {
            e.deliveries[0].state = DeliveryState::Cancelled;
            e.deliveries[0].end_reason = Some(EndReason::Cancelled);
        };
        assert_eq!(violation(cancel(true)), "was cancelled, and did not end so");
        assert_eq!(violation(end), "ended without a cause");
        for is_certain in [false, true] {
            let mut evidence = good();
            cancel(is_certain)(&mut evidence);
            end(&mut evidence);
            assert!(check(&evidence).violations.is_empty());
        }
        let unrecorded = |begun| {
            move |e: &mut Evidence| {
                cancel(true)(e);
                end(e);
                e.deliveries[0].begun = begun;
            }
        };
        let mut evidence = good();
        unrecorded(3)(&mut evidence);
        assert!(check(&evidence).violations.is_empty(), "the third was not sent any more");
        assert_eq!(violation(unrecorded(4)), "not recorded without a fault");
        let beside = |e: &mut Evidence| {
            cancel(true)(e);
            end(e);
            e.requests[1].at = at(30);
            e.requests[1].answer = Some((Answer::Acknowledged, at(30) + TIMEOUT / 2));
            e.requests[2].at = at(30) + TIMEOUT / 4;
        };
        assert_eq!(violation(beside), "sent beside the one before");
    }

    #[test]
    fn a_node_that_stays_away_is_seen() {
        assert_eq!(violation(|e| e.not_ready.push("node 1".to_owned())), "not ready at the end");
    }
}
