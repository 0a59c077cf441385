//! The catalogue of event types, and what it means to those who publish.

use postrider_integration_tests::{Receiver, TestApp, on_both_databases};
use postrider_sdk::{
    Code, Error, Event,
    model::{EventType, Verdict},
};
use postrider_server::domain::catalogue::UnknownTypes;

use crate::ways::Way;

const SCHEMA: &str = r#"{
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "string"}, "lines": {"items": {"required": ["price"]}}}
}"#;

on_both_databases! {
    async fn a_type_is_created_changed_archived_and_deleted(kind: Kind) {
        let app = TestApp::start(kind).await;
        let types = app.client.event_types();
        let new = EventType::named("order.created").description("An order came in").group("Orders");
        let created = types.create(new.clone().schema(2, SCHEMA).schema(10, "{}")).await.unwrap();
        assert_eq!((created.name.as_str(), created.event_type()), ("eventTypes/order.created", "order.created"));
        assert_eq!(created.schemas.keys().copied().collect::<Vec<_>>(), [2, 10]);
        assert_eq!(types.get("order.created").await.unwrap(), created);
        assert_eq!(types.create(new).await.unwrap_err().code(), Code::AlreadyExists);

        let changed = types.update("order.created").current_version(2).deprecated(true).await.unwrap();
        assert_eq!((changed.current_version, changed.deprecated), (Some(2), true));
        assert_ne!(changed.etag, created.etag);
        let stale = types.update("order.created").group("").etag(&created.etag).await.unwrap_err();
        assert!(stale.is_aborted());
        let refused = types.update("order.created").current_version(3).await.unwrap_err();
        assert_eq!(fields(&refused), ["event_type.current_version"]);

        let archived = types.archive("order.created").await.unwrap();
        assert!(archived.archived_at.is_some());
        let refused = app.client.publish(Event::new("order.created")).await.unwrap_err();
        assert_eq!(fields(&refused), ["event.type"]);
        assert_eq!(types.unarchive("order.created").await.unwrap().archived_at, None);
        app.client.publish(Event::new("order.created")).await.unwrap();
        assert_eq!(app.metric("postrider_deprecated_events_total").await, "1");

        types.create(EventType::named("order.paid")).await.unwrap();
        assert_eq!(types.list().page_size(1).items().collect().await.unwrap().len(), 2);
        types.delete("order.paid").await.unwrap();
        assert_eq!(types.get("order.paid").await.unwrap_err().code(), Code::NotFound);
        app.stop().await;
    }

    async fn what_does_not_conform_is_refused_with_each_place(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        let enforced = EventType::named("order.created").schema(1, SCHEMA).enforce(true);
        app.client.event_types().create(enforced).await.unwrap();
        for way in Way::ALL {
            way.publish(&app.client, order(r#"{"id": "a"}"#)).await.unwrap();
            let bad = order(r#"{"id": 7, "lines": [{"price": 1}, {}]}"#);
            let refused = way.publish(&app.client, bad).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert_eq!(fields(&refused), ["event.data/id", "event.data/lines/1"], "{way:?} {refused}");
            let plain = Event::new("order.created").data("a", "text/plain");
            let refused = way.publish(&app.client, plain).await.unwrap_err();
            assert_eq!(fields(&refused), ["event.data_content_type"]);
            // A neighbour is not refused with it.
            way.publish(&app.client, Event::new("order.paid")).await.unwrap();
        }
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 6);
        app.stop().await;
    }

    async fn what_is_enforced_holds_on_every_server_at_once(kind: Kind) {
        let one = TestApp::start(kind).await;
        let two = one.another().start().await;
        let receiver = Receiver::start().await;
        one.subscribe(&receiver).await;
        let tenant = two.client.tenant("other");
        tenant.publish(order("{}")).await.unwrap();
        two.client.publish(order("{}")).await.unwrap();
        let types = one.client.event_types();
        types.create(EventType::named("order.created").schema(1, SCHEMA)).await.unwrap();
        two.client.publish(order("{}")).await.unwrap();
        for _ in 0..5 {
            types.update("order.created").enforce(true).await.unwrap();
            for client in [&two.client, &tenant, &two.client.tenant("new")] {
                let refused = client.publish(order("{}")).await.unwrap_err();
                assert_eq!(fields(&refused), ["event.data"]);
            }
            types.update("order.created").enforce(false).await.unwrap();
            two.client.publish(order("{}")).await.unwrap();
        }
        one.stop().await;
        two.stop().await;
    }

    async fn a_repeated_publish_is_one_event_even_if_its_type_is_archived_since(kind: Kind) {
        let app = TestApp::start(kind).await;
        app.client.event_types().create(EventType::named("order.created")).await.unwrap();
        let first = app.client.publish(order("{}").request_id("one")).await.unwrap();
        app.client.event_types().archive("order.created").await.unwrap();
        // The node hears of it.
        app.client.publish(order("{}")).await.unwrap_err();
        let again = app.client.publish(order("{}").request_id("one")).await.unwrap();
        assert_eq!((again.event, again.duplicate), (first.event, true));
        app.stop().await;
    }

    async fn types_that_are_not_in_the_catalogue_are_refused_if_it_says_so(kind: Kind) {
        let app = TestApp::builder(kind)
            .await
            .with(|config| config.events.unknown_types = UnknownTypes::Refuse)
            .start()
            .await;
        let refused = app.client.publish(order("{}")).await.unwrap_err();
        assert_eq!(fields(&refused), ["event.type"]);
        app.client.event_types().create(EventType::named("order.created")).await.unwrap();
        app.client.publish(order("{}")).await.unwrap();
        app.stop().await;
    }

    async fn an_explanation_says_what_a_publish_would_be_refused_for(kind: Kind) {
        let one = TestApp::builder(kind)
            .await
            .with(|config| config.events.unknown_types = UnknownTypes::Refuse)
            .start()
            .await;
        let two = one.another().with(|config| config.events.unknown_types = UnknownTypes::Refuse).start().await;
        let receiver = Receiver::start().await;
        one.subscribe(&receiver).await;
        // Nothing is published meanwhile, so the second server hears of nothing unless it looks.
        let explained = async |event: Event| two.client.events().explain(event).await.unwrap();
        let types = one.client.event_types();
        let conforming = r#"{"id": "1"}"#;
        assert_eq!(explained(order(conforming)).await.violations[0].field, "event.type");
        types.create(EventType::named("order.created").schema(1, SCHEMA)).await.unwrap();
        assert_eq!(explained(order("{}")).await.violations, []);
        let published = one.client.publish(order("{}")).await.unwrap();
        types.update("order.created").enforce(true).await.unwrap();
        assert_eq!(explained(order(conforming)).await.violations, []);
        let found = explained(order(r#"{"id": 1, "lines": [{}]}"#)).await;
        assert_eq!(found.violations[0].field, "event.data/id");
        assert_eq!(found.violations[1].field, "event.data/lines/0");
        assert_eq!(found.subscriptions[0].verdict, Verdict::Matches);
        let stored = two.client.events().explain_published(&published.event).await.unwrap();
        assert_eq!(stored.violations[0].field, "event.data");
        types.archive("order.created").await.unwrap();
        let archived = explained(order(conforming)).await.violations;
        let refused = two.client.publish(order(conforming)).await.unwrap_err();
        assert_eq!(archived, refused.field_violations());
        one.stop().await;
        two.stop().await;
    }

    async fn types_that_are_malformed_are_refused(kind: Kind) {
        let app = TestApp::start(kind).await;
        let types = app.client.event_types();
        for (field, new) in [
            ("event_type_id", EventType::named("")),
            ("event_type_id", EventType::named("a..b")),
            ("event_type_id", EventType::named("postrider.test")),
            ("event_type.description", EventType::named("a").description("x".repeat(1_025))),
            ("event_type.group", EventType::named("a").group("x".repeat(129))),
            ("event_type.schemas[0].version", EventType::named("a").schema(0, "{}")),
            ("event_type.schemas[1].version", EventType::named("a").schema(1, "{}").schema(1, "{}")),
            ("event_type.schemas[0].json_schema", EventType::named("a").schema(1, "{")),
            ("event_type.schemas[0].json_schema", EventType::named("a").schema(1, r#"{"type": 7}"#)),
            ("event_type.schemas[0].json_schema", EventType::named("a").schema(1, r##"{"$ref": "#"}"##)),
            ("event_type.current_version", EventType::named("a").schema(1, "{}").current_version(2)),
            ("event_type.enforce", EventType::named("a").enforce(true)),
        ] {
            let refused = types.create(new).await.expect_err(field);
            assert_eq!(fields(&refused), [field], "{refused}");
        }
        assert_eq!(types.get("nothing").await.unwrap_err().code(), Code::NotFound);
        app.stop().await;
    }
}

fn order(data: &str) -> Event {
    Event::new("order.created").data(data.to_owned(), "application/json")
}

/// Which fields are wrong.
fn fields(refused: &Error) -> Vec<&str> {
    let mut fields: Vec<_> =
        refused.field_violations().iter().map(|violation| violation.field.as_str()).collect();
    fields.sort_unstable();
    fields
}
