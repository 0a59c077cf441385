//! Headers of a request, in whatever form a web framework has them.

use std::{borrow::Cow, collections::HashMap, hash::BuildHasher};

/// Something that gives a header by its name.
///
/// Implemented for `http::HeaderMap` (axum, hyper, reqwest, actix through its conversion), for lists and maps of names
/// and values, and for closures:
///
/// ```
/// use postrider_sdk::verify::{Error, Verifier};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let verifier = Verifier::new(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])?;
/// let from_a_framework = |name: &str| (name == "webhook-id").then(|| "evt_1".to_owned());
/// assert_eq!(verifier.verify(&from_a_framework, b"{}"), Err(Error::MissingHeader("webhook-timestamp")));
/// # Ok(())
/// # }
/// ```
pub trait Headers {
    /// The value of a header, whose name is given in lower case and compared without regard to case.
    fn header(&self, name: &str) -> Option<Cow<'_, str>>;
}

impl Headers for http::HeaderMap {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()))
    }
}

impl<K: AsRef<str>, V: AsRef<str>> Headers for [(K, V)] {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        find(self.iter().map(|(key, value)| (key, value)), name)
    }
}

impl<K: AsRef<str>, V: AsRef<str>, const N: usize> Headers for [(K, V); N] {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.as_slice().header(name)
    }
}

impl<K: AsRef<str>, V: AsRef<str>> Headers for Vec<(K, V)> {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.as_slice().header(name)
    }
}

impl<K: AsRef<str>, V: AsRef<str>, S: BuildHasher> Headers for HashMap<K, V, S> {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        find(self.iter(), name)
    }
}

impl<F: Fn(&str) -> Option<String>> Headers for F {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self(name).map(Cow::Owned)
    }
}

fn find<'a, K: AsRef<str> + 'a, V: AsRef<str> + 'a>(
    headers: impl IntoIterator<Item = (&'a K, &'a V)>,
    name: &str,
) -> Option<Cow<'a, str>> {
    let (_, value) = headers.into_iter().find(|(key, _)| key.as_ref().eq_ignore_ascii_case(name))?;
    Some(Cow::Borrowed(value.as_ref()))
}
