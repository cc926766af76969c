//! Takes a snapshot beside the server, or of one that is stopped.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootstrap::DataDir;
use env::{Rng, Timestamp};
use joining::AuthorityHash;
use sqlite::{SealingKeys, check_copy, copy_store};

use crate::container::{self, Compression, Header};
use crate::error::{Error, Result};
use crate::files;
use crate::folder::SUFFIX;
use crate::passphrase::Passphrase;

const PRIVATE_FOLDER: u32 = 0o700;
/// Held while a snapshot is made: what is unfinished in the folder then is nobody's.
const LOCK: &str = ".lock";
const UNFINISHED: &str = ".unfinished-";

/// How to take a snapshot, and where to.
#[derive(Clone, Debug)]
pub struct SaveOptions {
    pub folder: PathBuf,
    /// What its name begins with.
    pub series: String,
    pub node: String,
    pub compression: Compression,
    pub passphrase: Option<Passphrase>,
    /// Of the program.
    pub version: String,
}

/// A snapshot that was taken.
#[derive(Clone, Debug)]
pub struct Saved {
    pub path: PathBuf,
    pub header: Header,
    pub bytes: u64,
}

/// Where snapshots are if nobody says otherwise.
pub fn default_folder(data_dir: &DataDir) -> PathBuf {
    data_dir.root().join("server/db/snapshots")
}

/// Writes the cluster as it is at this moment to a new file in the folder.
pub fn save(
    data_dir: &DataDir,
    options: &SaveOptions,
    now: Timestamp,
    rng: &Arc<dyn Rng>,
) -> Result<Saved> {
    if !data_dir.database().is_file() {
        return Err(Error::NoServer(data_dir.root().to_owned()));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_FOLDER)
        .create(&options.folder)
        .map_err(Error::file("make the folder", &options.folder))?;
    let _alone = lock(&options.folder)?;
    remove_unfinished(&options.folder)?;
    let mut saved = write(data_dir, options, now, rng);
    if matches!(saved, Err(Error::DamagedStore(_))) {
        // Sealing keys that are taken away between the copy and the reading of the keys look like damage, once.
        remove_unfinished(&options.folder)?;
        saved = write(data_dir, options, now, rng);
    }
    if saved.is_err() {
        let removed = remove_unfinished(&options.folder);
        if let Err(error) = removed {
            tracing::warn!(%error, "an unfinished snapshot stays in its folder");
        }
    }
    saved
}

fn write(
    data_dir: &DataDir,
    options: &SaveOptions,
    now: Timestamp,
    rng: &Arc<dyn Rng>,
) -> Result<Saved> {
    let name = format!(
        "{}-{}-{}{SUFFIX}",
        options.series,
        options.node,
        now.unix_seconds()
    );
    let (path, unfinished) = (
        options.folder.join(&name),
        options.folder.join(format!("{UNFINISHED}{name}")),
    );
    let database = options.folder.join(format!("{UNFINISHED}database"));
    let revision = copy_store(&data_dir.database(), &database)?;
    // After the copy: sealing keys are added before anything is sealed with them, so none of the copy's is missing
    // unless it was taken away meanwhile, which the check finds.
    let keys = files::pack(&data_dir.root().join("server"))?;
    let sealing = SealingKeys::load(&data_dir.encryption_key(), Arc::clone(rng))?;
    let checked = check_copy(&database, bootstrap_sealers(sealing))?;
    if let Some(problem) = checked.problems.first() {
        return Err(Error::DamagedStore(problem.clone()));
    }
    let (wrapping, keys) = match &options.passphrase {
        Some(passphrase) => {
            let (wrapping, keys) = passphrase.wrap(keys, &**rng);
            (Some(wrapping), keys)
        }
        None => (None, keys),
    };
    let database_bytes = fs::metadata(&database)
        .map_err(Error::file("look at", &database))?
        .len();
    let header = Header {
        format: container::format(),
        series: options.series.clone(),
        cluster: cluster(data_dir)?,
        node: options.node.clone(),
        revision,
        taken: now.to_seconds_string(),
        version: options.version.clone(),
        compression: options.compression,
        database_bytes,
        keys_bytes: keys.len() as u64,
        wrapping,
    };
    container::write(&unfinished, &header, &keys, &database)?;
    fs::remove_file(&database).map_err(Error::file("remove", &database))?;
    // What the disk holds now is what counts.
    container::verify(&unfinished)?;
    // A hard link never takes the place of another file.
    fs::hard_link(&unfinished, &path).map_err(Error::file("write the snapshot", &path))?;
    fs::remove_file(&unfinished).map_err(Error::file("remove", &unfinished))?;
    sync_folder(&options.folder)?;
    let bytes = fs::metadata(&path)
        .map_err(Error::file("look at", &path))?
        .len();
    Ok(Saved {
        path,
        header,
        bytes,
    })
}

/// What is sealed in a server's store, and by what.
pub(crate) fn bootstrap_sealers(keys: Arc<SealingKeys>) -> Vec<sqlite::SealedPrefix> {
    // Only opening counts here, which goes by the key's number.
    vec![sqlite::SealedPrefix {
        prefix: Vec::new(),
        sealer: keys,
    }]
}

fn cluster(data_dir: &DataDir) -> Result<String> {
    let path = data_dir.tls().join("server-ca.crt");
    let pem = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    let roots = pki::roots_in_pem(&pem);
    Ok(AuthorityHash::of_pem(roots.first().unwrap_or(&pem)).to_string())
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let failed = Error::file("lock", &path);
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(&failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

fn remove_unfinished(folder: &Path) -> Result<()> {
    let failed = Error::file("read the folder", folder);
    for entry in fs::read_dir(folder).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let path = entry.path();
            fs::remove_file(&path).map_err(Error::file("remove", &path))?;
        }
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|file| file.sync_all())
        .map_err(Error::file("fsync", folder))
}
