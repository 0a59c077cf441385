//! A message for an incoming webhook of Slack.

use super::{Body, Error};
use crate::template;

/// The text of those who set none. Nothing of the event can begin or end the block of code: in JSON a backtick can be written
/// otherwise, in a subject it cannot.
pub(super) const TEXT: &str = "*{{ type }}*\
    {% if subject is defined %} {{ subject | replace('```', \"'''\") }}{% endif %}\
    {% if data is defined %}\n```{{ data | tojson | replace('`', '\\\\u0060') | truncate(3000) }}```{% endif %}";

/// `{"text": …}`, of a text whose `&`, `<` and `>` are escaped where they are not meant.
pub(super) fn write(text: &str) -> Result<Body, Error> {
    if text.is_empty() {
        return Err(template::Error::nothing().into());
    }
    Ok(Body::json(format!("{{\"text\":{}}}", serde_json::to_string(text)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::fixtures::event,
        template::{Escaping, Template},
    };

    #[test]
    fn the_text_of_those_who_set_none_tells_what_happened() {
        let template = Template::compile(TEXT).unwrap();
        let text = |data: &[u8], content_type| {
            let mut event = event(data, content_type);
            event.content.subject = "A & B".to_owned();
            template.render(&event, "orders", Escaping::Mrkdwn).unwrap()
        };
        assert_eq!(text(br#"{"a":"<b>"}"#, ""), "*order.created* A &amp; B\n```{\"a\":\"&lt;b&gt;\"}```");
        assert_eq!(text(b"\xff", "image/png"), "*order.created* A &amp; B");
        let long = format!("\"{}\"", "x".repeat(9_000));
        assert_eq!(
            text(long.as_bytes(), "").chars().count(),
            "*order.created* A &amp; B\n``````".len() + 3_001
        );
        let fenced = text(b"{\"a\":\"``` <!channel> `\"}", "");
        let expected = r#"{"a":"\u0060\u0060\u0060 &lt;!channel&gt; \u0060"}"#;
        assert_eq!(fenced, format!("*order.created* A &amp; B\n```{expected}```"));
        let mut other = event(b"1", "");
        other.content.subject = "```".to_owned();
        let made = template.render(&other, "orders", Escaping::Mrkdwn).unwrap();
        assert_eq!(made, "*order.created* '''\n```1```");
        assert_eq!(&write("a\n\"b\"").unwrap().bytes[..], br#"{"text":"a\n\"b\""}"#);
    }
}
