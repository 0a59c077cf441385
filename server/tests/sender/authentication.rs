//! What shows a receiver who we are.

use postrider_server::domain::authentication::Authentication;

use super::*;

/// The one header of this name that an attempt with this authentication carries.
async fn header_of(authentication: Authentication, name: &str) -> String {
    let mut receiver = Receiver::answering(OK).await;
    let settings = Settings { authentication: Some(authentication), ..Settings::default() };
    let claim = claim_with(&format!("http://{}/", receiver.address), settings);
    let attempt = sender().send(&claim, None, SystemClock.now()).await;
    assert_eq!(attempt.outcome, ACKNOWLEDGED);
    let request = receiver.request().await;
    let judge = standardwebhooks::Webhook::from_bytes(SECRET.to_vec()).unwrap();
    judge.verify(&request.body, &request.headers).unwrap();
    assert_eq!(request.headers.get_all(name).iter().count(), 1);
    request.headers[name].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_user_and_a_password_are_put_together_in_utf_8() {
    // The example of RFC 7617, 2.1.
    let basic = Authentication::basic("test", "123£").unwrap();
    assert_eq!(header_of(basic, "authorization").await, "Basic dGVzdDoxMjPCow==");
    let empty = Authentication::basic("key", "").unwrap();
    assert_eq!(header_of(empty, "authorization").await, "Basic a2V5Og==");
}

#[tokio::test]
async fn a_token_and_a_key_are_sent_as_they_are() {
    let bearer = Authentication::bearer("abc.DEF-123~+/=").unwrap();
    assert_eq!(header_of(bearer, "authorization").await, "Bearer abc.DEF-123~+/=");
    let key = Authentication::api_key("X-Api-Key", "a key").unwrap();
    assert_eq!(header_of(key, "x-api-key").await, "a key");
}
