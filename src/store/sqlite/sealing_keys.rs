//! The keys that seal, in a file outside the database; they change while the store is open.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::Rng;
use parking_lot::RwLock;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::sealer::{SealError, Sealer};

const KEY_BYTES: usize = 32;
/// Longer key files are not key files.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

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
    path: PathBuf,
    /// Never empty.
    keys: RwLock<Vec<SealingKey>>,
    rng: Arc<dyn Rng>,
}

struct SealingKey {
    id: i64,
    /// As it stands in the file.
    line: String,
    cipher: LessSafeKey,
}

impl std::fmt::Debug for SealingKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SealingKeys")
            .field("ids", &self.ids())
            .finish_non_exhaustive()
    }
}

impl SealingKeys {
    /// Reads the key file, or makes one with a random key if there is none. The file is kept readable for its owner only.
    pub fn load_or_create(path: &Path, rng: Arc<dyn Rng>) -> Result<Arc<Self>, SealingKeysError> {
        let failed = failed(path);
        if !path.try_exists().map_err(&failed)? {
            write_file(path, &line(1, &*rng)).map_err(&failed)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(&failed)?;
        Self::load(path, rng)
    }

    /// Reads the key file.
    pub fn load(path: &Path, rng: Arc<dyn Rng>) -> Result<Arc<Self>, SealingKeysError> {
        let failed = failed(path);
        if fs::metadata(path).map_err(&failed)?.len() > KEY_FILE_BYTES_MAX {
            return Err(SealingKeysError::Malformed {
                path: path.to_owned(),
                line: 1,
            });
        }
        let text = fs::read_to_string(path).map_err(&failed)?;
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
        Ok(Arc::new(Self {
            path: path.to_owned(),
            keys: RwLock::new(keys),
            rng,
        }))
    }

    /// The names of the keys; the last one seals.
    pub fn ids(&self) -> Vec<i64> {
        self.keys.read().iter().map(|key| key.id).collect()
    }

    /// Makes a key that seals from now on; it is durably in the file when anything is sealed with it.
    pub fn add(&self) -> Result<i64, SealingKeysError> {
        let mut keys = self.keys.write();
        let id = newest(&keys).id + 1;
        let line = line(id, &*self.rng);
        let lines: String = keys
            .iter()
            .map(|key| format!("{}\n", key.line))
            .chain([line.clone()])
            .collect();
        write_file(&self.path, &lines).map_err(failed(&self.path))?;
        keys.push(parse(&line).expect("what was made has the right form"));
        Ok(id)
    }

    /// Forgets all keys but the one that seals: what is sealed with the others cannot be opened any more.
    pub fn keep_newest(&self) -> Result<(), SealingKeysError> {
        let mut keys = self.keys.write();
        let kept = keys.pop().expect("there is at least one key");
        let written = write_file(&self.path, &format!("{}\n", kept.line));
        if written.is_ok() {
            keys.clear();
        }
        keys.push(kept);
        written.map_err(failed(&self.path))
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> SealingKeysError {
    move |source| SealingKeysError::Io {
        path: path.to_owned(),
        source,
    }
}

fn newest(keys: &[SealingKey]) -> &SealingKey {
    keys.last().expect("there is at least one key")
}

impl Sealer for SealingKeys {
    fn key_id(&self) -> i64 {
        newest(&self.keys.read()).id
    }

    fn seal(&self, key: &[u8], value: &[u8]) -> (i64, Vec<u8>) {
        let mut nonce = [0; NONCE_LEN];
        self.rng.fill(&mut nonce);
        let mut sealed = Vec::with_capacity(NONCE_LEN + value.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(value);
        let keys = self.keys.read();
        let sealing = newest(&keys);
        let tag = sealing
            .cipher
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(key),
                &mut sealed[NONCE_LEN..],
            )
            .expect("a value is far below AES-GCM's limit of 64 GiB");
        sealed.extend_from_slice(tag.as_ref());
        (sealing.id, sealed)
    }

    fn knows(&self, key_id: i64) -> bool {
        self.keys.read().iter().any(|key| key.id == key_id)
    }

    fn open(&self, key_id: i64, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let keys = self.keys.read();
        let sealing = keys.iter().find(|key| key.id == key_id).ok_or(SealError)?;
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SealError)?;
        let mut plain = ciphertext.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = sealing
            .cipher
            .open_in_place(nonce, Aad::from(key), &mut plain)
            .map_err(|_unspecified| SealError)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }
}

fn parse(line: &str) -> Option<SealingKey> {
    let line = line.trim();
    let (id, hex) = line.split_once(' ')?;
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
    Some(SealingKey {
        id,
        line: line.to_owned(),
        cipher: LessSafeKey::new(key),
    })
}

/// A random key as it stands in the file.
fn line(id: i64, rng: &dyn Rng) -> String {
    let mut bytes = [0; KEY_BYTES];
    rng.fill(&mut bytes);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{id} {hex}\n")
}

/// Writes the file whole or not at all: a key that is lost after something was sealed with it loses that too.
fn write_file(path: &Path, text: &str) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
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
        let (id, sealed) = keys.seal(b"a", b"secret");
        assert_eq!(id, 1);
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
        let (_, sealed) = old.seal(b"a", b"1");
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

    #[test]
    fn an_added_key_seals_at_once_and_old_ones_open_until_they_are_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let keys = SealingKeys::load_or_create(&path, SystemRng::shared()).unwrap();
        let (_, old) = keys.seal(b"a", b"1");
        assert_eq!(keys.add().unwrap(), 2);
        let (id, new) = keys.seal(b"a", b"2");
        assert_eq!((id, keys.open(1, b"a", &old)), (2, Ok(b"1".to_vec())));
        let again = SealingKeys::load(&path, SystemRng::shared()).unwrap();
        assert_eq!(
            (again.ids(), again.open(2, b"a", &new)),
            (vec![1, 2], Ok(b"2".to_vec()))
        );
        keys.keep_newest().unwrap();
        assert_eq!(keys.open(1, b"a", &old), Err(SealError));
        let again = SealingKeys::load(&path, SystemRng::shared()).unwrap();
        assert_eq!(
            (again.ids(), again.open(2, b"a", &new)),
            (vec![2], Ok(b"2".to_vec()))
        );
        assert_eq!(again.add().unwrap(), 3);
    }
}
