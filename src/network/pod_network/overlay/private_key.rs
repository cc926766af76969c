//! The node's WireGuard key, which is made once.

use super::facts::read_bytes;
use crate::error::Error;
use env::Rng;
use linux::AtomicFile;
use linux::netlink::wireguard::Key;
use std::io;
use std::path::Path;

/// Reads the key, or makes one and keeps it. A file that holds no key is an error: another key would cut the node off from
/// peers that know the old one, and somebody may still need the file.
pub(crate) fn load_or_make(path: &Path, rng: &dyn Rng) -> Result<Key, Error> {
    let doing = "read the WireGuard key";
    match std::fs::read_to_string(path) {
        Ok(text) => read_bytes(text.trim()).ok_or_else(|| Error::PrivateKey(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = make(rng);
            let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            AtomicFile::private(path)
                .write(format!("{text}\n").as_bytes())
                .map_err(|source| Error::Settings {
                    doing: "keep the WireGuard key",
                    source,
                })?;
            Ok(key)
        }
        Err(source) => Err(Error::System { doing, source }),
    }
}

/// Any 32 random bytes with the bits fixed that the curve wants so.
fn make(rng: &dyn Rng) -> Key {
    let mut key = [0; 32];
    rng.fill(&mut key);
    key[0] &= 0b1111_1000;
    key[31] = key[31] & 0b0111_1111 | 0b0100_0000;
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use env::SeededRng;

    #[test]
    fn a_key_is_made_once_and_a_spoilt_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = load_or_make(&path, &*SeededRng::shared(1)).unwrap();
        assert_eq!(load_or_make(&path, &*SeededRng::shared(2)).unwrap(), key);
        std::fs::write(&path, "spoilt").unwrap();
        let error = load_or_make(&path, &*SeededRng::shared(2)).unwrap_err();
        assert!(
            error.to_string().contains("holds no WireGuard key"),
            "{error}"
        );
    }
}
