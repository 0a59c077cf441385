//! Where several deliveries of a subscription are due, the more urgent come first, and none waits for ever.

use std::time::Duration;

use postrider_integration_tests::on_both_databases;
use postrider_server::{
    dispatch::Ask,
    domain::{handling::Priority, subscription::Subscription, timestamp::Timestamp},
};

use crate::{
    fixtures::{Chance, NOW, SECOND, TICK, a_draft, acknowledged, ask},
    node::Node,
};

/// For how long a low one lets the high ones, and for how long it lets the normal ones go before it.
const BEHIND_HIGH: Duration = Duration::from_mins(5);
const BEHIND_NORMAL: Duration = Duration::from_secs(270);

async fn publish(node: &Node, to: &Subscription, priority: Priority, due_at: Timestamp, data: &str) {
    node.publish([a_draft().priority(priority).at(due_at).data(data.to_owned()).to([to])]).await;
}

/// Takes deliveries over one by one until none is due.
async fn one_by_one(node: &Node, now: Timestamp) -> Vec<String> {
    let mut order = Vec::new();
    loop {
        let claims = node.claim(now, 1).await;
        let Some(claim) = claims.first() else { return order };
        order.push(String::from_utf8(claim.event.content.payload.data.to_vec()).unwrap());
        node.settle([acknowledged(claim, now)]).await;
    }
}

on_both_databases! {
    async fn of_what_is_due_together_the_most_urgent_goes_first(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        for (priority, data) in
            [(Priority::Low, "low"), (Priority::Normal, "normal"), (Priority::High, "high")]
        {
            publish(&node, &subscription, priority, NOW, data).await;
        }
        assert_eq!(one_by_one(&node, NOW).await, ["high", "normal", "low"]);
    }

    async fn a_low_one_goes_before_what_came_due_longer_after_it_than_its_handicap(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let now = NOW + BEHIND_HIGH * 2;
        publish(&node, &subscription, Priority::Low, NOW, "low").await;
        publish(&node, &subscription, Priority::Normal, (NOW + BEHIND_NORMAL).before(TICK), "normal before").await;
        publish(&node, &subscription, Priority::Normal, NOW + BEHIND_NORMAL + TICK, "normal after").await;
        publish(&node, &subscription, Priority::High, (NOW + BEHIND_HIGH).before(TICK), "high before").await;
        publish(&node, &subscription, Priority::High, NOW + BEHIND_HIGH + TICK * 2, "high after").await;
        assert_eq!(
            one_by_one(&node, now).await,
            ["high before", "normal before", "low", "normal after", "high after"]
        );
    }

    async fn a_low_one_is_not_starved_by_a_stream_of_urgent_ones(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        publish(&node, &subscription, Priority::Low, NOW.before(TICK), "low").await;
        // Every ten seconds two urgent ones come in and one delivery goes out: the backlog only grows.
        let mut overtaken = 0;
        loop {
            let now = NOW + SECOND * 10 * overtaken;
            for _ in 0..2 {
                publish(&node, &subscription, Priority::High, now, "high").await;
            }
            let claim = node.claim(now, 1).await.remove(0);
            node.settle([acknowledged(&claim, now)]).await;
            if claim.event.content.payload.data == "low" {
                break;
            }
            overtaken += 1;
            assert!(overtaken < 100, "the low one is starved");
        }
        // By what had come due within five minutes after it, and by nothing later. The two of that very moment may go first or not.
        assert!((2 * 30..=2 * 31).contains(&overtaken), "{overtaken}");
    }

    async fn a_level_with_a_great_backlog_hides_no_other(kind: Kind) {
        let node = Node::new(kind).await;
        let (busy, quiet) = (node.subscribe("busy").await, node.subscribe("quiet").await);
        let many = |n: u32| a_draft().priority(Priority::Low).at(NOW.before(TICK * n)).to([&busy]);
        node.publish((0..300).map(many)).await;
        publish(&node, &busy, Priority::High, NOW, "high").await;
        publish(&node, &quiet, Priority::Low, NOW, "quiet").await;
        let room = Ask { max_per_subscription: 10, ..ask(NOW, 10) };
        let claims = node.claim_as(&room).await;
        assert_eq!(claims.len(), 10);
        for data in ["high", "quiet"] {
            assert!(claims.iter().any(|claim| claim.event.content.payload.data == data), "{data}");
        }
    }

    async fn claims_go_by_the_due_date_and_the_handicap(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        for seed in 0..20 {
            let mut chance = Chance(seed);
            let mut below = |limit| usize::try_from(chance.below(limit)).unwrap();
            let room = 1 + below(8);
            // The level and for how many seconds it has been due.
            let deliveries: Vec<_> = (0..=below(24)).map(|_| (below(3), below(900))).collect();
            let drafts = deliveries.iter().enumerate().map(|(n, (level, overdue))| {
                let due_at = NOW.before(SECOND * u32::try_from(*overdue).unwrap());
                a_draft().priority(Priority::ALL[*level]).at(due_at).data(n.to_string()).to([&subscription])
            });
            for draft in drafts {
                node.publish([draft]).await;
            }
            let turn = |n: usize| {
                let (level, overdue) = deliveries[n];
                i64::try_from(Priority::ALL[level].handicap().as_secs()).unwrap() - i64::try_from(overdue).unwrap()
            };
            let mut expected: Vec<_> = (0..deliveries.len()).map(turn).collect();
            expected.sort_unstable();
            let mut claimed = Vec::new();
            loop {
                let ask = Ask { max_per_subscription: room, ..ask(NOW, 100) };
                let claims = node.claim_as(&ask).await;
                if claims.is_empty() {
                    break;
                }
                let number = |data: &[u8]| std::str::from_utf8(data).unwrap().parse::<usize>().unwrap();
                // Which ones a claim takes is ordered; what it does with them at once is not.
                let mut turns: Vec<_> =
                    claims.iter().map(|claim| turn(number(&claim.event.content.payload.data))).collect();
                turns.sort_unstable();
                claimed.extend(turns);
                node.settle(claims.iter().map(|claim| acknowledged(claim, NOW))).await;
            }
            assert_eq!(claimed, expected, "seed {seed}: {deliveries:?} with room for {room}");
        }
    }
}
