//! What is refused at create is held against what the library does at run time, for every operator and function with every kind.

use cel::Value;

use super::{
    Facts, Program, arithmetic, compile, functions,
    kind::Kind,
    meter,
    tests::{deep, event},
};
use crate::domain::timestamp::Timestamp;

/// Values of each kind, some of which every function and operator that takes the kind can do something with.
const SAMPLES: [(Kind, &[&str]); 12] = [
    (Kind::Bool, &["true"]),
    (Kind::Int, &["0", "1"]),
    (Kind::Uint, &["0u", "1u"]),
    (Kind::Double, &["0.0", "1.0", "1.5"]),
    (Kind::Text, &["'1'", "'true'", "'region'", "'2023-01-01T00:00:00Z'", "'1s'", "'+01:00'"]),
    (Kind::Bytes, &["b'a'"]),
    (Kind::Null, &["null"]),
    (Kind::List, &["[1, 2]"]),
    (Kind::Map, &["{'1': 1, 1: 1, true: 1}"]),
    (Kind::Texts, &["attributes"]),
    (Kind::Time, &["time"]),
    (Kind::Span, &["duration('1s')"]),
];

/// How operands are put into an expression.
type Writing<'a> = dyn Fn(&[String]) -> String + 'a;

/// What comes of an expression when it is evaluated, whatever that is.
fn value(text: &str) -> Option<Value> {
    let program = compile(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    let event = event("{}");
    let metered = meter::Metered::begin(1_000_000, program.patterns.clone(), None);
    let outcome = Facts::new(&event, Timestamp::default()).context().resolve(&program.ast);
    metered.end();
    outcome.ok()
}

/// The values that come of it with any samples, which are hidden from the checker.
fn values(operands: &[(Kind, &[&str])], written: &Writing<'_>) -> Vec<Value> {
    let mut combinations = vec![Vec::new()];
    for (_, samples) in operands {
        combinations = combinations
            .into_iter()
            .flat_map(|before: Vec<String>| {
                samples.iter().map(move |sample| [&before[..], &[format!("dyn({sample})")]].concat())
            })
            .collect();
    }
    let all = combinations.iter().filter_map(|operands| value(&format!("dyn({})", written(operands))));
    all.collect()
}

fn is_of(value: &Value, kind: Kind) -> bool {
    match value {
        Value::Bool(_) => kind == Kind::Bool,
        Value::Int(_) => kind == Kind::Int,
        Value::UInt(_) => kind == Kind::Uint,
        Value::Float(_) => kind == Kind::Double,
        Value::String(_) => kind == Kind::Text,
        Value::Bytes(_) => kind == Kind::Bytes,
        Value::List(_) => kind == Kind::List,
        Value::Timestamp(_) => kind == Kind::Time,
        Value::Duration(_) => kind == Kind::Span,
        _ => false,
    }
}

/// Whether the checker lets it through with operands whose kinds are known.
fn is_accepted(operands: &[(Kind, &[&str])], written: &Writing<'_>) -> bool {
    let operands: Vec<String> = operands.iter().map(|(_, samples)| samples[0].to_owned()).collect();
    compile(&format!("dyn({}) != null", written(&operands))).is_ok()
}

#[test]
fn operators_are_refused_for_exactly_those_kinds_that_they_never_work_with() {
    let binary =
        [("_+_", "+"), ("_-_", "-"), ("_*_", "*"), ("_/_", "/"), ("_%_", "%"), ("_<_", "<"), ("_>=_", ">=")];
    deep(|| {
        for left in SAMPLES {
            for right in SAMPLES {
                for (name, sign) in binary {
                    let written = |operands: &[String]| format!("({}) {sign} ({})", operands[0], operands[1]);
                    let found = values(&[left, right], &written);
                    let accepted = is_accepted(&[left, right], &written);
                    assert_eq!(accepted, !found.is_empty(), "{:?} {sign} {:?}", left.0, right.0);
                    let kind = arithmetic::result(name, left.0, right.0).unwrap_or(Kind::Bool);
                    let known = found.iter().all(|value| is_of(value, kind));
                    assert!(known, "{:?} {sign} {:?}: {kind:?} {found:?}", left.0, right.0);
                }
                let written = |operands: &[String]| format!("({})[{}]", operands[0], operands[1]);
                let works = !values(&[left, right], &written).is_empty();
                assert_eq!(is_accepted(&[left, right], &written), works, "{:?}[{:?}]", left.0, right.0);
            }
            for sign in ["-", "!"] {
                let written = |operands: &[String]| format!("{sign}({})", operands[0]);
                let works = !values(&[left], &written).is_empty();
                assert_eq!(is_accepted(&[left], &written), works, "{sign} {:?}", left.0);
            }
            let written = |operands: &[String]| format!("{{{}: 1}}", operands[0]);
            let works = !values(&[left], &written).is_empty();
            assert_eq!(is_accepted(&[left], &written), works, "a key: {:?}", left.0);
        }
    });
}

#[test]
fn functions_are_refused_for_exactly_those_kinds_that_they_never_work_with() {
    deep(|| {
        for name in functions::names() {
            for one in SAMPLES {
                let forms: [&Writing<'_>; 2] =
                    [&|operands| format!("{name}({})", operands[0]), &|operands| {
                        format!("({}).{name}()", operands[0])
                    }];
                for (written, is_method) in forms.into_iter().zip([false, true]) {
                    let target = is_method.then_some(one.0);
                    let arguments = if is_method { &[][..] } else { &[one.0] };
                    let returned = functions::returned(name, target, arguments);
                    if returned == Err(functions::Unfit::Misused) {
                        continue;
                    }
                    let found = values(&[one], written);
                    assert_eq!(returned.is_ok(), !found.is_empty(), "{name} {:?}", one.0);
                    let kind = returned.unwrap_or(Kind::Any);
                    let known = kind == Kind::Any || found.iter().all(|value| is_of(value, kind));
                    assert!(known, "{name} {:?}: {kind:?} {found:?}", one.0);
                }
                for argument in SAMPLES {
                    if functions::returned(name, Some(one.0), &[argument.0]) == Err(functions::Unfit::Misused)
                    {
                        continue;
                    }
                    let written = |operands: &[String]| format!("({}).{name}({})", operands[0], operands[1]);
                    let works = !values(&[one, argument], &written).is_empty();
                    let accepted = is_accepted(&[one, argument], &written);
                    assert_eq!(accepted, works, "{:?}.{name}({:?})", one.0, argument.0);
                }
            }
        }
    });
}

#[test]
fn kinds_that_do_not_fit_are_refused_with_their_position() {
    for (text, column, part) in [
        (
            "source + 1 == \"a\"",
            8,
            "`+` cannot be used with a string and an int; convert one of them, as by `string(…)`",
        ),
        ("1 + \"a\" == \"b\"", 3, "`+` cannot be used with an int and a string"),
        ("data.amount > \"x\" + 1", 19, "`+` cannot be used with a string and an int"),
        (
            "1 + 1.5 > 2.0",
            3,
            "`+` cannot be used with an int and a double; convert one of them, as by `double(…)`",
        ),
        ("data.amount * 2 + 0.5 > 2.0", 17, "`+` cannot be used with an int and a double"),
        ("7.5 % 2.0 == 1.5", 5, "it takes two ints or two uints"),
        ("time + 5 > time", 6, "it takes a duration, as `duration('1h')`"),
        ("time + time > time", 6, "`+` cannot be used with a timestamp and a timestamp"),
        ("-type == 'a'", 1, "`-` cannot be used with a string"),
        ("-1u == 1", 1, "`-` cannot be used with a uint"),
        ("null + 1 == 1", 6, "`+` cannot be used with null and an int"),
        ("{'a': 1} + {'b': 2} == data", 10, "`+` cannot be used with a map and a map"),
        ("true + 1 == 2", 6, "`+` cannot be used with a bool and an int"),
        ("subject.startsWith(1)", 20, "`startsWith` cannot be used with an int, but with a string"),
        ("data.x.contains(time)", 17, "`contains` cannot be used with a timestamp, but with a string"),
        ("time.startsWith('a')", 6, "`startsWith` cannot be called on a timestamp, but on a string"),
        ("size(1) > 1", 6, "`size` cannot be used with an int, but with a string, bytes, a list or a map"),
        (
            "time.size() == 1",
            6,
            "`size` cannot be called on a timestamp, but on a string, bytes, a list or a map",
        ),
        ("int(true) == 1", 5, "`int` cannot be used with a bool"),
        ("timestamp(1.5) < time", 11, "`timestamp` cannot be used with a double"),
        (
            "duration(5) < duration('1s')",
            10,
            "`duration` cannot be used with an int, but with a string or a duration",
        ),
        (
            "type.getHours() == 1",
            6,
            "`getHours` cannot be called on a string, but on a timestamp or a duration",
        ),
        ("duration('1h').getHours('UTC') == 1", 16, "cannot be called on a duration, but on a timestamp"),
        ("time.getHours(1) == 1", 15, "`getHours` cannot be used with an int, but with a string"),
        ("attributes[1] == 'a'", 12, "a map cannot be looked into by an int, but by a string"),
        ("[1]['a'] == 1", 5, "a list cannot be looked into by a string"),
        ("{1.5: 1} == data", 2, "a key of a map cannot be a double"),
        ("data.lines.all(line, type.startsWith(1))", 38, "`startsWith` cannot be used with an int"),
    ] {
        let fault = Program::compile(text).expect_err(text);
        assert!(fault.message.contains(part), "{text}: {fault}");
        assert_eq!((fault.line, fault.column), (1, column), "{text}: {fault}");
    }
}

#[test]
fn what_can_work_is_accepted_and_works() {
    let event =
        event(r#"{"amount": 3, "price": 1.5, "at": "2023-01-01T00:00:00Z", "name": "a", "list": [1]}"#);
    for text in [
        "data.amount + 1 == 4",
        "data.price * 2.0 == 3.0",
        "double(data.amount) * data.price == 4.5",
        "data.amount + data.amount * 2 == 9",
        "data.name + 'b' == 'ab' && type + '!' == 'order.created!'",
        "data.list + [2] == [1, 2] && size(data.list + data.list) == 2",
        "string(data.amount) + 'x' == '3x'",
        "b'a' + b'b' == bytes('ab')",
        "timestamp(data.at) + duration('24h') == timestamp('2023-01-02T00:00:00Z')",
        "time - timestamp(data.at) > duration('1h') - duration('30m')",
        "duration('1h') + time > time",
        "duration('90m').getHours() == 1 && time.getHours('UTC') >= 0",
        "-data.amount == -3 && -(data.amount - 1) == -2",
        "7 % data.amount == 1 && 7u / 2u == 3u",
        "subject.startsWith(data.missing) || source == 'shop'",
        "size(data) == 5 && size(attributes) == 1 && data.size() == 5",
        "int(data.price) == 1 && int('3') == data.amount && int(time) > 0",
        "data.list[0] == 1 && data['amount'] == 3 && attributes['region'] == 'eu'",
        "(data.amount > 1 ? 'a' : 1) == 'a'",
        "dyn(1) == 1",
    ] {
        let program = Program::compile(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        let time = Timestamp::from_micros(1_700_000_000_000_000);
        assert_eq!(deep(|| program.evaluate(&Facts::new(&event, time))), Ok(true), "{text}");
    }
}
