//! The three authorities of a cluster, each a certificate file and a key file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use env::{Rng, Timestamp};
use pki::CertificateAuthority;

use crate::Error;
use crate::data_dir::{read, write_private};

pub(crate) const AUTHORITY_LIFE: Duration = Duration::from_hours(24 * 3_650);

/// The name of an authority's files, and of the authority itself.
pub(crate) type Named = (&'static str, &'static str);

pub(crate) const SERVER: Named = ("server-ca", "combo-server-ca");
pub(crate) const CLIENT: Named = ("client-ca", "combo-client-ca");
pub(crate) const REQUEST_HEADER: Named = ("request-header-ca", "combo-request-header-ca");

pub(crate) const ALL: [Named; 3] = [SERVER, CLIENT, REQUEST_HEADER];

fn paths(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let path = |extension| folder.join(format!("{name}.{extension}"));
    (path("crt"), path("key"))
}

/// What is in the folder; `None` if one of both files is missing.
pub(crate) fn read_one(folder: &Path, name: &str) -> Result<Option<CertificateAuthority>, Error> {
    let (path, key) = paths(folder, name);
    let (Some(certificates), Some(key)) = (read(&path)?, read(&key)?) else {
        return Ok(None);
    };
    let authority = CertificateAuthority::from_pem(&certificates, &key);
    authority
        .map(Some)
        .map_err(|source| Error::Damaged { path, source })
}

pub(crate) fn make(
    common_name: &str,
    now: Timestamp,
    rng: &dyn Rng,
) -> Result<CertificateAuthority, Error> {
    CertificateAuthority::generate(common_name, now, AUTHORITY_LIFE, rng).map_err(|source| {
        Error::Make {
            what: "a certificate authority",
            source,
        }
    })
}

pub(crate) fn write_one(
    folder: &Path,
    name: &str,
    authority: &CertificateAuthority,
) -> Result<(), Error> {
    let (certificates, key) = paths(folder, name);
    // The key goes first: a certificate without its key would be found damaged after a power cut.
    write_private(&key, &authority.key().to_pem())?;
    write_private(&certificates, &authority.to_pem())
}
