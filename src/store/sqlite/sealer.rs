//! Encryption of values at the disk edge: memory holds plaintext once, the disk and its backups never do.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::Rng;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

const KEY_BYTES: usize = 32;
/// Longer key files are not key files.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

/// Encrypts and decrypts the values of some keys.
pub trait Sealer: Send + Sync + std::fmt::Debug {
    /// Names the key that [`Sealer::seal`] uses; above 0.
    fn key_id(&self) -> i64;

    /// Encrypts `value` so that it can only be opened under the same `key`.
    fn seal(&self, key: &[u8], value: &[u8]) -> Vec<u8>;

    /// Whether values sealed with this key can be opened.
    fn knows(&self, key_id: i64) -> bool;

    fn open(&self, key_id: i64, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError>;
}

/// The value was changed, belongs to another key, or was sealed with another sealing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the value cannot be decrypted")]
pub struct SealError;

/// Every value under `prefix` is sealed.
#[derive(Clone, Debug)]
pub struct SealedPrefix {
    pub prefix: Vec<u8>,
    pub sealer: Arc<dyn Sealer>,
}

#[derive(Debug, thiserror::Error)]
pub enum SealingKeysError {
    #[error("the sealing keys {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("line {line} of the sealing keys {} is not `<number> <64 hexadecimal digits>`", path.display())]
    Malformed { path: PathBuf, line: usize },
    #[error("the sealing keys {} hold no key", path.display())]
    Empty { path: PathBuf },
}

/// AES-256-GCM with a random nonce before the ciphertext and the row's key as associated data. The file has one key a line, `<id> <hex>`; the last
/// one seals, all of them open.
pub struct SealingKeys {
    /// Never empty.
    keys: Vec<(i64, LessSafeKey)>,
    rng: Arc<dyn Rng>,
}

impl std::fmt::Debug for SealingKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<_> = self.keys.iter().map(|(id, _)| id).collect();
        formatter
            .debug_struct("SealingKeys")
            .field("ids", &ids)
            .finish_non_exhaustive()
    }
}

impl SealingKeys {
    /// Reads the key file, or makes one with a random key if there is none. The file is kept readable for its owner only.
    pub fn load_or_create(path: &Path, rng: Arc<dyn Rng>) -> Result<Arc<Self>, SealingKeysError> {
        let failed = |source| SealingKeysError::Io {
            path: path.to_owned(),
            source,
        };
        if !path.try_exists().map_err(failed)? {
            create(path, &*rng).map_err(failed)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        if fs::metadata(path).map_err(failed)?.len() > KEY_FILE_BYTES_MAX {
            return Err(SealingKeysError::Malformed {
                path: path.to_owned(),
                line: 1,
            });
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        let mut keys = Vec::new();
        for (number, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let malformed = || SealingKeysError::Malformed {
                path: path.to_owned(),
                line: number + 1,
            };
            keys.push(parse(line).ok_or_else(malformed)?);
        }
        if keys.is_empty() {
            return Err(SealingKeysError::Empty {
                path: path.to_owned(),
            });
        }
        Ok(Arc::new(Self { keys, rng }))
    }

    fn newest(&self) -> &(i64, LessSafeKey) {
        self.keys.last().expect("there is at least one key")
    }
}

impl Sealer for SealingKeys {
    fn key_id(&self) -> i64 {
        self.newest().0
    }

    fn seal(&self, key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        self.rng.fill(&mut nonce);
        let mut sealed = Vec::with_capacity(NONCE_LEN + value.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(value);
        let (_, cipher) = self.newest();
        let tag = cipher
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(key),
                &mut sealed[NONCE_LEN..],
            )
            .expect("a value is far below AES-GCM's limit of 64 GiB");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    fn knows(&self, key_id: i64) -> bool {
        self.keys.iter().any(|(id, _)| *id == key_id)
    }

    fn open(&self, key_id: i64, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (_, cipher) = self
            .keys
            .iter()
            .find(|(id, _)| *id == key_id)
            .ok_or(SealError)?;
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SealError)?;
        let mut plain = ciphertext.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = cipher
            .open_in_place(nonce, Aad::from(key), &mut plain)
            .map_err(|_unspecified| SealError)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }
}

fn parse(line: &str) -> Option<(i64, LessSafeKey)> {
    let (id, hex) = line.trim().split_once(' ')?;
    let id = id.parse().ok().filter(|id| *id > 0)?;
    let hex = hex.trim().as_bytes();
    if hex.len() != 2 * KEY_BYTES {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = [0; KEY_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    let key = UnboundKey::new(&AES_256_GCM, &bytes).ok()?;
    Some((id, LessSafeKey::new(key)))
}

/// Writes the file whole or not at all: a key that is lost after something was sealed with it loses that too.
fn create(path: &Path, rng: &dyn Rng) -> io::Result<()> {
    let mut bytes = [0; KEY_BYTES];
    rng.fill(&mut bytes);
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let line = format!("1 {}\n", hex.concat());
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(line.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// All sealers of a store.
#[derive(Clone, Debug)]
pub(crate) struct Sealers(Vec<SealedPrefix>);

impl Sealers {
    pub(crate) fn new(mut prefixes: Vec<SealedPrefix>) -> Self {
        // The longest prefix comes first, and so is found first.
        prefixes.sort_by_key(|sealed| std::cmp::Reverse(sealed.prefix.len()));
        Self(prefixes)
    }

    pub(crate) fn for_key(&self, key: &[u8]) -> Option<&dyn Sealer> {
        self.0
            .iter()
            .find(|sealed| key.starts_with(&sealed.prefix))
            .map(|sealed| &*sealed.sealer)
    }

    /// Whoever can open what was sealed with this key, also if its prefix is not sealed any more.
    pub(crate) fn for_key_id(&self, key_id: i64) -> Option<&dyn Sealer> {
        self.0
            .iter()
            .map(|sealed| &*sealed.sealer)
            .find(|sealer| sealer.knows(key_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use env::{SeededRng, SystemRng};

    #[test]
    fn a_value_opens_only_under_its_own_key_and_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let keys = SealingKeys::load_or_create(&path, SystemRng::shared()).unwrap();
        let sealed = keys.seal(b"a", b"secret");
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(keys.open(1, b"a", &sealed), Ok(b"secret".to_vec()));
        assert_eq!(keys.open(1, b"b", &sealed), Err(SealError));
        let mut changed = sealed.clone();
        changed[NONCE_LEN] ^= 1;
        assert_eq!(keys.open(1, b"a", &changed), Err(SealError));
        assert_eq!(keys.open(2, b"a", &sealed), Err(SealError));
        assert_eq!(keys.open(1, b"a", b"short"), Err(SealError));
    }

    #[test]
    fn the_key_file_is_private_and_the_last_line_seals() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let old = SealingKeys::load_or_create(&path, SystemRng::shared()).unwrap();
        let sealed = old.seal(b"a", b"1");
        let text = fs::read_to_string(&path).unwrap();
        let text = format!("{text}7 {}\n", "ab".repeat(KEY_BYTES));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let new = SealingKeys::load_or_create(&path, SeededRng::shared(1)).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            (new.key_id(), new.open(1, b"a", &sealed)),
            (7, Ok(b"1".to_vec()))
        );
        fs::write(&path, "1 beef\n").unwrap();
        let error = SealingKeys::load_or_create(&path, SeededRng::shared(1)).unwrap_err();
        assert!(
            error.to_string().starts_with("line 1 of the sealing keys"),
            "{error}"
        );
    }
}
