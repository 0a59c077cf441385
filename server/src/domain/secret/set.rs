//! The secrets of one subscription, and which of them sign at a certain time.

use super::{KeyPair, SigningSecret};
use crate::domain::timestamp::Timestamp;

/// A secret and when callbacks are signed with it.
#[derive(Debug, Clone)]
pub struct SecretInForce {
    /// The secret.
    pub secret: SigningSecret,
    /// The pair of keys that was made with it, if one was wanted.
    pub key_pair: Option<KeyPair>,
    /// From when on it signs where there is room for one signature only; from the beginning if absent. Until then the one before does.
    pub starts_at: Option<Timestamp>,
    /// When it stops; never for the current one.
    pub expires_at: Option<Timestamp>,
}

impl SecretInForce {
    /// A secret that is in force without end.
    #[must_use]
    pub fn current(secret: SigningSecret) -> Self {
        Self { secret, key_pair: None, starts_at: None, expires_at: None }
    }

    fn has_started(&self, now: Timestamp) -> bool {
        self.starts_at.is_none_or(|start| start <= now)
    }
}

/// All secrets of a subscription, the current one first.
#[derive(Debug, Clone)]
pub struct SecretSet(Vec<SecretInForce>);

impl SecretSet {
    /// From the secrets, newest first.
    #[must_use]
    pub fn newest_first(secrets: Vec<SecretInForce>) -> Self {
        Self(secrets)
    }

    /// Those that sign at `now` where there can be several signatures, the current one first. One that was gone back to is there once.
    pub fn in_force(&self, now: Timestamp) -> impl Iterator<Item = &SigningSecret> {
        let held = self.held(now).enumerate();
        held.filter(move |(nth, one)| !self.held(now).take(*nth).any(|newer| newer.secret == one.secret))
            .map(|(_, one)| &one.secret)
    }

    /// The pairs of keys that sign at `now`, likewise.
    pub fn key_pairs(&self, now: Timestamp) -> impl Iterator<Item = &KeyPair> {
        let held = self.held(now).enumerate();
        held.filter(move |(nth, one)| !self.held(now).take(*nth).any(|newer| newer.key_pair == one.key_pair))
            .filter_map(|(_, one)| one.key_pair.as_ref())
    }

    /// The one that signs at `now` where there can be one signature only.
    #[must_use]
    pub fn single(&self, now: Timestamp) -> Option<&SigningSecret> {
        let started = self.held(now).find(|held| held.has_started(now));
        // The oldest, if none has started: it comes nearest to what the receiver knows.
        started.or_else(|| self.held(now).last()).map(|held| &held.secret)
    }

    fn held(&self, now: Timestamp) -> impl Iterator<Item = &SecretInForce> {
        self.0.iter().filter(move |held| held.expires_at.is_none_or(|end| now < end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(byte: u8, starts_at: Option<i64>, expires_at: Option<i64>) -> SecretInForce {
        SecretInForce {
            secret: SigningSecret::from_bytes(vec![byte; 32]),
            key_pair: None,
            starts_at: starts_at.map(Timestamp::from_micros),
            expires_at: expires_at.map(Timestamp::from_micros),
        }
    }

    fn single(set: &SecretSet, now: i64) -> Option<u8> {
        set.single(Timestamp::from_micros(now)).map(|secret| secret.expose()[0])
    }

    #[test]
    fn a_replaced_secret_signs_until_it_expires() {
        let set = SecretSet::newest_first(vec![held(2, None, None), held(1, None, Some(10))]);
        let signing =
            |now| set.in_force(Timestamp::from_micros(now)).map(|s| s.expose()[0]).collect::<Vec<_>>();
        assert_eq!(signing(9), [2, 1]);
        assert_eq!(signing(10), [2]);
        assert_eq!(single(&set, 9), Some(2), "alone, the new one signs at once");
    }

    #[test]
    fn a_secret_that_is_gone_back_to_signs_once() {
        let set = SecretSet::newest_first(vec![
            held(1, None, None),
            held(2, None, Some(20)),
            held(1, None, Some(10)),
        ]);
        let signing: Vec<_> =
            set.in_force(Timestamp::from_micros(5)).map(|secret| secret.expose()[0]).collect();
        assert_eq!(signing, [1, 2]);
    }

    #[test]
    fn alone_a_secret_signs_from_its_start_on() {
        let set = SecretSet::newest_first(vec![held(2, Some(5), None), held(1, None, Some(10))]);
        assert_eq!([4, 5, 10].map(|now| single(&set, now)), [Some(1), Some(2), Some(2)]);

        // Two rotations ahead of their time: each begins at its own, or is overtaken.
        let set = SecretSet::newest_first(vec![
            held(3, Some(8), None),
            held(2, Some(5), Some(20)),
            held(1, None, Some(10)),
        ]);
        assert_eq!([4, 5, 8, 30].map(|now| single(&set, now)), [Some(1), Some(2), Some(3), Some(3)]);
        let set = SecretSet::newest_first(vec![
            held(3, Some(2), None),
            held(2, Some(5), Some(20)),
            held(1, None, Some(10)),
        ]);
        assert_eq!([1, 2, 5].map(|now| single(&set, now)), [Some(1), Some(3), Some(3)]);
    }

    #[test]
    fn somebody_signs_before_anybody_has_started() {
        let set = SecretSet::newest_first(vec![held(2, Some(5), None), held(1, Some(4), None)]);
        assert_eq!(single(&set, 1), Some(1));
        assert_eq!(single(&SecretSet::newest_first(vec![]), 1), None);
    }
}
