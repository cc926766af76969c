//! What a server's store holds, in the layout of upstream's API server: for a k3s, or for an etcd.
//!
//! Values stay JSON, which upstream reads like its own protobuf.

use std::path::Path;
use std::sync::Arc;

use bootstrap::DataDir;
use env::Rng;
use kv::{KeyRange, Kv as _, RangeRequest, Revision};
use remote::Client;
use sqlite::{Options, SealingKeys, SqliteKv, check_copy, copy_store};

use crate::contents::Row;
use crate::error::{Error, Result};
use crate::etcd_source::{OBJECTS, order};
use crate::run::{LeftOut, SealedBy, make_folder, remove};
use crate::{etcd_target, kine_target};

/// The folder in which the copy is that is read.
const STAGE: &str = ".exporting";
/// Parts of keys that upstream calls otherwise.
const RENAMED: &[(&str, &str)] = &[
    ("apiservices", "apiregistration.k8s.io/apiservices"),
    (
        "customresourcedefinitions",
        "apiextensions.k8s.io/customresourcedefinitions",
    ),
    ("endpoints", "services/endpoints"),
    ("ingresses", "ingress"),
    ("nodes", "minions"),
    ("replicationcontrollers", "controllers"),
    ("services", "services/specs"),
];
/// What upstream keeps in another form and makes anew, and what is only ours.
const LEFT_OUT: &[&str] = &["ranges", "combo-servers"];

/// Where the objects go.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A new file, as k3s reads it.
    Kine(&'a Path),
    /// An etcd cluster with no objects in it.
    Etcd(&'a Client),
}

#[derive(Debug)]
pub struct Exported {
    pub objects: usize,
    /// The newest one, here.
    pub revision: Revision,
    pub left_out: Vec<LeftOut>,
}

/// Writes all objects as they are at one moment, while the server runs or not, and reads them again.
pub async fn export(
    data_dir: &DataDir,
    target: Target<'_>,
    sealed_by: SealedBy,
    rng: &Arc<dyn Rng>,
) -> Result<Exported> {
    if !data_dir.database().is_file() {
        return Err(Error::NoServer(data_dir.root().to_owned()));
    }
    if let Target::Kine(path) = target
        && path.exists()
    {
        return Err(Error::TargetExists(path.to_owned()));
    }
    let stage = data_dir.root().join(STAGE);
    remove(&stage)?;
    make_folder(&stage)?;
    let read = read(data_dir, &stage.join("state.db"), sealed_by, rng).await;
    remove(&stage)?;
    let mut read = read?;
    let revision = order(&mut read.rows, read.revision);
    match target {
        Target::Kine(path) => kine_target::write(path, &read.rows, revision)?,
        Target::Etcd(client) => etcd_target::write(client, &read.rows).await?,
    }
    Ok(Exported {
        objects: read.rows.len(),
        revision,
        left_out: read.left_out,
    })
}

struct Read {
    rows: Vec<Row>,
    revision: Revision,
    left_out: Vec<LeftOut>,
}

async fn read(
    data_dir: &DataDir,
    copy: &Path,
    sealed_by: SealedBy,
    rng: &Arc<dyn Rng>,
) -> Result<Read> {
    copy_store(&data_dir.database(), copy)?;
    let keys = SealingKeys::load(&data_dir.encryption_key(), Arc::clone(rng))?;
    let checked = check_copy(copy, sealed_by(Arc::clone(&keys)))?;
    if let Some(problem) = checked.problems.first() {
        return Err(Error::DamagedStore {
            path: data_dir.database(),
            why: problem.clone(),
        });
    }
    let options = Options {
        sealers: sealed_by(keys),
        auto_compaction: None,
        ..Options::default()
    };
    let store = SqliteKv::open(copy, options)?;
    let all = store
        .range(RangeRequest::newest(KeyRange::prefix("")))
        .await?;
    store.close().await?;
    let (mut rows, mut left_out) = (Vec::new(), Vec::new());
    for entry in &all.entries {
        let key = String::from_utf8_lossy(&entry.key).into_owned();
        match upstream_key(&key) {
            _ if entry.lease != 0 => left_out.push(LeftOut {
                key,
                why: "it would have gone by itself",
            }),
            None => left_out.push(LeftOut {
                key,
                why: "a component's own",
            }),
            Some(key) => rows.push(Row {
                key,
                value: entry.value.to_vec(),
                create_revision: entry.create_revision,
                mod_revision: entry.mod_revision,
                version: entry.version,
                is_leased: false,
            }),
        }
    }
    Ok(Read {
        rows,
        revision: checked.revision,
        left_out,
    })
}

/// Where upstream has an object; `None`: nowhere.
fn upstream_key(key: &str) -> Option<String> {
    let below = key.strip_prefix(OBJECTS)?;
    let (first, rest) = below.split_once('/')?;
    if LEFT_OUT.contains(&first) {
        return None;
    }
    let renamed = RENAMED.iter().find(|(ours, _)| *ours == first);
    let first = renamed.map_or(first, |(_, upstreams)| upstreams);
    Some(format!("{OBJECTS}{first}/{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_upstream() {
        let upstream = |key: &str| upstream_key(&format!("/registry/{key}"));
        let key = |key: &str| Some(format!("/registry/{key}"));
        assert_eq!(upstream("pods/a/b"), key("pods/a/b"));
        assert_eq!(upstream("services/a/b"), key("services/specs/a/b"));
        assert_eq!(upstream("endpoints/a/b"), key("services/endpoints/a/b"));
        assert_eq!(upstream("nodes/a"), key("minions/a"));
        assert_eq!(
            upstream("example.com/cars/a/b"),
            key("example.com/cars/a/b")
        );
        assert_eq!(upstream("ranges/servicenodeports/30000"), None);
        assert_eq!(upstream_key("/combo/shared-keys"), None);
    }
}
