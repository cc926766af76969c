//! A folder of sealed files: contents and names are secret, and a file put in another's place is noticed.

use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::Rng;
use linux::AtomicFile;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::hmac;

use crate::error::{Error, Result};

/// One record's contents.
pub const RECORD_BYTES_MAX: usize = 8 * 1024 * 1024;
pub const NAME_BYTES_MAX: usize = 1024;

/// The first bytes of a sealed file; another layout gets other ones.
const MAGIC: &[u8; 4] = b"SEA1";
const SALT: &[u8] = b"sealed files, layout 1";
const SUFFIX: &str = "sealed";
/// So many bytes of the name's code name the file.
const FILE_NAME_BYTES: usize = 16;
const FILE_BYTES_MAX: usize =
    RECORD_BYTES_MAX + NAME_BYTES_MAX + MAGIC.len() + NONCE_LEN + TAG_BYTES + LENGTH_BYTES;
const TAG_BYTES: usize = 16;
/// The length of the name, before it.
const LENGTH_BYTES: usize = 2;
const PRIVATE_FOLDER: u32 = 0o700;

/// The files of one key. Its `Debug` shows nothing secret.
pub struct SealedFolder {
    path: PathBuf,
    contents: LessSafeKey,
    names: hmac::Key,
    rng: Arc<dyn Rng>,
}

impl std::fmt::Debug for SealedFolder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SealedFolder({})", self.path.display())
    }
}

impl SealedFolder {
    /// Makes the folder if there is none. `secret`: any bytes that nobody else knows, such as a private key.
    pub fn open(path: &Path, secret: &[u8], rng: Arc<dyn Rng>) -> Result<Self> {
        let failed = |source| Error::MakeFolder {
            path: path.to_owned(),
            source,
        };
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(PRIVATE_FOLDER);
        builder.create(path).map_err(failed)?;
        let private = std::fs::Permissions::from_mode(PRIVATE_FOLDER);
        std::fs::set_permissions(path, private).map_err(failed)?;
        let keys = Salt::new(HKDF_SHA256, SALT).extract(secret);
        let contents = UnboundKey::new(&AES_256_GCM, &derive(&keys, b"contents"))
            .expect("the key has the cipher's length");
        Ok(Self {
            path: path.to_owned(),
            contents: LessSafeKey::new(contents),
            names: hmac::Key::new(hmac::HMAC_SHA256, &derive(&keys, b"names")),
            rng,
        })
    }

    /// Every record, by name. Files that cannot be read are left where they are, with a warning.
    pub fn read_all(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let entries = std::fs::read_dir(&self.path).map_err(|source| Error::Read {
            path: self.path.clone(),
            source,
        })?;
        let mut records = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|suffix| suffix != SUFFIX) {
                continue;
            }
            match self.read_file(&path) {
                Ok(Some(record)) => records.push(record),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a sealed record is skipped");
                }
            }
        }
        records.sort_unstable();
        Ok(records)
    }

    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let record = self.read_file(&self.file_of(name))?;
        Ok(record.map(|(_, contents)| contents))
    }

    /// Durable when it returns. Writers of one name must not run at the same time.
    pub fn write(&self, name: &str, contents: &[u8]) -> Result<()> {
        if contents.len() > RECORD_BYTES_MAX || name.len() > NAME_BYTES_MAX {
            return Err(Error::TooLarge {
                bytes: contents.len(),
                name_bytes: name.len(),
            });
        }
        let path = self.file_of(name);
        let sealed = self.seal(&path, name, contents);
        AtomicFile::private(path).write(&sealed)?;
        Ok(())
    }

    /// Removing what is not there is no error.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.file_of(name);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::Remove { path, source })
            }
            _ => Ok(()),
        }
    }

    fn file_of(&self, name: &str) -> PathBuf {
        let code = hmac::sign(&self.names, name.as_bytes());
        let code = &code.as_ref()[..FILE_NAME_BYTES];
        let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        self.path.join(format!("{hex}.{SUFFIX}"))
    }

    /// `magic nonce {name-length name contents} tag`, bound to the file's name and so to the record's.
    fn seal(&self, path: &Path, name: &str, contents: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        self.rng.fill(&mut nonce);
        let name_length = u16::try_from(name.len()).expect("the caller has checked the length");
        let mut sealed = Vec::with_capacity(FILE_BYTES_MAX.min(contents.len() + 2 * 1024));
        sealed.extend_from_slice(MAGIC);
        sealed.extend_from_slice(&nonce);
        let mut plain = Vec::with_capacity(contents.len() + name.len() + LENGTH_BYTES + TAG_BYTES);
        plain.extend_from_slice(&name_length.to_le_bytes());
        plain.extend_from_slice(name.as_bytes());
        plain.extend_from_slice(contents);
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.contents
            .seal_in_place_append_tag(nonce, bound_to(path), &mut plain)
            .expect("the limits are far below the cipher's");
        sealed.append(&mut plain);
        sealed
    }

    fn read_file(&self, path: &Path) -> Result<Option<(String, Vec<u8>)>> {
        let unreadable = || Error::Unreadable {
            path: path.to_owned(),
        };
        let failed = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX);
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() > FILE_BYTES_MAX {
            return Err(unreadable());
        }
        let (name, contents) = self.unseal(path, bytes).ok_or_else(unreadable)?;
        // Another record's file under this name would carry another name inside.
        if self.file_of(&name) != *path {
            return Err(unreadable());
        }
        Ok(Some((name, contents)))
    }

    fn unseal(&self, path: &Path, bytes: Vec<u8>) -> Option<(String, Vec<u8>)> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let plain = self
            .contents
            .open_in_place(nonce, bound_to(path), &mut sealed)
            .ok()?;
        let (length, plain) = plain.split_at_checked(LENGTH_BYTES)?;
        let length = usize::from(u16::from_le_bytes(length.try_into().ok()?));
        let (name, contents) = plain.split_at_checked(length)?;
        Some((String::from_utf8(name.to_vec()).ok()?, contents.to_vec()))
    }
}

fn bound_to(path: &Path) -> Aad<Vec<u8>> {
    let name = path.file_name().unwrap_or_default();
    Aad::from(name.as_encoded_bytes().to_vec())
}

/// A key of its own for each purpose.
fn derive(keys: &Prk, purpose: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    keys.expand(&[purpose], HKDF_SHA256)
        .and_then(|derived| derived.fill(&mut key))
        .expect("as many bytes as the hash gives");
    key
}
