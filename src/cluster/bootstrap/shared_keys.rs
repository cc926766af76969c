//! What all servers of a cluster have alike when they share a datastore: authorities, the key of service account tokens, the keys that seal Secrets,
//! the password of agents. It lies in the datastore sealed with the password of servers, and in the data folder of each.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use env::Rng;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2;
use serde::{Deserialize, Serialize};

use crate::data_dir::{DataDir, read, write_private};
use crate::{Error, authorities};

/// What OWASP asks of PBKDF2 with SHA-256.
const ITERATIONS: u32 = 600_000;
/// Whoever asks for more would keep the processor for minutes.
const ITERATIONS_MAX: u32 = 10_000_000;
const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
/// Keys and certificates are a few kilobytes each.
const SEALED_BYTES_MAX: usize = 1 << 20;
const FORMAT: u32 = 1;
/// What the sealed text is, so that nothing else that the same password sealed passes for it.
const PURPOSE: &[u8] = b"combo shared keys 1";

/// The files, and no others.
fn files(data_dir: &DataDir) -> Vec<(String, PathBuf)> {
    let mut files = vec![
        ("service.key".to_owned(), data_dir.tls().join("service.key")),
        ("encryption.key".to_owned(), data_dir.encryption_key()),
        ("agent-token".to_owned(), data_dir.agent_token()),
    ];
    // A key goes before its certificate: one without the other would be found damaged.
    for (name, _) in authorities::ALL {
        for extension in ["key", "crt"] {
            let name = format!("{name}.{extension}");
            let path = data_dir.tls().join(&name);
            files.push((name, path));
        }
    }
    files
}

/// The keys of one cluster. Its `Debug` shows nothing of them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedKeys {
    /// Names the cluster.
    pub cluster: String,
    files: BTreeMap<String, String>,
}

impl std::fmt::Debug for SharedKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SharedKeys of {}", self.cluster)
    }
}

/// How the keys lie in the datastore.
#[derive(Serialize, Deserialize)]
struct Sealed {
    format: u32,
    iterations: u32,
    salt: String,
    nonce: String,
    sealed: String,
}

/// Why what is in the datastore cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SharedKeysError {
    #[error("the keys that the servers share were written by another version, or are damaged")]
    Malformed,
    #[error(
        "the token is not that of the cluster in the datastore: give the one that its first server has, in server/token of its data folder, with --token"
    )]
    WrongToken,
}

impl SharedKeys {
    /// Those of a data folder; files that are not there are no part of it.
    pub fn of(data_dir: &DataDir, cluster: &str) -> Result<Self, Error> {
        let mut found = BTreeMap::new();
        for (name, path) in files(data_dir) {
            if let Some(text) = read(&path)? {
                found.insert(name, text);
            }
        }
        Ok(Self {
            cluster: cluster.to_owned(),
            files: found,
        })
    }

    /// Whether a data folder has keys already.
    pub fn are_in(data_dir: &DataDir) -> Result<bool, Error> {
        let (server_authority, _) = authorities::SERVER;
        Ok(authorities::read_one(&data_dir.tls(), server_authority)?.is_some())
    }

    /// Puts them into a data folder in place of its own.
    pub fn write(&self, data_dir: &DataDir) -> Result<(), Error> {
        for (name, path) in files(data_dir) {
            if let Some(text) = self.files.get(&name)
                && read(&path)?.as_ref() != Some(text)
            {
                write_private(&path, text)?;
            }
        }
        Ok(())
    }

    /// As it lies in the datastore. Takes a moment: the key is made so that guessing passwords is slow.
    pub fn seal(&self, password: &str, rng: &dyn Rng) -> Vec<u8> {
        let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_LEN]);
        rng.fill(&mut salt);
        rng.fill(&mut nonce);
        let mut text = serde_json::to_vec(self).expect("text is JSON");
        key(password, &salt, ITERATIONS)
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(PURPOSE),
                &mut text,
            )
            .expect("a few keys are far below the cipher's limit of 64 GiB");
        let sealed = Sealed {
            format: FORMAT,
            iterations: ITERATIONS,
            salt: STANDARD.encode(salt),
            nonce: STANDARD.encode(nonce),
            sealed: STANDARD.encode(text),
        };
        serde_json::to_vec(&sealed).expect("text is JSON")
    }

    pub fn open(bytes: &[u8], password: &str) -> Result<Self, SharedKeysError> {
        parse(bytes)
            .ok_or(SharedKeysError::Malformed)?
            .open(password)
            .ok_or(SharedKeysError::WrongToken)
    }
}

struct Parsed {
    iterations: u32,
    salt: Vec<u8>,
    nonce: [u8; NONCE_LEN],
    sealed: Vec<u8>,
}

fn parse(bytes: &[u8]) -> Option<Parsed> {
    if bytes.len() > SEALED_BYTES_MAX {
        return None;
    }
    let sealed: Sealed = serde_json::from_slice(bytes).ok()?;
    if sealed.format != FORMAT || !(1..=ITERATIONS_MAX).contains(&sealed.iterations) {
        return None;
    }
    Some(Parsed {
        iterations: sealed.iterations,
        salt: STANDARD.decode(sealed.salt).ok()?,
        nonce: STANDARD.decode(sealed.nonce).ok()?.try_into().ok()?,
        sealed: STANDARD.decode(sealed.sealed).ok()?,
    })
}

impl Parsed {
    fn open(mut self, password: &str) -> Option<SharedKeys> {
        let text = key(password, &self.salt, self.iterations)
            .open_in_place(
                Nonce::assume_unique_for_key(self.nonce),
                Aad::from(PURPOSE),
                &mut self.sealed,
            )
            .ok()?;
        serde_json::from_slice(text).ok()
    }
}

fn key(password: &str, salt: &[u8], iterations: u32) -> LessSafeKey {
    let mut key = [0; KEY_BYTES];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN),
        salt,
        password.as_bytes(),
        &mut key,
    );
    let key = UnboundKey::new(&AES_256_GCM, &key).expect("the key has the cipher's length");
    LessSafeKey::new(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use env::SeededRng;

    #[test]
    fn another_server_gets_the_same_files_with_the_token_and_nothing_without() {
        let rng = SeededRng::shared(1);
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let [first, second] = [&folders[0], &folders[1]]
            .map(|folder| DataDir::prepare(folder.path()).expect("prepared"));
        for (name, path) in files(&first) {
            std::fs::write(path, format!("{name} of the first")).expect("written");
        }
        let keys = SharedKeys::of(&first, "a").expect("keys");
        let sealed = keys.seal("password", &*rng);
        assert!(!String::from_utf8_lossy(&sealed).contains("of the first"));
        assert_eq!(
            SharedKeys::open(&sealed, "another"),
            Err(SharedKeysError::WrongToken)
        );
        assert_eq!(
            SharedKeys::open(b"{}", "password"),
            Err(SharedKeysError::Malformed)
        );
        let opened = SharedKeys::open(&sealed, "password").expect("opened");
        opened.write(&second).expect("written");
        assert_eq!(SharedKeys::of(&second, "a").expect("keys"), keys);
    }
}
