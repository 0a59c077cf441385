//! Bodies that templates make, and seeing them before anything is sent.

use std::time::Duration;

use postrider_integration_tests::{Receiver, TestApp, an_event, on_both_databases};
use postrider_sdk::{
    Event, Subscription,
    model::{
        AttemptFailure, AttemptOutcome, Authentication, ClientCredentials, DeliveryState, Format, Header,
        Health, Method, NewSubscription, TemplateError,
    },
    verify::Verifier,
};
use time::OffsetDateTime;

on_both_databases! {
    async fn a_template_makes_the_body_and_what_it_made_is_signed(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let template = r#"{"title": {{ ("Order " ~ data.id) | tojson }}, "at": "{{ timestamp }}", "to": "{{ subscription }}"}"#;
        let secret = subscribe(&app, &receiver, Format::template(template)).await;
        let event = || Event::new("order.created").data(r#"{"id": "\"17\""}"#, "application/json");
        app.client.publish(event()).await.unwrap();
        app.run_until_idle().await;
        let request = receiver.requests()[0].clone();
        let expected = r#"{"title": "Order \"17\"", "at": "2026-01-01T00:00:00Z", "to": "made"}"#;
        assert_eq!(request.body, expected);
        assert_eq!(request.header("content-type"), "application/json");
        let now = OffsetDateTime::from_unix_timestamp(app.now().unix_seconds()).unwrap();
        Verifier::new([secret.expose()]).unwrap().verify_at(&request.headers, &request.body, now).unwrap();

        // A change counts at once.
        let form = Format::template("id={{ data.id | urlencode }}").content_type("application/x-www-form-urlencoded");
        app.client.subscriptions().update("made").format(form.clone()).await.unwrap();
        assert_eq!(app.client.subscriptions().get("made").await.unwrap().format, Some(form));
        app.client.publish(event()).await.unwrap();
        app.client.subscriptions().send_test_event("made").json(&serde_json::json!({"id": 1})).unwrap().await.unwrap();
        app.run_until_idle().await;
        let mut bodies: Vec<_> = receiver.requests()[1..].iter().map(|request| request.body.clone()).collect();
        bodies.sort();
        assert_eq!(bodies, ["id=%2217%22", "id=1"]);
        assert_eq!(receiver.requests()[1].header("content-type"), "application/x-www-form-urlencoded");
        app.stop().await;
    }

    async fn a_message_for_slack_is_escaped_where_it_must_be(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        subscribe(&app, &receiver, Format::slack()).await;
        let event = || an_event().subject("R&D").data(r#"{"name":"<!channel>"}"#, "application/json");
        app.client.publish(event()).await.unwrap();
        app.run_until_idle().await;
        let text = "*order.created* R&amp;D\n```{\"name\":\"&lt;!channel&gt;\"}```";
        assert_eq!(receiver.requests()[0].envelope(), serde_json::json!({ "text": text }));
        let own = Format::slack_text("<https://example.com/{{ id }}|{{ data.name }}>");
        app.client.subscriptions().update("made").format(own).await.unwrap();
        let published = app.client.publish(event()).await.unwrap();
        app.run_until_idle().await;
        let text = format!("<https://example.com/{}|&lt;!channel&gt;>", published.event_id());
        assert_eq!(receiver.requests()[1].envelope(), serde_json::json!({ "text": text }));
        assert_eq!(receiver.requests()[1].header("content-type"), "application/json");
        app.stop().await;
    }

    async fn what_cannot_be_rendered_fails_by_that_name_and_is_tried_again(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        subscribe(&app, &receiver, Format::template("\n{{ data.order.id }}")).await;
        app.client.publish(an_event().data("{}", "application/json")).await.unwrap();
        app.run_until_idle().await;
        assert!(receiver.requests().is_empty());
        let delivery = app.client.deliveries().list().page().await.unwrap().items.remove(0);
        assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Pending, 1));
        let attempts = app.client.deliveries().attempts(&delivery.name).page().await.unwrap().items;
        let AttemptOutcome::Failed { failure, message } = &attempts[0].outcome else {
            panic!("{attempts:?}");
        };
        let said =
            "line 2, column 8: undefined value: what this looks into is not there, in `data.order.id`";
        assert_eq!((*failure, message.as_str()), (AttemptFailure::Template, said));

        // Once the template is right, so is the retry.
        let right = Format::template("{{ data.order.id | default('none') if data.order else 'none' }}");
        app.client.subscriptions().update("made").format(right).await.unwrap();
        app.advance(Duration::from_secs(5));
        app.run_until_idle().await;
        assert_eq!(receiver.requests()[0].body, "none");
        app.stop().await;
    }

    async fn templates_that_mean_harm_hold_up_nobody(kind: Kind) {
        let app = TestApp::start(kind).await;
        let (receiver, victim) = (Receiver::start().await, Receiver::start().await);
        let doubling = format!("{{% set x = [1, 2] %}}{}{{{{ x }}}}", "{% set x = [x, x] %}".repeat(60));
        let endless = format!("{}x{}", "{% for a in data %}".repeat(20), "{% endfor %}".repeat(20));
        let growing = format!("{{% set x = 'ab' %}}{}{{{{ x }}}}", "{% set x = x ~ x %}".repeat(60));
        for (id, template) in [("doubling", doubling), ("endless", endless), ("growing", growing)] {
            let new = Subscription::to(receiver.url()).event_types(["**"]).id(id);
            app.client.subscriptions().create(new.format(Format::template(template))).await.unwrap();
        }
        app.subscribe(&victim).await;
        for _ in 0..5 {
            app.client.publish(an_event().data("[1,2,3,4]", "application/json")).await.unwrap();
        }
        app.run_until_idle().await;
        assert_eq!(victim.requests().len(), 5);
        assert!(receiver.requests().is_empty());
        let deliveries = app.client.deliveries().list().items().collect().await.unwrap();
        for delivery in deliveries.iter().filter(|delivery| delivery.state == DeliveryState::Pending) {
            let attempts = app.client.deliveries().attempts(&delivery.name).page().await.unwrap().items;
            let AttemptOutcome::Failed { failure, message } = &attempts[0].outcome else {
                panic!("{attempts:?}");
            };
            assert_eq!(*failure, AttemptFailure::Template);
            assert!(message.contains("more work") || message.contains("writes more") || message.contains("steps"), "{message}");
        }
        // It is no receiver's fault.
        let doubling = app.client.subscriptions().get("doubling").await.unwrap();
        assert_eq!(doubling.health, Health::Healthy);
        app.stop().await;
    }

    async fn authentication_is_rendered_masked(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let endpoint = Receiver::start().await;
        let subscriptions = app.client.subscriptions();
        let client = ClientCredentials::new(endpoint.url(), "me", "s3cret");
        for (authentication, name, value) in [
            (Authentication::basic("me", "s3cret"), "authorization", "Basic ********"),
            (Authentication::bearer("s3cret"), "authorization", "Bearer ********"),
            (Authentication::client_credentials(client), "authorization", "Bearer ********"),
            (Authentication::api_key("X-K", "s3cret"), "x-k", "********"),
        ] {
            let new = || Subscription::to(receiver.url()).event_types(["**"]);
            let created = subscriptions.create(new().authentication(authentication.clone())).await.unwrap().subscription;
            let masked = created.authentication.unwrap();
            for rendered in [
                subscriptions.render_event(&created.name).await.unwrap(),
                subscriptions.render_event_for(new().authentication(authentication)).await.unwrap(),
                subscriptions.render_event_for(new().authentication(masked)).await.unwrap(),
            ] {
                let header = rendered.headers.iter().find(|header| header.name == name);
                assert_eq!(header.map(|header| header.value.as_str()), Some(value));
            }
        }
        assert!(endpoint.requests().is_empty(), "no token is asked for");
        app.stop().await;
    }

    async fn an_event_is_rendered_without_being_sent(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let format = Format::template("{{ data.id }} {{ subscription }}")
            .method(Method::Put)
            .header("X-Open", "seen")
            .secret_header("X-Key", "hidden");
        subscribe(&app, &receiver, format).await;
        let published = app.client.publish(an_event().data(r#"{"id":17}"#, "application/json")).await.unwrap();
        app.run_until_idle().await;
        let sent = &receiver.requests()[0];
        let subscriptions = app.client.subscriptions();
        let rendered = subscriptions.render_event("made").stored_event(published.event_id()).await.unwrap();
        assert_eq!((rendered.method.as_str(), rendered.target_url), ("PUT", receiver.url()));
        assert_eq!(rendered.body, sent.body);
        for Header { name, value, .. } in &rendered.headers {
            let shown = if ["x-key", "webhook-signature"].contains(&name.as_str()) { "********" } else { sent.header(name) };
            assert_eq!(value, shown, "{name}");
        }
        // All but what the connection adds.
        assert_eq!(rendered.headers.len(), sent.headers.len() - 2);

        // One that was read, with a change; its secrets are masks.
        let event = || an_event().data(r#"{"id":18}"#, "application/json");
        let rendered = subscriptions.render_event("made").event(event()).await.unwrap();
        assert_eq!(rendered.body, "18 made");
        let shown = subscriptions.get("made").await.unwrap().format.unwrap();
        let rendered = subscriptions.render_event_for(a_new(&receiver, shown)).event(event()).await.unwrap();
        assert_eq!(rendered.body, "18 preview");
        let broken = a_new(&receiver, Format::template("a\n{{ data.id.below.it }}"));
        let rendered = subscriptions.render_event_for(broken).event(event()).await.unwrap();
        let Some(TemplateError { message, line, column, .. }) = rendered.template_error else { panic!() };
        let said = "undefined value: what this looks into is not there, in `data.id.below.it`";
        assert_eq!((message.as_str(), line, column), (said, 2, 11));
        assert!(rendered.body.is_empty() && rendered.headers.is_empty());
        let malformed = a_new(&receiver, Format::template("a\n{{ data.id"));
        let refused = subscriptions.render_event_for(malformed).await.unwrap_err();
        let violation = &refused.field_violations()[0];
        assert_eq!(violation.field, "subscription.format.template.source");
        assert!(violation.description.starts_with("line 2, column 9: syntax error"), "{violation:?}");

        // Without an event, one as test events are; whatever the form.
        let envelope = subscriptions.render_event_for(a_new(&receiver, Format::raw())).await.unwrap();
        assert_eq!(envelope.body, r#"{"test":true}"#);
        let nobody = subscriptions.render_event("nobody").await.unwrap_err();
        assert!(nobody.is_not_found());
        let nothing = subscriptions.render_event("made").stored_event("evt_00000000000000000000000000").await;
        assert!(nothing.unwrap_err().is_not_found());
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 1);
        assert_eq!(app.client.events().list().items().collect().await.unwrap().len(), 1);
        app.stop().await;
    }
}

fn a_new(receiver: &Receiver, format: Format) -> NewSubscription {
    Subscription::to(receiver.url()).event_types(["**"]).format(format)
}

/// Subscribes as `made`, and returns the secret.
async fn subscribe(app: &TestApp, receiver: &Receiver, format: Format) -> postrider_sdk::Secret {
    app.client.subscriptions().create(a_new(receiver, format).id("made")).await.unwrap().secret
}
