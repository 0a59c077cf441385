//! Events with one ordering key, of which some are fanned out: none passes another, whoever makes the deliveries.

use postrider_integration_tests::on_both_databases;
use postrider_server::{
    domain::{claim::Claim, event::Event, subscription::Subscription},
    publish::{
        Commit, Fate, Journal,
        fan_out::{FanOuts, Finish, OverduePart, Part},
    },
    store::FanOutBacklog,
};

use crate::{
    fan_out::{finish_all, take, take_all},
    fixtures::{Draft, LEASE, NOW, SECOND, a_draft, acknowledged, tenant},
    node::Node,
};

fn keyed(data: &str) -> Draft {
    a_draft().keyed("k").data(data.to_owned())
}

fn data(event: &Event) -> String {
    String::from_utf8(event.content.payload.data.to_vec()).unwrap()
}

/// What parts are of.
fn of(parts: &[Part]) -> Vec<(String, u32)> {
    parts.iter().map(|part| (data(&part.event), part.number)).collect()
}

fn part(event: &str, number: u32) -> (String, u32) {
    (event.to_owned(), number)
}

/// What goes out to one subscription, in its order, with every attempt acknowledged.
async fn sent_to(node: &Node, subscription: &Subscription) -> Vec<String> {
    let mut sent = Vec::new();
    loop {
        let claims: Vec<Claim> = node.claim(NOW + SECOND, 100).await;
        if claims.is_empty() {
            return sent;
        }
        let ours = claims.iter().filter(|claim| claim.target.uid == subscription.uid);
        sent.extend(ours.map(|claim| data(&claim.event)));
        node.settle(claims.iter().map(|claim| acknowledged(claim, NOW + SECOND))).await;
    }
}

