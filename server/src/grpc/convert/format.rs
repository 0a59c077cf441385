//! In what form events are sent.

use postrider_proto::v1 as pb;

use crate::domain::{
    form::{BodyForm, CloudEventsMode, Form, Headers, MASK, Method, StaticHeader, Value},
    invalid::Invalid,
};

/// Reads a form. One that is the default is none.
pub(super) fn form(format: &pb::Format) -> Result<Option<Form>, Invalid> {
    let body = match &format.body {
        None | Some(pb::format::Body::Envelope(pb::EnvelopeFormat {})) => BodyForm::Envelope,
        Some(pb::format::Body::Raw(pb::RawFormat {})) => BodyForm::Raw,
        Some(pb::format::Body::CloudEvents(format)) => {
            BodyForm::CloudEvents(mode(format.mode).map_err(|invalid| invalid.within("cloud_events"))?)
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
