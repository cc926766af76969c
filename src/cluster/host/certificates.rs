//! The certificates of this machine and when they end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use env::Timestamp;
use pki::{CertificateInfo, decode_pem};
use serde::Serialize;

/// Folders of a data folder with certificates.
const FOLDERS: &[&str] = &["server/tls", "agent"];
const CERTIFICATE_BYTES_MAX: u64 = 1 << 20;
/// A certificate that should have been renewed long ago, or an authority whose successor should be made: a warning.
const WARN_BEFORE: Duration = Duration::from_hours(24 * 30);
/// Certificates are renewed with a third of their life left; one with less than this part missed that.
const WARN_PART: u32 = 4;

/// One certificate in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    pub path: PathBuf,
    /// Its common name.
    pub subject: String,
    pub is_authority: bool,
    pub begins_unix: i64,
    pub expires_unix: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Standing {
    #[serde(rename = "OK")]
    Good,
    #[serde(rename = "WARNING")]
    EndsSoon,
    #[serde(rename = "EXPIRED")]
    Ended,
}

impl Certificate {
    pub fn left(&self, now: Timestamp) -> Duration {
        Timestamp::from_unix_seconds(self.expires_unix).saturating_since(now)
    }

    pub fn standing(&self, now: Timestamp) -> Standing {
        let (begin, end) = (self.begins_unix, self.expires_unix);
        let life = Duration::from_secs(u64::try_from(end.saturating_sub(begin)).unwrap_or(0));
        match self.left(now) {
            Duration::ZERO => Standing::Ended,
            left if left < WARN_BEFORE.min(life / WARN_PART) => Standing::EndsSoon,
            _ => Standing::Good,
        }
    }
}

/// All that can be read below a data folder, by path. Of what stands behind a leaf only the authorities' own files tell.
pub fn certificates(data_dir: &Path) -> Vec<Certificate> {
    let mut paths: Vec<PathBuf> = FOLDERS
        .iter()
        .filter_map(|folder| fs::read_dir(data_dir.join(folder)).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "crt"))
        .collect();
    paths.sort();
    paths.iter().flat_map(|path| in_file(path)).collect()
}

fn in_file(path: &Path) -> Vec<Certificate> {
    let is_small = fs::metadata(path).is_ok_and(|file| file.len() <= CERTIFICATE_BYTES_MAX);
    let text = Some(path).filter(|_| is_small).map(fs::read_to_string);
    let text = text.and_then(Result::ok).unwrap_or_default();
    let blocks = decode_pem("CERTIFICATE", &text);
    let infos = blocks
        .iter()
        .filter_map(|der| CertificateInfo::from_der(der).ok());
    let infos: Vec<CertificateInfo> = infos.collect();
    let is_authorities = infos.first().is_some_and(|first| first.is_authority);
    let told = infos
        .into_iter()
        .filter(|info| info.is_authority == is_authorities);
    let certificates = told.map(|info| Certificate {
        path: path.to_owned(),
        subject: info.subject.common_name,
        is_authority: info.is_authority,
        begins_unix: info.not_before.unix_seconds(),
        expires_unix: info.not_after.unix_seconds(),
    });
    certificates.collect()
}

#[cfg(test)]
mod tests {
    use env::SeededRng;
    use pki::{CertificateAuthority, KeyPair, Profile, Subject, SubjectNames, encode_pem};

    use super::*;

    #[test]
    fn every_leaf_and_authority_is_told_and_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let tls = folder.path().join("server/tls");
        fs::create_dir_all(&tls).unwrap();
        let rng = SeededRng::shared(1);
        let start = Timestamp::from_unix_seconds(1_800_000_000);
        let day = Duration::from_hours(24);
        let old = CertificateAuthority::generate("old", start, day * 100, &*rng).unwrap();
        let new = CertificateAuthority::generate("new", start, day * 1000, &*rng).unwrap();
        let both = old.succeeded_by(&new, start, &*rng).unwrap();
        let key = KeyPair::generate().unwrap().public_key_info();
        let names = SubjectNames::default();
        let when = (start, day * 365);
        let subject = Subject::new("admin", &[]);
        let leaf = both.issue(&subject, &names, &key, Profile::Client, when, &*rng);
        let leaf = encode_pem("CERTIFICATE", &leaf.unwrap()) + &both.chain_pem();
        fs::write(tls.join("client-admin.crt"), leaf).unwrap();
        fs::write(tls.join("client-ca.crt"), both.to_pem()).unwrap();
        fs::write(tls.join("client-ca.key"), both.key().to_pem()).unwrap();
        fs::write(tls.join("damaged.crt"), "nothing").unwrap();
        let found = certificates(folder.path());
        let told: Vec<(&str, bool)> = found
            .iter()
            .map(|one| (one.subject.as_str(), one.is_authority))
            .collect();
        // The one that signs, the same as the former signed it, and the former.
        let authorities = [("new", true), ("new", true), ("old", true)];
        assert_eq!(told, [&[("admin", false)], &authorities[..]].concat());
        let standing = |days| found[0].standing(start.saturating_add(day * days));
        assert_eq!(standing(334), Standing::Good);
        assert_eq!(standing(336), Standing::EndsSoon);
        assert_eq!(standing(365), Standing::Ended);
    }
}
