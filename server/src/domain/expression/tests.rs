use std::{cell::Cell, collections::BTreeMap, rc::Rc, time::Instant};

use super::*;
use crate::domain::{
    event::{Attributes, EventContent, Payload},
    event_type::EventType,
    handling::Handling,
    timestamp::Timestamp,
};

pub(super) fn event(data: &str) -> EventContent {
    let attributes = BTreeMap::from([("region".to_owned(), "eu".to_owned())]);
    EventContent {
        event_type: EventType::parse("order.created").unwrap(),
        source: "shop".to_owned(),
        subject: "order/1".to_owned(),
        time: None,
        payload: Payload::parse(data.to_owned().into_bytes().into(), "", 2 << 20).unwrap(),
        attributes: Attributes::from_stored(attributes),
        handling: Handling::default(),
    }
}

fn evaluate(text: &str, data: &str) -> Result<bool, Failure> {
    let event = event(data);
    let program = Program::compile(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    let time = Timestamp::from_micros(1_700_000_000_000_000);
    deep(|| program.evaluate(&Facts::new(&event, time)))
}

/// As evaluations are done.
pub(super) fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        thread::Builder::new().stack_size(EVALUATION_STACK).spawn_scoped(scope, work).unwrap().join().unwrap()
    })
}

#[test]
fn expressions_look_at_everything_an_event_has() {
    let data = r#"{"amount": 150, "price": 1.5, "big": 18446744073709551615, "tags": ["a", "b"], "lines": [{"n": 1}, {"n": 2}], "none": null, "name": "Zürich"}"#;
    for (text, expected) in [
        (r#"data.amount > 100 && attributes.region == "eu""#, true),
        (r#"data.amount > 100 && attributes["region"] == "us""#, false),
        (r#"type == "order.created" && source == "shop" && subject.startsWith("order/")"#, true),
        (r#"type.matches("^order\\.(created|paid)$")"#, true),
        (r#"matches(type, "^invoice")"#, false),
        ("time > timestamp('2023-01-01T00:00:00Z') && time.getFullYear() == 2023", true),
        ("data.amount + 1 == 151 && data.price < 2 && data.amount == 150.0", true),
        ("data.big > 5u", true),
        ("'a' in data.tags && !('z' in data.tags)", true),
        ("data.lines.exists(line, line.n == 2)", true),
        ("data.lines.all(line, line.n > 1)", false),
        ("data.lines.exists_one(line, line.n > 1)", true),
        ("data.lines.map(line, line.n).filter(n, n > 1).size() == 1", true),
        ("data.lines.map(line, line.n + 1) == [2, 3]", true),
        ("data.none == null && has(data.amount) && !has(data.nothing)", true),
        ("has(attributes.region) && !has(attributes.zone)", true),
        ("attributes.exists(key, key.startsWith('reg'))", true),
        ("size(data.name) == 6 && data.name.contains('rich')", true),
        ("data.amount > 100 ? true : data.price > 1", true),
        ("{'eu': true, 'us': false}[attributes.region]", true),
        ("data['amount'] in [1, 150]", true),
        ("true", true),
    ] {
        assert_eq!(evaluate(text, data), Ok(expected), "{text}");
    }
}

#[test]
fn what_cannot_work_is_refused_with_its_position() {
    let long = "x".repeat(MAX_TEXT + 1);
    for (text, line, column, part) in [
        ("data.amount >", 1, 14, ""),
        ("data.amount > 100 &&\n  dato.x == 1", 2, 3, "there is no `dato`"),
        ("data.name == 'ü' && foo(1)", 1, 21, "there is no function `foo`"),
        ("attributes.region > 5", 1, 19, "cannot compare a string with an int"),
        ("type", 1, 1, "the result is a string, but must be a bool"),
        ("1 + 1", 1, 3, "the result is an int"),
        ("data.x + 1", 1, 8, "the result is an int"),
        ("data.x + data.y", 1, 8, "the result is a calculated value"),
        ("data.lines.map(x, x)", 1, 15, "the result is a list"),
        ("[true]", 1, 1, "the result is a list"),
        ("type && true", 1, 1, "`&&` cannot be used with a string"),
        ("data.x.matches(data.y)", 1, 20, "must be a literal"),
        ("data.x.matches('(')", 1, 16, "the pattern cannot be used"),
        ("data.x.matches('(\\\\w{1000}){1000}')", 1, 16, "the pattern cannot be used"),
        ("data.x.lowerAscii() == 'a'", 1, 8, "there is no function `lowerAscii`"),
        ("type.region == 'a'", 1, 5, "a string has no field `region`"),
        ("@spend(data) == 1", 1, 1, ""),
        ("a.b.C{x: 1} == 1", 1, 6, "messages cannot be made"),
        ("data.all(type)", 1, 6, "there is no function `all`"),
        ("data.size() == 1 && type.contains(1, 2)", 1, 26, "`contains` is not called like this"),
        (&long, 1, 1, "has 4097 bytes; at most 4096"),
    ] {
        let fault = Program::compile(text).expect_err(text);
        assert!(fault.message.contains(part), "{text}: {fault}");
        assert_eq!((fault.line, fault.column), (line, column), "{text}: {fault}");
    }
}

#[test]
fn what_is_not_there_fails_and_says_what() {
    for (text, part) in [
        ("data.missing > 1", "there is no `missing`"),
        ("data.a.b.c == 1", "there is no `a`"),
        ("data.text > 1", "no matching overload"),
        ("attributes.zone == 'x'", "there is no `zone`"),
        ("data.text.matches('x') || data.amount.matches('x')", "only texts"),
        ("1 / data.zero == 1", "Division by zero"),
        ("data.amount * 9223372036854775807 > 0", "Overflow"),
    ] {
        let failure = evaluate(text, r#"{"amount": 10, "text": "hm", "zero": 0}"#).expect_err(text);
        assert!(failure.to_string().contains(part), "{text}: {failure}");
    }
    assert_eq!(evaluate("data.x", r#"{"x": 1}"#), Err(Failure::NotBool));
    let mut plain = event("{}");
    plain.payload = Payload::parse("no json".into(), "text/plain", 100).unwrap();
    let program = Program::compile("data.x == 1").unwrap();
    assert_eq!(program.evaluate(&Facts::new(&plain, Timestamp::default())), Err(Failure::NoData));
    for unreadable in [r#"{"x": 1e400}"#, r#"{"x": "\ud800"}"#] {
        let failure = evaluate("data.x == 1", unreadable);
        assert_eq!(failure, Err(Failure::UnreadableData), "{unreadable}");
    }
    let program = Program::compile("type == 'order.created' || data.x == 1").unwrap();
    assert_eq!(program.evaluate(&Facts::new(&plain, Timestamp::default())), Ok(true));
}

/// One that is hostile.
fn repeated(part: &str, times: usize, before: &str, after: &str) -> String {
    format!("{before}{}{after}", part.repeat(times))
}

#[test]
fn hostile_texts_are_refused_or_compiled_without_harm() {
    for text in [
        repeated("(", 2_000, "", "true"),
        format!("{}true{}", "(".repeat(1_000), ")".repeat(1_000)),
        format!("{}data{}", "[".repeat(1_000), "]".repeat(1_000)),
        repeated("!", 4_000, "", "true"),
        repeated("-", 4_000, "", "1 == 1"),
        repeated(".a", 2_000, "data", ""),
        repeated("[0]", 1_300, "data", ""),
        repeated("+1", 2_000, "1", " == 1"),
        repeated("&&a", 1_300, "a", ""),
        repeated("==1", 1_300, "1", ""),
        repeated("a?b:", 1_000, "", "c"),
        repeated("data.all(x, ", 300, "", "true"),
        repeated("{'a':", 800, "", "1"),
        repeated("x.map(y, y+y).", 280, "data.", "size() > 1"),
        repeated("\u{0}", 4_000, "", ""),
        repeated("'", 4_001, "", ""),
    ] {
        let started = Instant::now();
        let shown: String = text.chars().take(40).collect();
        let compiled = Program::compile(&text);
        assert!(started.elapsed().as_secs() < 10, "{shown}… took {:?}", started.elapsed());
        if let Ok(program) = compiled {
            let event = event("{}");
            let _ = deep(|| program.evaluate(&Facts::new(&event, Timestamp::default())));
        }
    }
}

/// About a MiB.
fn big(item: &str) -> String {
    let count = (1 << 20) / (item.len() + 1) - 10;
    format!("{{\"items\":[{}],\"t\":\"x\"}}", vec![item; count].join(","))
}

#[test]
fn what_would_take_long_fails_in_time() {
    let numbers = big("12345");
    let objects = big(r#"{"price":12,"tags":["a","b"]}"#);
    let text = format!("{{\"t\":\"{}\"}}", "a".repeat((1 << 20) - 100));
    let sum = "data.items.map(y, 'aaaaaaaaaaaaaaaa')".to_owned();
    for (text, data) in [
        ("data.items.all(x, data.items.all(y, data.items.all(z, x <= y + z)))", &numbers),
        ("data.items.exists(x, data.items.exists(y, x > y))", &numbers),
        ("data.items.exists(x, data.items.exists(y, x.price > y.price))", &objects),
        ("data.items.map(x, data).size() > 1", &objects),
        ("data.items.all(x, data == data)", &objects),
        ("data.items.all(x, !(x in data.items.map(y, -y)))", &numbers),
        ("data.items.all(x, data.items.size() < 0 || size(data.items.filter(y, true)) > 1)", &numbers),
        (&repeated("data,", 700, "[", "1].size() > 1"), &objects),
        (&repeated("data<1||", 100, "", "false"), &objects),
        (&repeated(".map(y, y + y)", 30, "[data.t]", ".size() > 1"), &text),
        (&repeated("data.t.matches('(a?){30}a{30}b$')||", 20, "", "false"), &text),
        (&sum.replace("data.items", "data.items.filter(z, data.items.exists(q, q > 1 && z > 1))"), &numbers),
    ] {
        let text = if text.contains("size()") || text.contains('(') && !text.starts_with("data.items.map(y") {
            text.to_owned()
        } else {
            format!("size({text}) > 1")
        };
        let Ok(program) = Program::compile(&text) else { continue };
        let event = event(data);
        let (outcome, took) = deep(|| {
            let facts = Facts::new(&event, Timestamp::default());
            let _ = facts.context();
            let started = Instant::now();
            (program.evaluate(&facts), started.elapsed())
        });
        println!("{took:?} {outcome:?} {}", &text[..text.len().min(70)]);
        assert!(outcome.is_err(), "{text}: {outcome:?}");
        assert!(took.as_secs() < 20, "{text} took {took:?}");
    }
}

#[test]
fn a_loop_over_a_big_list_is_no_offence() {
    let objects = big(r#"{"price":12,"tags":["a","b"]}"#);
    assert_eq!(evaluate("data.items.exists(x, x.price > 100)", &objects), Ok(false));
    assert_eq!(evaluate("data.items.all(x, x.tags.exists(t, t == 'b'))", &objects), Ok(true));
}

#[test]
fn many_expressions_on_one_event_share_a_budget() {
    let numbers = big("12345");
    let event = event(&numbers);
    let facts = Facts::new(&event, Timestamp::default());
    let program = Program::compile("data.items.exists(x, x < 0)").unwrap();
    let outcomes: Vec<_> = (0..60).map(|_| program.evaluate(&facts)).collect();
    assert_eq!(outcomes[0], Ok(false));
    assert_eq!(outcomes[59], Err(Failure::TooCostlyTogether));
    let cheap = Program::compile("type == 'order.created'").unwrap();
    assert_eq!(cheap.evaluate(&Facts::new(&event, Timestamp::default())), Ok(true));
}

#[test]
fn an_evaluation_that_takes_long_pauses_now_and_then_wherever_it_is() {
    let event = event(&format!("{{\"items\":[{}]}}", vec!["12345"; 20_000].join(",")));
    for text in ["data.items.exists(x, x < 0)", "data.items.exists(x, [1, 2].exists(y, x + y < 0))"] {
        let pauses = Rc::new(Cell::new(0));
        let counted = Rc::clone(&pauses);
        let pause: Pause = Rc::new(move || {
            counted.set(counted.get() + 1);
            true
        });
        let facts = Facts::new(&event, Timestamp::default()).with_pause(pause);
        assert_eq!(Program::compile(text).unwrap().evaluate(&facts), Ok(false));
        assert!(pauses.get() > 10, "{text}: {}", pauses.get());
        // One that is not to go on ends there.
        let asked = Rc::new(Cell::new(0));
        let counted = Rc::clone(&asked);
        let pause: Pause = Rc::new(move || {
            counted.set(counted.get() + 1);
            false
        });
        let facts = Facts::new(&event, Timestamp::default()).with_pause(pause);
        assert_eq!(Program::compile(text).unwrap().evaluate(&facts), Err(Failure::Stopped));
        assert_eq!(asked.get(), 1);
    }
}
