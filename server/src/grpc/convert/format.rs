//! In what form events are sent.

use postrider_proto::v1 as pb;

use crate::{
    domain::{
        event::check_content_type,
        form::{BodyForm, CloudEventsMode, Form, Headers, MASK, Method, StaticHeader, TemplateForm, Value},
        invalid::Invalid,
    },
    template::Template,
};

/// Reads a form. One that is the default is none.
pub(super) fn form(format: &pb::Format) -> Result<Option<Form>, Invalid> {
    let body = match &format.body {
        None | Some(pb::format::Body::Envelope(pb::EnvelopeFormat {})) => BodyForm::Envelope,
        Some(pb::format::Body::Raw(pb::RawFormat {})) => BodyForm::Raw,
        Some(pb::format::Body::CloudEvents(format)) => {
            BodyForm::CloudEvents(mode(format.mode).map_err(|invalid| invalid.within("cloud_events"))?)
        }
        Some(pb::format::Body::Template(format)) => {
            BodyForm::Template(template(format).map_err(|invalid| invalid.within("template"))?)
        }
        Some(pb::format::Body::Slack(pb::SlackFormat { text })) => {
            if !text.is_empty() {
                compile("slack.text", text)?;
            }
            BodyForm::Slack((!text.is_empty()).then(|| text.clone()))
        }
    };
    let header = |(index, header): (usize, &pb::StaticHeader)| {
        StaticHeader::parse(&header.name, &header.value, header.secret)
            .map_err(|invalid| invalid.within(&format!("headers[{index}]")))
    };
    let headers = format.headers.iter().enumerate().map(header).collect::<Result<_, _>>()?;
    let form = Form { body, method: method(format.method)?, headers: Headers::parse(headers)? };
    Ok((form != Form::default()).then_some(form))
}

fn mode(mode: i32) -> Result<CloudEventsMode, Invalid> {
    match pb::CloudEventsMode::try_from(mode) {
        Ok(pb::CloudEventsMode::Unspecified | pb::CloudEventsMode::Binary) => Ok(CloudEventsMode::Binary),
        Ok(pb::CloudEventsMode::Structured) => Ok(CloudEventsMode::Structured),
        Err(_) => Err(Invalid::new("mode", format!("{mode} is not a value of CloudEventsMode"))),
    }
}

fn template(format: &pb::TemplateFormat) -> Result<TemplateForm, Invalid> {
    if format.source.is_empty() {
        return Err(Invalid::new("source", "must not be empty: a body is never empty"));
    }
    compile("source", &format.source)?;
    let content_type = match format.content_type.as_str() {
        "" => "application/json",
        content_type => content_type,
    };
    check_content_type(content_type).map_err(|invalid| Invalid::new("content_type", invalid.reason))?;
    check_charset(content_type)?;
    Ok(TemplateForm { source: format.source.clone(), content_type: content_type.to_owned() })
}

/// What a template makes is UTF-8.
fn check_charset(content_type: &str) -> Result<(), Invalid> {
    let parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    for (_, value) in parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset")) {
        let charset = value.trim().trim_matches('"');
        if !charset.eq_ignore_ascii_case("utf-8") {
            let reason =
                format!("has the charset `{charset}`, but bodies are `utf-8`: say that, or leave it out");
            return Err(Invalid::new("content_type", reason));
        }
    }
    Ok(())
}

/// What does not compile is never stored.
fn compile(field: &str, source: &str) -> Result<(), Invalid> {
    Template::compile(source).map(drop).map_err(|cause| Invalid::new(field, cause.to_string()))
}

fn method(method: i32) -> Result<Method, Invalid> {
    match pb::CallbackMethod::try_from(method) {
        Ok(pb::CallbackMethod::Unspecified | pb::CallbackMethod::Post) => Ok(Method::Post),
        Ok(pb::CallbackMethod::Put) => Ok(Method::Put),
        Err(_) => Err(Invalid::new("method", format!("{method} is not a value of CallbackMethod"))),
    }
}

/// Shows a form, without its secrets.
pub(super) fn to_format(form: &Form) -> pb::Format {
    let body = match &form.body {
        BodyForm::Envelope => pb::format::Body::Envelope(pb::EnvelopeFormat {}),
        BodyForm::Raw => pb::format::Body::Raw(pb::RawFormat {}),
        BodyForm::CloudEvents(mode) => {
            let mode = match mode {
                CloudEventsMode::Binary => pb::CloudEventsMode::Binary,
                CloudEventsMode::Structured => pb::CloudEventsMode::Structured,
            };
            pb::format::Body::CloudEvents(pb::CloudEventsFormat { mode: mode.into() })
        }
        BodyForm::Template(TemplateForm { source, content_type }) => {
            let (source, content_type) = (source.clone(), content_type.clone());
            pb::format::Body::Template(pb::TemplateFormat { source, content_type })
        }
        BodyForm::Slack(text) => {
            pb::format::Body::Slack(pb::SlackFormat { text: text.clone().unwrap_or_default() })
        }
    };
    let method = match form.method {
        Method::Post => pb::CallbackMethod::Post,
        Method::Put => pb::CallbackMethod::Put,
    };
    pb::Format {
        body: Some(body),
        method: method.into(),
        headers: form.headers.iter().map(to_header).collect(),
    }
}

fn to_header(header: &StaticHeader) -> pb::StaticHeader {
    let (value, secret) = match &header.value {
        Value::Open(text) => (text.clone(), false),
        Value::Secret(_) => (MASK.to_owned(), true),
    };
    pb::StaticHeader { name: header.name.clone(), value, secret }
}
