//! The keys of service account tokens: made and kept in the data folder, or an operator's.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use pki::{SigningKey, VerifyingKey};

use crate::credentials::load_or_make_key;
use crate::{DataDir, Error};

/// A file of keys is read no further.
const KEY_FILE_BYTES_MAX: u64 = 1024 * 1024;
const SIGNING_FLAG: &str = "service-account-signing-key-file";
const ACCEPTED_FLAG: &str = "service-account-key-file";

/// The key that signs tokens and the keys that check them.
#[derive(Clone, Debug)]
pub struct ServiceAccountKeys {
    pub signing: SigningKey,
    /// In the order of the files; what signs is always among them.
    pub accepted: Vec<VerifyingKey>,
}

impl ServiceAccountKeys {
    /// Reads an operator's files; without one to sign with, the data folder's key is read or made.
    pub fn load_or_make(
        data_dir: &DataDir,
        signing_file: Option<&Path>,
        accepted_files: &[PathBuf],
    ) -> Result<Self, Error> {
        let signing = match signing_file {
            Some(path) => read_key_file(SIGNING_FLAG, path, SigningKey::from_pem)?,
            None => made_key(data_dir)?,
        };
        let mut accepted = Vec::new();
        for path in accepted_files {
            accepted.extend(read_key_file(
                ACCEPTED_FLAG,
                path,
                VerifyingKey::all_from_pem,
            )?);
        }
        // Tokens that nobody believes would stop every pod that talks to the API.
        if !accepted.contains(signing.verifying_key()) {
            accepted.insert(0, signing.verifying_key().clone());
        }
        Ok(Self { signing, accepted })
    }
}

fn made_key(data_dir: &DataDir) -> Result<SigningKey, Error> {
    let key = load_or_make_key(&data_dir.tls().join("service.key"))?;
    SigningKey::try_from(&key).map_err(|source| Error::Make {
        what: "the key of service account tokens",
        source,
    })
}

fn read_key_file<T>(
    flag: &'static str,
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, pki::Error>,
) -> Result<T, Error> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|source| Error::KeyFile {
            flag,
            path: path.to_owned(),
            source,
        })?;
    parse(&text).map_err(|source| Error::Key {
        flag,
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA: &str = include_str!("../../base/pki/tests/data/rsa_pkcs1.pem");
    const P384: &str = include_str!("../../base/pki/tests/data/p384_pkcs8.pem");

    fn load(
        folder: &Path,
        signing: Option<&str>,
        accepted: &[&str],
    ) -> Result<ServiceAccountKeys, Error> {
        let data_dir = DataDir::prepare(&folder.join("data"))?;
        let signing = signing.map(|name| folder.join(name));
        let accepted: Vec<PathBuf> = accepted.iter().map(|name| folder.join(name)).collect();
        ServiceAccountKeys::load_or_make(&data_dir, signing.as_deref(), &accepted)
    }

    fn folder_of_keys() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in [("rsa", RSA), ("p384", P384), ("nothing", "nothing")] {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        folder
    }

    #[test]
    fn an_operators_keys_replace_the_made_one_and_keep_their_order() {
        let folder = folder_of_keys();
        let keys = load(folder.path(), Some("rsa"), &["p384", "rsa"]).expect("keys");
        let algorithms: Vec<_> = keys.accepted.iter().map(VerifyingKey::algorithm).collect();
        assert_eq!(algorithms, ["ES384", "RS256"]);
        assert!(!folder.path().join("data/server/tls/service.key").exists());
    }

    #[test]
    fn what_signs_is_always_accepted() {
        let folder = folder_of_keys();
        let alone = load(folder.path(), Some("rsa"), &[]).expect("keys");
        assert_eq!(alone.accepted, [alone.signing.verifying_key().clone()]);
        let made = load(folder.path(), None, &["rsa"]).expect("keys");
        let algorithms: Vec<_> = made.accepted.iter().map(VerifyingKey::algorithm).collect();
        assert_eq!(algorithms, ["ES256", "RS256"]);
        let again = load(folder.path(), None, &[]).expect("keys");
        assert_eq!(again.signing.verifying_key(), made.signing.verifying_key());
    }

    #[test]
    fn a_bad_file_is_named_with_its_flag() {
        let folder = folder_of_keys();
        for (signing, accepted, flag) in [
            (Some("missing"), &[][..], SIGNING_FLAG),
            (Some("nothing"), &[], SIGNING_FLAG),
            (None, &["rsa", "nothing"], ACCEPTED_FLAG),
            (None, &["."], ACCEPTED_FLAG),
        ] {
            let error = load(folder.path(), signing, accepted).expect_err("refused");
            let told = error.to_string();
            let name = signing.or(accepted.last().copied()).expect("a file");
            assert!(told.contains(flag) && told.contains(name), "{told}");
        }
    }
}
