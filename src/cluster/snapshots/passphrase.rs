//! Keys wrapped with a passphrase: PBKDF2 makes a key of it, AES-256-GCM seals with that.

use std::io::Read as _;
use std::num::NonZeroU32;
use std::path::Path;

use env::Rng;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What OWASP asks of PBKDF2 with SHA-256.
const ITERATIONS: u32 = 600_000;
/// A file that asks for more is not ours, and would keep the processor for minutes.
const ITERATIONS_MAX: u32 = 10_000_000;
const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
/// Shorter ones are guessed.
const PASSPHRASE_BYTES_MIN: usize = 8;
const PASSPHRASE_BYTES_MAX: u64 = 4096;

/// What a person, or their tool, keeps beside the snapshots. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct Passphrase(Vec<u8>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Passphrase")
    }
}

/// How something was wrapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Wrapping {
    iterations: u32,
    salt: [u8; SALT_BYTES],
    nonce: [u8; NONCE_LEN],
}

impl Passphrase {
    /// The first line of a file.
    pub fn read(path: &Path) -> Result<Self> {
        let mut text = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(PASSPHRASE_BYTES_MAX).read_to_end(&mut text))
            .map_err(Error::file("read the passphrase", path))?;
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() < PASSPHRASE_BYTES_MIN {
            return Err(Error::Passphrase {
                path: path.to_owned(),
                why: "is shorter than eight characters",
            });
        }
        Ok(Self(line.to_vec()))
    }

    pub(crate) fn wrap(&self, mut plain: Vec<u8>, rng: &dyn Rng) -> (Wrapping, Vec<u8>) {
        let mut wrapping = Wrapping {
            iterations: ITERATIONS,
            salt: [0; SALT_BYTES],
            nonce: [0; NONCE_LEN],
        };
        rng.fill(&mut wrapping.salt);
        rng.fill(&mut wrapping.nonce);
        let nonce = Nonce::assume_unique_for_key(wrapping.nonce);
        self.key(&wrapping)
            .seal_in_place_append_tag(nonce, Aad::empty(), &mut plain)
            .expect("keys are far below the cipher's limit");
        (wrapping, plain)
    }

    /// `None`: another passphrase wrapped it, or it was changed.
    pub(crate) fn unwrap(&self, wrapping: &Wrapping, mut wrapped: Vec<u8>) -> Option<Vec<u8>> {
        let nonce = Nonce::assume_unique_for_key(wrapping.nonce);
        let length = self
            .key(wrapping)
            .open_in_place(nonce, Aad::empty(), &mut wrapped)
            .ok()?
            .len();
        wrapped.truncate(length);
        Some(wrapped)
    }

    fn key(&self, wrapping: &Wrapping) -> LessSafeKey {
        let mut key = [0; KEY_BYTES];
        let iterations = NonZeroU32::new(wrapping.iterations).unwrap_or(NonZeroU32::MIN);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            &wrapping.salt,
            &self.0,
            &mut key,
        );
        let key = UnboundKey::new(&AES_256_GCM, &key).expect("the key has the cipher's length");
        LessSafeKey::new(key)
    }
}

impl Wrapping {
    pub(crate) fn is_sane(&self) -> bool {
        (1..=ITERATIONS_MAX).contains(&self.iterations)
    }
}
