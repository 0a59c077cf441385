//! Which events a subscription gets: conditions on attributes, expressions, and what `ExplainEvent` says of them.

use std::{pin::pin, time::Duration};

use postrider_integration_tests::{Receiver, TestApp, on_both_databases};
use postrider_sdk::{
    Event, Subscription,
    model::{EventFilter, Explanation, Verdict},
};

use crate::ways::Way;

on_both_databases! {
    async fn events_go_where_their_attributes_and_data_are_wanted(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let filter = EventFilter::new()
            .attribute_equals("region", "eu")
            .attribute_prefix("customer", "vip-")
            .expression("data.amount > 100 && type.startsWith('order.')");
        let new = Subscription::to(receiver.url()).event_types(["**"]).filter(filter.clone()).id("big");
        let created = app.client.subscriptions().create(new).await.unwrap().subscription;
        assert_eq!(created.filter, Some(filter));

        let wanted = || order(150).attribute("region", "eu").attribute("customer", "vip-7");
        for way in Way::ALL {
            for (event, expected) in [
                (wanted(), 1),
                (order(100).attribute("region", "eu").attribute("customer", "vip-7"), 0),
                (order(150).attribute("region", "us").attribute("customer", "vip-7"), 0),
                (order(150).attribute("region", "eu").attribute("customer", "vip"), 0),
                (order(150).attribute("region", "eu"), 0),
                (order(150), 0),
            ] {
                let published = way.publish(&app.client, event.clone()).await.unwrap();
                assert_eq!(published.delivery_count, expected, "{way:?} {event:?}");
            }
        }
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 3);

        // A test goes to whom it is for, whatever is asked of events.
        app.client.subscriptions().send_test_event("big").await.unwrap();
        // What is taken away is asked no longer.
        app.client.subscriptions().update("big").filter(None).await.unwrap();
        assert_eq!(app.client.subscriptions().get("big").await.unwrap().filter, None);
        assert_eq!(app.client.publish(order(1)).await.unwrap().delivery_count, 1);
        app.stop().await;
    }

    async fn an_expression_that_fails_loses_no_event_and_is_seen(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        subscribe(&app, &receiver, "failing", "data.amount.total > 100").await;
        assert_eq!(app.metric("postrider_filter_failures_total").await, "0");
        let published = app.client.publish(order(150)).await.unwrap();
        assert_eq!(published.delivery_count, 1);
        let text = Event::new("note").data("plain", "text/plain");
        assert_eq!(app.client.publish(text.clone()).await.unwrap().delivery_count, 1);
        assert_eq!(app.metric("postrider_filter_failures_total").await, "2");
        let explained = app.client.events().explain(text).await.unwrap().subscriptions;
        let message = explained.iter().find_map(|one| match &one.verdict {
            Verdict::ExpressionFailed(message) => Some(message.as_str()),
            _ => None,
        });
        assert!(message.unwrap().contains("no `data`"), "{message:?}");
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 2);
        app.stop().await;
    }

    async fn an_explanation_says_which_condition_says_no(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let create = async |id: &str, types: &str, filter: EventFilter| {
            let new = Subscription::to(receiver.url()).event_types([types]).filter(filter).id(id);
            app.client.subscriptions().create(new).await.unwrap();
            app.advance(Duration::from_millis(1));
        };
        create("all", "**", EventFilter::new()).await;
        create("paused", "**", EventFilter::new()).await;
        app.client.subscriptions().pause("paused").await.unwrap();
        create("type", "invoice.*", EventFilter::new().expression("data.amount > 0")).await;
        let two = EventFilter::new().attribute_equals("region", "eu").attribute_prefix("tier", "gold");
        create("attribute", "order.*", two.clone().expression("false")).await;
        create("false", "order.*", EventFilter::new().expression("data.amount > 1000")).await;
        create("failed", "order.*", EventFilter::new().expression("data.missing > 1000")).await;
        create("gone", "**", EventFilter::new()).await;
        receiver.then(410, &[], "");
        app.client.subscriptions().send_test_event("gone").await.unwrap();
        app.run_until_idle().await;

        let event = order(150).attribute("region", "eu").attribute("tier", "silver");
        let expected = [
            ("gone", Verdict::Disabled),
            ("failed", Verdict::ExpressionFailed("there is no `missing`".to_owned())),
            ("false", Verdict::ExpressionFalse),
            ("attribute", Verdict::Attribute(1)),
            ("type", Verdict::EventType),
            ("paused", Verdict::Matches),
            ("all", Verdict::Matches),
        ];
        let explained = app.client.events().explain(event.clone()).await.unwrap().subscriptions;
        assert_eq!(by_id(&explained), expected);
        // Publishing does what was said, and nothing was published before.
        assert_eq!(app.client.events().list().page().await.unwrap().items.len(), 1);
        let published = app.client.publish(event).await.unwrap();
        assert_eq!(published.delivery_count, 2);
        let explained = app.client.events().explain_published(&published.event).await.unwrap();
        assert_eq!(by_id(&explained.subscriptions), expected);
        assert_eq!(explained.violations, []);
        app.stop().await;
    }

    async fn a_changed_filter_counts_at_once_on_every_server(kind: Kind) {
        let one = TestApp::start(kind).await;
        let two = one.another().start().await;
        let receiver = Receiver::start().await;
        subscribe(&one, &receiver, "own", "data.amount > 100").await;
        assert_eq!(two.client.publish(order(50)).await.unwrap().delivery_count, 0);
        assert_eq!(one.client.publish(order(50)).await.unwrap().delivery_count, 0);
        let lower = EventFilter::new().expression("data.amount > 10");
        one.client.subscriptions().update("own").filter(lower).await.unwrap();
        assert_eq!(two.client.publish(order(50)).await.unwrap().delivery_count, 1);
        assert_eq!(one.client.publish(order(50)).await.unwrap().delivery_count, 1);
        one.stop().await;
        two.stop().await;
    }

    async fn order_survives_the_looking_at(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        subscribe(&app, &receiver, "own", "data.amount >= 0").await;
        let events = (0..200).map(|number| order(number).ordering_key("one"));
        for result in Way::Stream.publish_all(&app.client, events).await {
            assert_eq!(result.unwrap().delivery_count, 1);
        }
        let mut events = app.client.events().list().page_size(1_000).items();
        let mut expected = 200;
        while let Some(event) = events.next().await.unwrap() {
            expected -= 1;
            let event = app.client.events().get(&event.name).await.unwrap();
            assert_eq!(event.data, format!("{{\"amount\":{expected}}}").as_bytes());
        }
        assert_eq!(expected, 0);
        app.stop().await;
    }

    async fn a_costly_expression_holds_up_nobody_else(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let hostile = app.client.tenant("hostile").with_timeout(Duration::from_mins(5));
        for number in 0..5 {
            let filter = EventFilter::new().expression("data.items.all(x, data.items.exists(y, x == y))");
            let new = Subscription::to(receiver.url()).filter(filter).event_types(["**"]);
            hostile.subscriptions().create(new.id(format!("hostile-{number}"))).await.unwrap();
        }
        app.subscribe(&receiver).await;
        app.client.publish(order(1)).await.unwrap();
        let items = vec!["1"; 500].join(",");
        let costly = Event::new("big").data(format!("{{\"items\":[{items}]}}"), "application/json");
        let mut flood = pin!(hostile.publish_batch((0..12).map(|_| costly.clone())));
        let mut published = 0;
        let results = loop {
            tokio::select! {
                results = &mut flood => break results,
                other = app.client.publish(order(published)) => {
                    other.unwrap();
                    published += 1;
                }
            }
        };
        for result in results {
            result.unwrap();
        }
        assert!(published > 10, "{published}");
        app.stop().await;
    }
}

fn order(amount: impl std::fmt::Display) -> Event {
    Event::new("order.created").data(format!("{{\"amount\":{amount}}}"), "application/json")
}

async fn subscribe(app: &TestApp, receiver: &Receiver, id: &str, expression: &str) {
    let filter = EventFilter::new().expression(expression);
    let new = Subscription::to(receiver.url()).event_types(["**"]).filter(filter).id(id);
    app.client.subscriptions().create(new).await.unwrap();
}

fn by_id(explained: &[Explanation]) -> Vec<(&str, Verdict)> {
    explained
        .iter()
        .map(|one| (one.subscription.rsplit('/').next().unwrap_or_default(), one.verdict.clone()))
        .collect()
}
