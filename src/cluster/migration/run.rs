//! The steps of a migration: copy, read, convert, write beside its place, compare, rename.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootstrap::DataDir;
use env::{Rng, Timestamp};
use kv::{KeyRange, Kv as _, RangeRequest};
use remote::Client;
use sqlite::{Imported, Options, SealedPrefix, SealingKeys, SqliteKv, import_store};

use crate::error::{Error, Result};
use crate::object::{Kinds, Outcome, claims};
use crate::{etcd_source, kine};

const PRIVATE_FOLDER: u32 = 0o700;
/// The folder in which everything is made.
const STAGE: &str = ".migrating";
/// Revisions between the last one of k3s and the first one here: whoever saw the former reads anew.
const STEP: i64 = 1000;

/// How a server seals its store.
pub type SealedBy = fn(Arc<SealingKeys>) -> Vec<SealedPrefix>;

/// Keys that were not taken over, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub key: String,
    pub why: &'static str,
}

#[derive(Debug)]
pub struct Migrated {
    /// Objects that were taken over.
    pub objects: usize,
    /// Claims of Services that k3s keeps in another form.
    pub claims: usize,
    pub revision: i64,
    pub left_out: Vec<LeftOut>,
}

/// Where the objects come from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// The database of a stopped k3s.
    Kine(&'a Path),
    /// An etcd cluster, whose API server is best stopped: what is written after the moment of reading stays there.
    Etcd(&'a Client),
}

/// Makes the store of a server that has none yet.
pub async fn migrate(
    source: Source<'_>,
    data_dir: &DataDir,
    sealed_by: SealedBy,
    (now, rng): (Timestamp, &Arc<dyn Rng>),
) -> Result<Migrated> {
    if data_dir.database().exists() {
        return Err(Error::NotEmpty(data_dir.root().to_owned()));
    }
    let stage = data_dir.root().join(STAGE);
    remove(&stage)?;
    make_folder(&stage)?;
    let made = make(source, data_dir, &stage, sealed_by, (now, rng)).await;
    match made {
        Ok(migrated) => {
            let database = data_dir.database();
            make_folder(database.parent().expect("the database is in a folder"))?;
            let made = stage.join("state.db");
            fs::rename(&made, &database).map_err(Error::file("rename", &made))?;
            remove(&stage)?;
            Ok(migrated)
        }
        Err(error) => {
            remove(&stage)?;
            Err(error)
        }
    }
}

async fn make(
    source: Source<'_>,
    data_dir: &DataDir,
    stage: &Path,
    sealed_by: SealedBy,
    (now, rng): (Timestamp, &Arc<dyn Rng>),
) -> Result<Migrated> {
    let contents = match source {
        Source::Kine(path) => {
            not_in_use(path)?;
            kine::read(&copy(path, stage)?)?
        }
        Source::Etcd(client) => etcd_source::read(client).await?,
    };
    let kinds = Kinds::new();
    let mut left_out = Vec::new();
    let mut values = BTreeMap::new();
    let mut entries = Vec::new();
    for row in contents.rows {
        if row.is_leased {
            let (key, why) = (row.key, "it would have gone by itself");
            left_out.push(LeftOut { key, why });
            continue;
        }
        match kinds.convert(&row.key, &row.value)? {
            Outcome::LeftOut(why) => left_out.push(LeftOut { key: row.key, why }),
            Outcome::Stored { key, value } => {
                values.insert(key.clone(), value.clone());
                entries.push(Imported {
                    key: key.into_bytes(),
                    value,
                    create_revision: row.create_revision,
                    mod_revision: row.mod_revision,
                    version: row.version,
                });
            }
        }
    }
    let objects = entries.len();
    let claimed = claims(&values, (&|| rng.uuid(), &now.to_seconds_string()));
    let count = claimed.len();
    let mut revision = contents.revision;
    for (key, value) in claimed {
        revision += 1;
        entries.push(Imported {
            key: key.into_bytes(),
            value,
            create_revision: revision,
            mod_revision: revision,
            version: 1,
        });
    }
    revision += STEP;
    let key_file = data_dir.encryption_key();
    make_folder(key_file.parent().expect("the key is in a folder"))?;
    let keys = SealingKeys::load_or_create(&key_file, Arc::clone(rng))?;
    let made = stage.join("state.db");
    import_store(&made, sealed_by(Arc::clone(&keys)), &entries, revision)?;
    compare(&made, sealed_by(keys), &entries).await?;
    Ok(Migrated {
        objects,
        claims: count,
        revision,
        left_out,
    })
}

/// Reads the new store as a server does, and compares every key.
async fn compare(path: &Path, sealers: Vec<SealedPrefix>, entries: &[Imported]) -> Result<()> {
    let options = Options {
        sealers,
        auto_compaction: None,
        ..Options::default()
    };
    let store = SqliteKv::open(path, options)?;
    let all = store
        .range(RangeRequest::newest(KeyRange::prefix("")))
        .await?;
    store.close().await?;
    let mut found: BTreeMap<&[u8], _> = BTreeMap::new();
    for entry in &all.entries {
        found.insert(&entry.key, entry);
    }
    for wanted in entries {
        let is_there = found.remove(wanted.key.as_slice()).is_some_and(|entry| {
            *entry.value == *wanted.value
                && entry.create_revision == wanted.create_revision
                && entry.mod_revision == wanted.mod_revision
                && entry.version == wanted.version
        });
        if !is_there {
            let key = String::from_utf8_lossy(&wanted.key).into_owned();
            return Err(Error::Differs { key });
        }
    }
    match found.keys().next() {
        Some(key) => Err(Error::Differs {
            key: String::from_utf8_lossy(key).into_owned(),
        }),
        None => Ok(()),
    }
}

/// The database with its log, which is worked into the copy.
fn copy(source: &Path, stage: &Path) -> Result<PathBuf> {
    let target = stage.join("source.db");
    for ending in ["", "-wal"] {
        let name = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let from = name(source);
        if ending.is_empty() || from.exists() {
            fs::copy(&from, name(&target)).map_err(Error::file("copy", &from))?;
        }
    }
    Ok(target)
}

/// A database that is written to while it is copied gives a copy of no moment.
fn not_in_use(source: &Path) -> Result<()> {
    let path = fs::canonicalize(source).map_err(Error::file("find", source))?;
    let processes = fs::read_dir("/proc").map_err(Error::file("read", Path::new("/proc")))?;
    for process in processes.flatten() {
        let name = process.file_name().to_string_lossy().into_owned();
        let files = fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten();
        for file in files.flatten() {
            if fs::read_link(file.path()).is_ok_and(|opened| opened == path) {
                return Err(Error::InUse {
                    path,
                    process: name,
                });
            }
        }
    }
    Ok(())
}

pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_FOLDER)
        .create(folder)
        .map_err(Error::file("make the folder", folder))
}

pub(crate) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", folder)(error))
        }
        _ => Ok(()),
    }
}
