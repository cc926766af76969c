//! Values that etcd may only see encrypted: under a sealed prefix each is stored as a mark, the sealing key's number, and what the sealer made.

use std::sync::Arc;

use kv::KeyRange;
use sqlite::SealedPrefix;

/// What a sealed value begins with; after it come the number of the sealing key and a colon.
const MARK: &[u8] = b"combo:sealed:v1:";
/// Digits of the largest number of a sealing key.
const NUMBER_DIGITS_MAX: usize = 19;

#[derive(Debug, Default)]
pub(crate) struct Seals(Vec<SealedPrefix>);

impl Seals {
    pub(crate) fn new(mut prefixes: Vec<SealedPrefix>) -> Self {
        // The longest prefix comes first, and so is found first.
        prefixes.sort_by_key(|sealed| std::cmp::Reverse(sealed.prefix.len()));
        Self(prefixes)
    }

    fn of(&self, key: &[u8]) -> Option<&SealedPrefix> {
        self.0.iter().find(|sealed| key.starts_with(&sealed.prefix))
    }

    /// Whether a sealed key may be in a range.
    pub(crate) fn touches(&self, range: &KeyRange) -> bool {
        self.0.iter().any(|sealed| {
            range.contains(&sealed.prefix)
                || KeyRange::prefix(sealed.prefix.clone()).contains(&range.start)
        })
    }

    /// A value as etcd keeps it.
    pub(crate) fn seal(&self, key: &[u8], value: &[u8]) -> Vec<u8> {
        let Some(sealed) = self.of(key) else {
            return value.to_vec();
        };
        let (number, bytes) = sealed.sealer.seal(key, value);
        [MARK, number.to_string().as_bytes(), b":", &bytes].concat()
    }

    /// A value as it was before it was sealed. What cannot be opened stays as it is, and nobody can read it as an object.
    pub(crate) fn open(&self, key: &[u8], value: Vec<u8>) -> Arc<[u8]> {
        let Some((sealed, (number, bytes))) = self.of(key).zip(parse(&value)) else {
            return value.into();
        };
        match sealed.sealer.open(number, key, bytes) {
            Ok(plain) => plain.into(),
            Err(error) => {
                let key = String::from_utf8_lossy(key);
                tracing::error!(%key, sealing_key = number, %error, "a value in etcd was sealed by somebody whose key this server does not have");
                value.into()
            }
        }
    }
}

fn parse(value: &[u8]) -> Option<(i64, &[u8])> {
    let rest = value.strip_prefix(MARK)?;
    let digits = rest.iter().take(NUMBER_DIGITS_MAX + 1);
    let colon = digits.copied().position(|byte| byte == b':')?;
    let number = std::str::from_utf8(&rest[..colon]).ok()?.parse().ok()?;
    Some((number, &rest[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use env::SystemRng;
    use sqlite::SealingKeys;

    #[test]
    fn only_what_is_under_the_prefix_is_sealed_and_all_of_it_opens() {
        let folder = tempfile::tempdir().unwrap();
        let keys =
            SealingKeys::load_or_create(&folder.path().join("keys"), SystemRng::shared()).unwrap();
        let seals = Seals::new(vec![SealedPrefix {
            prefix: b"/secrets/".to_vec(),
            sealer: keys,
        }]);
        let sealed = seals.seal(b"/secrets/a", b"{}");
        assert!(sealed.starts_with(b"combo:sealed:v1:1:") && !sealed.ends_with(b"{}"));
        assert_eq!(&*seals.open(b"/secrets/a", sealed.clone()), b"{}");
        // Written before there was a seal, and written under another key.
        assert_eq!(&*seals.open(b"/secrets/a", b"{}".to_vec()), b"{}");
        assert_eq!(*seals.open(b"/secrets/b", sealed.clone()), *sealed);
        assert_eq!(seals.seal(b"/pods/a", b"{}"), b"{}");
        assert!(
            seals.touches(&KeyRange::prefix("/")) && seals.touches(&KeyRange::key("/secrets/a"))
        );
        assert!(!seals.touches(&KeyRange::prefix("/pods/")));
    }
}
