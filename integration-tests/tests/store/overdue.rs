//! What a node could have claimed and has not.

use postrider_integration_tests::on_both_databases;
use postrider_server::{
    dispatch::{Ask, Overdue, Queue},
    domain::{handling::Priority, subscription::Subscription, timestamp::Timestamp},
};

use crate::{
    fixtures::{NOW, SECOND, a_draft, ask},
    node::Node,
};

/// The subscription of the oldest that is due, and since when.
async fn oldest(node: &Node, ask: &Ask) -> Option<(String, Timestamp)> {
    let Overdue { delivery, since, .. } = node.store.overdue(ask).await.unwrap()?;
    Some((node.delivery(delivery).await.subscription.to_string(), since))
}

async fn due(node: &Node, subscription: &Subscription, at: Timestamp) {
    node.publish([a_draft().at(at).to([subscription])]).await;
}

on_both_databases! {
    async fn the_oldest_of_all_subscriptions_that_could_be_claimed_is_found(kind: Kind) {
        let node = Node::new(kind).await;
        assert_eq!(oldest(&node, &ask(NOW, 10)).await, None);
        let (old, young, later) = (node.subscribe("old").await, node.subscribe("young").await, node.subscribe("later").await);
        for seconds in [7, 9, 8] {
            due(&node, &old, NOW.before(SECOND * seconds)).await;
        }
        due(&node, &young, NOW.before(SECOND)).await;
        due(&node, &later, NOW + SECOND).await;
        let found = |id: &str, since| Some((id.to_owned(), since));
        assert_eq!(oldest(&node, &ask(NOW, 10)).await, found("old", NOW.before(SECOND * 9)));
        // It is told also while the node is full.
        assert_eq!(oldest(&node, &ask(NOW, 0)).await, found("old", NOW.before(SECOND * 9)));

        let full = Ask { held: vec![(old.uid, 128)], ..ask(NOW, 10) };
        assert_eq!(oldest(&node, &full).await, found("young", NOW.before(SECOND)));
        node.pause(&old).await;
        assert_eq!(oldest(&node, &ask(NOW, 10)).await, found("young", NOW.before(SECOND)));
        node.disable(&young).await;
        assert_eq!(oldest(&node, &ask(NOW, 10)).await, None);
        node.resume(&old).await;
        assert_eq!(node.claim(NOW, 10).await.len(), 3);
        assert_eq!(oldest(&node, &ask(NOW, 10)).await, None);
        assert_eq!(oldest(&node, &ask(NOW + SECOND, 10)).await, found("later", NOW + SECOND));
    }

    async fn a_probe_that_is_due_and_what_a_rate_allows_are_missed_too(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        due(&node, &sub, NOW.before(SECOND * 9)).await;
        let found = Some(("sub".to_owned(), NOW.before(SECOND * 9)));
        for until in ["blocked_until", "rate_per_second = 1, rate_burst = 1, throttled_until"] {
            node.execute(&format!("UPDATE subscriptions SET {until} = {}", (NOW + SECOND).as_micros())).await;
            assert_eq!(oldest(&node, &ask(NOW, 10)).await, None, "{until}");
            assert_eq!(oldest(&node, &ask(NOW + SECOND, 10)).await, found, "{until}");
            node.execute("UPDATE subscriptions SET blocked_until = NULL").await;
        }
        assert_eq!(node.claim(NOW + SECOND, 10).await.len(), 1);
    }

    async fn what_the_claim_takes_later_is_overdue_later(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let low = a_draft().priority(Priority::Low).at(NOW.before(SECOND * 60));
        node.publish([low.to([&subscription])]).await;
        due(&node, &subscription, NOW.before(SECOND)).await;
        let first = node.store.overdue(&ask(NOW, 1)).await.unwrap().unwrap();
        assert_eq!(first.since, NOW.before(SECOND));
        assert_eq!(node.claim(NOW, 1).await[0].delivery, first.delivery);
    }
}
