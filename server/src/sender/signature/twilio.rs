//! `X-Twilio-Signature`: HMAC-SHA1 over the URL and the parameters of a form. What is no form is covered by its hash, which stands in
//! the URL that is requested.

use http::HeaderName;
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use super::{
    Pen, Unsigned,
    mac::{base64, hex, hmac},
};
use crate::domain::signing::{Algorithm, TWILIO_BODY_HASH};

pub(super) fn write(pen: &mut Pen<'_>) -> Result<(), Unsigned> {
    let message = pen.message;
    let mut parameters: Vec<_> = Vec::new();
    if is_form(message.content_type) {
        parameters.extend(form_urlencoded::parse(message.body));
        // As Twilio's libraries read them: in order, and none twice.
        parameters.sort_unstable();
        parameters.dedup();
    } else {
        let hash = hex(&Sha256::digest(message.body));
        pen.url.to_mut().query_pairs_mut().append_pair(TWILIO_BODY_HASH, &hash);
    }
    let parameters = parameters.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
    let parts: Vec<_> = std::iter::once(pen.url.as_str().as_bytes()).chain(parameters).collect();
    let signature = base64(&hmac(Algorithm::Sha1, pen.key()?.as_bytes(), &parts)?);
    pen.write_signature(HeaderName::from_static("x-twilio-signature"), signature)
}

fn is_form(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}
