//! What templates can do, and that those who mean harm come to an end. What ends is fuel, work or room: none of it depends on how fast
//! the machine is.

use bytes::Bytes;

use super::*;
use crate::domain::{
    event::{Attributes, Payload},
    fixtures::event,
};

fn event_with(data: &str) -> Event {
    let mut event = event(data.as_bytes(), "");
    event.content.subject = "A & B".to_owned();
    event.content.attributes = Attributes::parse([("region".to_owned(), "eu".to_owned())]).unwrap();
    event
}

fn rendered_as(source: &str, data: &str, escaping: Escaping) -> Result<String, Error> {
    Template::compile(source)?.render(&event_with(data), "orders", escaping)
}

fn rendered(source: &str, data: &str) -> Result<String, Error> {
    rendered_as(source, data, Escaping::None)
}

const ORDER: &str = r#"{"id": 17, "price": 1.10, "who": "A & <B>", "paid": true, "lines": [{"n": 1}, {"n": 2}], "z": 1, "a": null}"#;

#[test]
fn a_body_is_made_of_what_the_event_says() {
    for (source, expected) in [
        (
            "{{ type }} {{ timestamp }} {{ subject }} {{ attributes.region }}",
            "order.created 2024-11-21T10:59:59.25Z A & B eu",
        ),
        ("{{ tenant }}/{{ subscription }} {{ id is startingwith('evt_') }}", "default/orders true"),
        ("{{ source }}|{{ source is defined }}|{{ data.nothing }}|{{ data.a }}", "|false||"),
        (r#"{"t": {{ ("Order " ~ data.id ~ ", " ~ data.who) | tojson }}}"#, r#"{"t": "Order 17, A & <B>"}"#),
        (
            "{{ data.paid }} {{ data.price }} {{ data.lines }} {{ data.a | tojson }}",
            r#"true 1.1 [{"n":1},{"n":2}] null"#,
        ),
        ("{{ data | tojson | length }} {{ data.nothing | tojson }}", "90 null"),
        (
            "{% for line in data.lines %}{{ loop.index }}={{ line.n * 10 }}{% if not loop.last %}, {% endif %}{% endfor %}",
            "1=10, 2=20",
        ),
        ("{% for line in data.lines if line.n > 1 %}{{ line.n }}{% else %}none{% endfor %}", "2"),
        ("{% for key, value in attributes | items %}{{ key }}={{ value }}{% endfor %}", "region=eu"),
        ("{% set name = data.who | upper %}{% with n = 1 + 1 %}{{ name ~ n }}{% endwith %}", "A & <B>2"),
        ("{{ 'yes' if data.id == 17 and 'B' in data.who else 'no' }}", "yes"),
        (
            "{{ data.who | mrkdwn }} {{ data.who | xmlescape }} {{ data.who | urlencode }}",
            "A &amp; &lt;B&gt; A &amp; &lt;B&gt; A%20%26%20%3CB%3E",
        ),
        (
            "{{ data.nothing | default('none') }} {{ data.who | truncate(3) }} {{ data.who | replace('A', 'C') }}",
            "none A &… C & <B>",
        ),
        (
            "{{ [1, 2] | join('-') }} {{ data.lines | first | tojson }} {{ data.lines[-1].n }} {{ 1.26 | round(1) }}",
            r#"1-2 {"n":1} 2 1.3"#,
        ),
        ("{# nothing #}{{ '{{' }} {% raw %}{{ x }}{% endraw %}", "{{ {{ x }}"),
    ] {
        assert_eq!(rendered(source, ORDER).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn data_that_is_not_json_is_not_there() {
    let template = Template::compile("{{ data is defined }} {{ data }}{{ type }}").unwrap();
    let made = template.render(&event(b"\xff", "image/png"), "orders", Escaping::None);
    assert_eq!(made.as_deref(), Ok("false order.created"));
}

#[test]
fn what_is_written_into_slack_texts_is_escaped_once() {
    let source = "<https://example.com|{{ data.who }}> {{ data.who | mrkdwn }} {{ [data.who] }} & {{ '<' }}";
    let expected =
        r#"<https://example.com|A &amp; &lt;B&gt;> A &amp; &lt;B&gt; ["A &amp; &lt;B&gt;"] & &lt;"#;
    assert_eq!(rendered_as(source, ORDER, Escaping::Mrkdwn).as_deref(), Ok(expected));
}

#[test]
fn what_is_not_let_through_is_refused_where_it_stands() {
    for (source, place, reason) in [
        ("{{ 1 +\n }}", (2, 2), "syntax error"),
        ("{% if x %}", (1, 9), "syntax error"),
        ("a\n  {{ 'x' | shout }}", (2, 12), "there is no filter `shout`; there are `abs`"),
        ("{{ 'x' | *paid }}", (1, 10), "syntax error"),
        ("{{ x is odder }}", (1, 9), "there is no test `odder`"),
        ("{{ range(9) }}", (1, 4), "cannot be called"),
        ("{{ data.keys() }}", (1, 8), "cannot be called"),
        ("{{ x[1:2] }}", (1, 4), "slices"),
        ("{% for x in y recursive %}{% endfor %}", (1, 4), "a recursive loop"),
        ("{% set x %}a{% endset %}", (1, 4), "`set` with a body"),
        ("{% filter upper %}a{% endfilter %}", (1, 4), "a filter block"),
        ("{% autoescape true %}a{% endautoescape %}", (1, 4), "`autoescape`"),
        ("{% macro f() %}{% endmacro %}", (1, 4), "unknown statement macro"),
        ("{% include 'x' %}", (1, 4), "unknown statement include"),
        ("{% extends 'x' %}", (1, 4), "unknown statement extends"),
    ] {
        let refused = Template::compile(source).unwrap_err();
        assert!(refused.message.contains(reason), "{source}: {refused}");
        assert_eq!(refused.place, Some(place), "{source}: {refused}");
    }
    assert!(Template::compile(&"x".repeat(MAX_SOURCE)).is_ok());
    assert!(Template::compile(&"x".repeat(MAX_SOURCE + 1)).unwrap_err().message.contains("16385 bytes"));
}

#[test]
fn names_that_nobody_sets_are_refused_where_they_stand() {
    for (source, place, name) in [
        ("{{ dta }}", (1, 4), "dta"),
        ("{{ dta.id }}", (1, 4), "dta"),
        ("{{ data.dta }}\n{% if dta %}{% endif %}", (2, 7), "dta"),
        ("{{ dta | default('x') }}", (1, 4), "dta"),
        ("{{ 'x' | replace('x', dta) }}", (1, 23), "dta"),
        ("{{ loop.index }}", (1, 4), "loop"),
        ("{% for line in lines %}{{ line }}{% endfor %}", (1, 16), "lines"),
        ("{{ zeta }}{{ alpha }}", (1, 4), "zeta"),
    ] {
        let refused = Template::compile(source).unwrap_err();
        let message = format!("there is no `{name}`; there are `type`, `id`, `timestamp`");
        assert!(refused.message.starts_with(&message), "{source}: {refused}");
        assert_eq!(refused.place, Some(place), "{source}: {refused}");
    }
    for source in [
        "{{ type }}{{ id }}{{ timestamp }}{{ source }}{{ subject }}{{ attributes }}{{ data }}{{ tenant }}{{ subscription }}",
        "{% if data %}{% set x = 1 %}{% else %}{% set x = 2 %}{% endif %}{{ x }}",
        "{% for key, (a, b) in data | items %}{{ key }}{{ a }}{{ b }}{{ loop.index }}{% else %}{% endfor %}",
        "{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}",
        "{% set x = 1 %}{% for i in [1] %}{{ x }}{% set y = i %}{{ y }}{% endfor %}",
        "{{ {'k': true}.k }}{{ none }}{{ 'x' if data is defined and not false }}",
    ] {
        Template::compile(source).unwrap_or_else(|refused| panic!("{source}: {refused}"));
    }
}

#[test]
fn a_failure_names_the_expression_that_failed() {
    let long = format!("{{{{ data.nothing.below ~ '{}' }}}}", "x".repeat(100));
    for (source, message) in [
        ("{{ type }}{{ 'a' | int }}", "the text is no number, in `'a' | int`"),
        ("{{- 'a'|float -}}", "the text is no number, in `'a'|float`"),
        ("{{ data.nothing.below }}", "what this looks into is not there, in `data.nothing.below`"),
        ("{% if data.nothing['x'] == 1 %}{% endif %}", "is not there, in `if data.nothing['x'] == 1`"),
        ("{% for x in data.id %}{% endfor %}", "number is not iterable, in `for x in data.id`"),
        ("{{ data.who * 2 }}", "is for numbers, not for string, in `data.who * 2`"),
        ("{{ data.lines | join(1, 2, 3) }}", "too many arguments, in `data.lines | join(1, 2, 3)`"),
        (&long, &format!("in `{}…`", &long[3..83])),
    ] {
        let failed = rendered(source, ORDER).unwrap_err();
        assert!(failed.message.ends_with(message), "{source}: {failed}");
    }
    assert_eq!(rendered("{{ 'a' | int(default=7) }}{{ '7' | int }}", ORDER).as_deref(), Ok("77"));
}

#[test]
fn trees_that_would_exhaust_the_stack_are_refused() {
    let tag = |inside: String| format!("{{{{ {inside} }}}}");
    for source in [
        tag("-".repeat(16_000) + "1"),
        tag("not ".repeat(4_000) + "1"),
        tag("1".to_owned() + &"~1".repeat(8_000)),
        tag("1".to_owned() + &"|abs".repeat(4_000)),
        tag("a".to_owned() + &".b".repeat(8_000)),
        tag("1".to_owned() + &" if 1 else 1".repeat(1_300)),
        tag("[".repeat(5_000) + &"]".repeat(5_000)),
        tag("(".repeat(5_000) + "1" + &")".repeat(5_000)),
        "{% if 1 %}".repeat(700) + &"{% endif %}".repeat(700),
        "{% if 0 %}".to_owned() + &"{%elif 1%}".repeat(1_300) + "{% endif %}",
    ] {
        let shown: String = source.chars().take(40).collect();
        assert!(Template::compile(&source).is_err(), "{shown}");
    }
}

#[test]
fn whoever_means_harm_runs_out_of_something() {
    let repeated =
        |begin: &str, times, repeated: &str, end: &str| begin.to_owned() + &repeated.repeat(times) + end;
    let big = format!(r#"{{"s": "{}", "l": [{}]}}"#, "a".repeat(400_000), vec!["0"; 200_000].join(","));
    let each = |inside: &str| format!("{{% for a in data.l %}}{inside}{{% endfor %}}");
    let (steps, work, output) =
        ("more than 100000 steps", "more work than is allowed", "more than 1048576 bytes");
    for (source, data, end) in [
        (repeated("{% set x = 'aaaaaaaa' %}", 400, "{% set x = x ~ x %}", "{{ x }}"), ORDER, work),
        (repeated("{% set x = 'aaaaaaaa' %}", 400, "{% set x = x + x %}", "{{ x }}"), ORDER, work),
        (repeated("{% set x = [1] %}", 60, "{% set x = [x, x] %}", "{{ x }}"), ORDER, work),
        (repeated("{% set x = [1] %}", 60, "{% set x = [x, x] %}", "{{ x == x }}"), ORDER, work),
        (repeated("{% set x = [1] %}", 60, "{% set x = [x, x] %}", "{{ x | tojson }}"), ORDER, work),
        (
            repeated("{% set x = [1] %}", 400, "{% set x = [x, x] %}", "{{ x == x }}"),
            ORDER,
            "nested too deeply",
        ),
        (
            repeated("{% set x = {} %}", 400, "{% set x = {'a': x} %}", "{{ x | tojson }}"),
            ORDER,
            "nested too deeply",
        ),
        (each(&each(&each(""))), &big, steps),
        ("{% for a in data.lines %}".repeat(20) + "{{ a.n }}" + &"{% endfor %}".repeat(20), ORDER, steps),
        (each("{% if data.s == data.s ~ 'a' %}{% endif %}"), &big, work),
        (each("{% if 'b' in data.s %}{% endif %}"), &big, work),
        (each("{% if data.s[399999] %}{% endif %}"), &big, work),
        (each("{% if data.s | replace('a', data.s) %}{% endif %}"), &big, work),
        (each("{% if data.s | replace('', data.s) %}{% endif %}"), &big, work),
        (each("{% if data.l | join(data.s) %}{% endif %}"), &big, work),
        (each("{% if data.s | trim(data.s) %}{% endif %}"), &big, work),
        (each("{% if data | tojson %}{% endif %}"), &big, work),
        (each("{% if data.s is startingwith(data.s) %}{% endif %}"), &big, work),
        (each("{% if data.s | length %}{% endif %}"), &big, work),
        (each("{{ data.s }}"), &big, output),
        (each(&"x".repeat(15_000)), &big, output),
        ("{{ 'a' * 1000000000 }}".to_owned(), ORDER, "for numbers, not for string"),
        ("{{ [1] * 1000000000 }}".to_owned(), ORDER, "for numbers, not for sequence"),
        ("{{ data.lines + data.lines }}".to_owned(), ORDER, "`+` is for numbers and texts"),
        ("{{ 9 ** 9999999 }}".to_owned(), ORDER, "unable to calculate"),
        ("\n {{ data.nothing.below }}".to_owned(), ORDER, "undefined"),
    ] {
        let shown: String = source.chars().take(80).collect();
        let error = rendered(&source, data).map(|made| made.len()).unwrap_err();
        assert!(error.message.contains(end), "{shown}: {error}");
        assert!(error.place.is_some(), "{shown}: {error}");
    }
}

#[test]
fn data_that_is_json_by_its_grammar_only_is_said_to_be_so() {
    let failed = rendered("{{ data.x }}", r#"{"x": 1e400}"#).unwrap_err();
    assert!(failed.message.contains("number out of range at line 1 column 11; numbers must be"), "{failed}");
}

#[test]
fn data_beyond_the_limit_is_not_even_read() {
    let mut event = event(b"{}", "");
    event.content.payload =
        Payload { data: Bytes::from(vec![b' '; MAX_DATA + 1]), content_type: "application/json".to_owned() };
    let template = Template::compile("x").unwrap();
    let error = template.render(&event, "orders", Escaping::None).unwrap_err();
    assert!(error.message.contains("1048577 bytes of data"), "{error}");
}