on_both_databases! {
    async fn an_event_does_not_pass_the_one_before_that_is_being_fanned_out(kind: Kind) {
        let node = Node::new(kind).await;
        let (one, two) = (node.subscribe("one").await, node.subscribe("two").await);
        node.publish([keyed("a").to([&one]).later_to([&two])]).await;
        let batch = node.batch([keyed("b").claimed_to([&one, &two])]).await;
        let ids = batch.entries[0].deliveries.iter().map(|delivery| delivery.id).collect();
        let Commit::Done { parked, owes, .. } = node.store.commit(&batch).await.unwrap() else { panic!("stale") };
        assert_eq!((parked, owes), (ids, true), "none of them may start");
        let stored = node.store.event(&batch.entries[0].event.tenant, batch.entries[0].event.id).await.unwrap().unwrap();
        assert_eq!(stored.delivery_count, 2, "from the beginning");
        assert_eq!((node.count("deliveries").await, node.count("fan_outs").await), (1, 2));

        // The last part of the one before takes the other along.
        let parts = take_all(&node, NOW).await;
        assert_eq!(of(&parts), [part("a", 0), part("b", 0)]);
        let Finish::Done { parked } = finish_all(&node, &parts, NOW).await else { panic!("done before") };
        assert_eq!(parked.len(), 2, "both of the later event");
        assert_eq!((node.count("deliveries").await, node.count("fan_outs").await), (4, 0));

        // From now on events enter their lanes at once.
        node.publish([keyed("c").to([&one, &two])]).await;
        let first = node.claim(NOW, 10).await;
        assert_eq!(first.iter().map(|claim| data(&claim.event)).collect::<Vec<_>>(), ["a", "a"]);
        node.settle(first.iter().map(|claim| acknowledged(claim, NOW))).await;
        assert_eq!(sent_to(&node, &two).await, ["b", "c"]);
    }

    async fn within_a_batch_as_well(kind: Kind) {
        let node = Node::new(kind).await;
        let (one, two) = (node.subscribe("one").await, node.subscribe("two").await);
        node.publish([
            keyed("a").to([&one]).later_to([&two]),
            keyed("b").to([&one, &two]),
            keyed("c").to([&one]).later_to([&two]),
            keyed("d").to([&two]),
        ]).await;
        assert_eq!(node.count("deliveries").await, 1);
        let parts = take_all(&node, NOW).await;
        assert_eq!(of(&parts), [part("a", 0), part("b", 0), part("c", 0), part("c", 1), part("d", 0)]);
        finish_all(&node, &parts, NOW).await;
        assert_eq!(sent_to(&node, &two).await, ["a", "b", "c", "d"]);
    }

    async fn what_has_another_key_or_none_waits_for_nobody(kind: Kind) {
        let node = Node::new(kind).await;
        let (one, two) = (node.subscribe("one").await, node.subscribe("two").await);
        let other = tenant("other");
        let theirs = node.subscribe_in(&other, "sub").await;
        node.publish([keyed("a").to([&one]).later_to([&two])]).await;
        node.publish([
            a_draft().keyed("l").to([&two]),
            a_draft().to([&two]),
            keyed("x").of(&other).to([&theirs]),
        ]).await;
        assert_eq!((node.count("deliveries").await, node.count("fan_outs").await), (4, 1));
        let parts = take_all(&node, NOW).await;
        assert_eq!(of(&parts), [part("a", 0)]);
    }

    async fn nodes_share_the_parts_of_one_event_and_begin_the_next_when_all_are_done(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        let (one, two) = (a.subscribe("one").await, a.subscribe("two").await);
        a.publish([keyed("a").later_to([&one]).later_to([&two])]).await;
        a.publish([keyed("b").to([&one, &two])]).await;
        let ours = take_all(&a, NOW).await;
        let theirs = take_all(&b, NOW).await;
        assert_eq!((of(&ours), of(&theirs)), (vec![part("a", 0)], vec![part("a", 1)]), "none is the last");
        assert!(take_all(&a, NOW).await.is_empty());
        finish_all(&a, &ours, NOW).await;
        assert!(take_all(&a, NOW).await.is_empty(), "the other node is not done");
        finish_all(&b, &theirs, NOW).await;
        let last = take_all(&a, NOW).await;
        assert_eq!(of(&last), [part("b", 0)]);
        finish_all(&a, &last, NOW).await;
        assert_eq!(sent_to(&a, &one).await, ["a", "b"]);
    }

    async fn what_a_node_died_with_is_taken_over_in_its_order_and_once(kind: Kind) {
        let dead = Node::new(kind).await;
        let alive = dead.another().await;
        let one = dead.subscribe("one").await;
        dead.publish([keyed("a").later_to([&one])]).await;
        dead.publish([keyed("b").to([&one])]).await;
        let lost = take_all(&dead, NOW).await;
        assert_eq!(of(&lost), [part("a", 0), part("b", 0)]);
        dead.publish([keyed("c").to([&one])]).await;
        assert!(take_all(&alive, NOW).await.is_empty());
        let parts = take_all(&alive, NOW + LEASE).await;
        assert_eq!(of(&parts), [part("a", 0), part("b", 0), part("c", 0)]);
        finish_all(&alive, &parts, NOW).await;
        // It was not dead after all.
        assert_eq!(finish_all(&dead, &lost, NOW).await, Finish::DoneBefore);
        assert_eq!(sent_to(&alive, &one).await, ["a", "b", "c"]);
    }

    async fn so_many_come_along_as_one_transaction_should_take(kind: Kind) {
        let node = Node::new(kind).await;
        let one = node.subscribe("one").await;
        node.publish([keyed("first").later_to([&one])]).await;
        let many = (0..120).map(|nth| keyed(&nth.to_string()).to([&one]));
        node.publish(many).await;
        let large = "x".repeat(3 << 20);
        node.publish([keyed(&large).to([&one]), keyed(&large).to([&one])]).await;
        let mut taken = Vec::new();
        let mut lengths = Vec::new();
        loop {
            let parts = take_all(&node, NOW).await;
            if parts.is_empty() {
                break;
            }
            lengths.push(parts.len());
            taken.extend(of(&parts).into_iter().map(|(event, _)| event));
            finish_all(&node, &parts, NOW).await;
        }
        assert_eq!(lengths, [101, 21, 1], "by their number, and by what they hold");
        assert_eq!(taken[1..121], (0..120).map(|nth| nth.to_string()).collect::<Vec<_>>());
    }

    async fn an_event_that_cannot_be_read_keeps_none_behind_it(kind: Kind) {
        let node = Node::new(kind).await;
        let one = node.subscribe("one").await;
        node.publish([keyed("bad").later_to([&one])]).await;
        node.publish([keyed("a").to([&one])]).await;
        node.publish([keyed("bad").to([&one])]).await;
        node.publish([keyed("c").to([&one])]).await;
        node.execute("DELETE FROM payloads WHERE length(data) = 3").await;
        let parts = take_all(&node, NOW).await;
        assert_eq!(of(&parts), [part("a", 0), part("c", 0)]);
        // By the first that can be read, not by the one that was before it.
        assert!(take_all(&node.another().await, NOW).await.is_empty());
        finish_all(&node, &parts, NOW).await;
        assert_eq!(sent_to(&node, &one).await, ["a", "c"]);
        assert_eq!(node.count("pending_deliveries").await, 0, "the damaged ones have ended");
    }

    async fn what_was_given_back_is_due_again_at_once(kind: Kind) {
        let node = Node::new(kind).await;
        let other = node.another().await;
        let one = node.subscribe("one").await;
        node.publish([keyed("a").later_to([&one])]).await;
        node.publish([keyed("b").to([&one])]).await;
        let parts = take_all(&node, NOW).await;
        node.store.give_back(&parts[0], NOW + LEASE).await.unwrap();
        let parts = take_all(&other, NOW + SECOND).await;
        assert_eq!(of(&parts), [part("a", 0), part("b", 0)]);
        // Not by who had it before.
        node.store.give_back(&parts[0], NOW + LEASE).await.unwrap();
        assert!(take_all(&node, NOW + SECOND).await.is_empty());
        finish_all(&other, &parts, NOW + SECOND).await;
        node.store.give_back(&parts[0], NOW + SECOND + LEASE).await.unwrap();
        assert_eq!(node.count("fan_outs").await, 0);
    }

    async fn of_two_that_were_committed_at_once_neither_comes_along_with_the_other(kind: Kind) {
        let node = Node::new(kind).await;
        let other = node.another().await;
        let one = node.subscribe("one").await;
        for event in ["a", "b", "c"] {
            node.publish([keyed(event).later_to([&one])]).await;
        }
        node.execute("UPDATE fan_outs SET position = 1 WHERE position = 2").await;
        let (ours, theirs) = (take_all(&node, NOW).await, take_all(&other, NOW).await);
        let mut both = [of(&ours), of(&theirs)];
        both.sort();
        assert_eq!(both, [[part("a", 0)], [part("b", 0)]]);
        finish_all(&node, &ours, NOW).await;
        assert!(take_all(&node, NOW).await.is_empty(), "the last one waits for both");
        finish_all(&other, &theirs, NOW).await;
        assert_eq!(of(&take_all(&node, NOW).await), [part("c", 0)]);
    }

    async fn parts_that_were_taken_together_are_finished_together_or_not_at_all(kind: Kind) {
        let node = Node::new(kind).await;
        let one = node.subscribe("one").await;
        node.publish([keyed("a").later_to([&one])]).await;
        node.publish([keyed("b").to([&one])]).await;
        let parts = take_all(&node, NOW).await;
        node.execute("DELETE FROM fan_outs WHERE position = 2").await;
        assert_eq!(finish_all(&node, &parts, NOW).await, Finish::DoneBefore);
        assert_eq!((node.count("fan_outs").await, node.count("deliveries").await), (1, 0));
    }

    async fn a_repeated_publish_puts_nothing_behind(kind: Kind) {
        let node = Node::new(kind).await;
        let one = node.subscribe("one").await;
        node.publish([keyed("a").later_to([&one])]).await;
        let later = || keyed("b").request_id("b").to([&one]);
        node.publish([later()]).await;
        let again = node.batch([later()]).await;
        let Commit::Done { fates, parked, owes } = node.store.commit(&again).await.unwrap() else { panic!("stale") };
        assert!(matches!(fates[..], [Fate::Repeated { delivery_count: 1, .. }]), "{fates:?}");
        assert_eq!((parked.len(), owes, node.count("fan_outs").await), (0, false, 2));
    }

    async fn a_subscription_that_is_closed_meanwhile_keeps_its_order_too(kind: Kind) {
        let node = Node::new(kind).await;
        let (paused, deleted) = (node.subscribe("paused").await, node.subscribe("deleted").await);
        node.publish([keyed("a").later_to([&paused, &deleted])]).await;
        node.publish([keyed("b").to([&paused, &deleted])]).await;
        node.pause(&paused).await;
        node.delete(&deleted).await;
        let parts = take_all(&node, NOW).await;
        finish_all(&node, &parts, NOW).await;
        while node.store.sweep(NOW).await.unwrap() > 0 {}
        assert!(sent_to(&node, &paused).await.is_empty());
        assert_eq!(node.count("ordering_lanes").await, 1, "of the paused one");
        node.resume(&paused).await;
        assert_eq!(sent_to(&node, &paused).await, ["a", "b"]);
        assert_eq!(node.count("ordering_lanes").await, 0);
    }

    async fn what_waits_for_its_turn_is_not_overdue(kind: Kind) {
        let node = Node::new(kind).await;
        let one = node.subscribe("one").await;
        let first = node.publish([keyed("a").later_to([&one])]).await.remove(0);
        node.publish([keyed("b").to([&one])]).await;
        let look = async || node.store.fan_out_backlog(NOW + SECOND).await.unwrap();
        let overdue = Some(OverduePart { event: first.id, number: 0, since: NOW });
        assert_eq!(look().await, FanOutBacklog { parts: 2, overdue });
        take_all(&node, NOW + SECOND).await;
        assert_eq!(look().await, FanOutBacklog { parts: 2, overdue: None });
        assert!(take(&node, NOW + SECOND).await.is_none());
    }
}
