//! Which servers an agent knows, which of them answers, and the file that remembers both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linux::AtomicFile;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;

/// More servers than this are not believed.
const SERVERS_MAX: usize = 64;
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The servers of a cluster as `host:port`, the one to ask first in front. Clones share them.
#[derive(Clone, Debug)]
pub struct Servers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: PathBuf,
    /// What the file holds.
    kept: Mutex<Known>,
    /// What somebody told: a name can lead elsewhere when all addresses that the cluster named are gone.
    told: String,
    /// In the order they are tried; never empty.
    order: Mutex<Vec<String>>,
    known: watch::Sender<Vec<String>>,
    heard: watch::Sender<BTreeMap<String, Heard>>,
}

/// What a cluster says of its servers, each as `host:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    /// Each server where it wants to be reached.
    pub servers: Vec<String>,
    /// Other addresses of them, for when those are not reached.
    pub others: Vec<String>,
}

/// What calls have heard of one server.
#[derive(Debug, Default)]
struct Heard {
    /// The last answer did not come.
    is_silent: bool,
    /// How often one came after none.
    returns: u64,
}

impl Servers {
    /// What `file` remembers, and `first`, which somebody told; `first` is asked first.
    ///
    /// A file that is missing or damaged is only a list forgotten.
    pub fn open(file: &Path, first: &str) -> Self {
        let kept = remembered(file);
        let mut order = vec![first.to_owned()];
        order.extend(kept.servers.iter().cloned());
        dedup(&mut order);
        let known = watch::Sender::new(sorted(&order));
        order.extend(kept.others.iter().cloned());
        dedup(&mut order);
        let shared = Shared {
            file: file.to_owned(),
            kept: Mutex::new(kept),
            told: first.to_owned(),
            order: Mutex::new(order),
            known,
            heard: watch::Sender::default(),
        };
        Self(Arc::new(shared))
    }

    /// All servers and their other addresses, in the order to try them.
    pub fn candidates(&self) -> Vec<String> {
        self.0.order.lock().clone()
    }

    /// The servers whenever they change; sorted, so that their order says nothing.
    pub fn changes(&self) -> watch::Receiver<Vec<String>> {
        self.0.known.subscribe()
    }

    /// A request to this server was answered: it is asked first from now on.
    pub fn answered(&self, server: &str) {
        self.0.heard.send_if_modified(|heard| {
            let was_silent = heard.get_mut(server).filter(|heard| heard.is_silent);
            let returned = was_silent.map(|heard| {
                heard.is_silent = false;
                heard.returns += 1;
            });
            returned.is_some()
        });
        let mut order = self.0.order.lock();
        if order.first().is_some_and(|first| first == server) {
            return;
        }
        if let Some(at) = order.iter().position(|known| known == server) {
            order[..=at].rotate_right(1);
        }
    }

    /// A request to this server failed: all others come before it.
    pub fn failed(&self, server: &str) {
        let mut order = self.0.order.lock();
        if let Some(at) = order.iter().position(|known| known == server) {
            order[at..].rotate_left(1);
            self.0.heard.send_modify(|heard| {
                heard.entry(server.to_owned()).or_default().is_silent = true;
            });
        }
    }

    /// Returns when a server that was silent, or falls silent meanwhile, answers somebody. Cancel safe.
    pub async fn returned(&self, server: &str) {
        let mut heard = self.0.heard.subscribe();
        let returns = |heard: &BTreeMap<String, Heard>| heard.get(server).map(|one| one.returns);
        let before = returns(&heard.borrow());
        // The sender lives in `self`, so that the wait cannot fail.
        drop(
            heard
                .wait_for(|heard| returns(heard) > before.or(Some(0)))
                .await,
        );
    }

    /// The cluster's own word about its servers. An empty list is not believed; those that stay keep their order.
    pub fn replace(&self, mut known: Known) -> Result<(), linux::Error> {
        if known.servers.is_empty() {
            return Ok(());
        }
        for list in [&mut known.servers, &mut known.others] {
            list.sort();
            dedup(list);
        }
        let mut all = known.servers.clone();
        all.push(self.0.told.clone());
        all.extend(known.others.iter().cloned());
        dedup(&mut all);
        {
            let mut order = self.0.order.lock();
            order.retain(|one| all.contains(one));
            self.0
                .heard
                .send_modify(|heard| heard.retain(|one, _| all.contains(one)));
            order.extend(all);
            dedup(&mut order);
            order.sort_by_key(|one| !known.servers.contains(one));
        }
        self.0.known.send_if_modified(|before| {
            let is_news = *before != known.servers;
            before.clone_from(&known.servers);
            is_news
        });
        let mut kept = self.0.kept.lock();
        if *kept == known {
            return Ok(());
        }
        let text = json!(known).to_string();
        AtomicFile::private(&self.0.file).write(text.as_bytes())?;
        *kept = known;
        Ok(())
    }
}

fn remembered(file: &Path) -> Known {
    let size = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    if size == 0 || size > FILE_BYTES_MAX {
        return Known::default();
    }
    let text = std::fs::read(file).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn dedup(order: &mut Vec<String>) {
    let mut seen = Vec::new();
    order.retain(|server| {
        let is_new = !seen.contains(server);
        seen.push(server.clone());
        is_new
    });
    order.truncate(SERVERS_MAX);
}

fn sorted(order: &[String]) -> Vec<String> {
    let mut known = order.to_vec();
    known.sort();
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(servers: &[&str], others: &[&str]) -> Known {
        Known {
            servers: list(servers),
            others: list(others),
        }
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn who_answers_is_asked_first_and_who_fails_last() {
        let folder = tempfile::tempdir().expect("a folder");
        let servers = Servers::open(&folder.path().join("servers.json"), "a:1");
        servers
            .replace(known(&["a:1", "b:1", "c:1"], &[]))
            .expect("written");
        servers.failed("a:1");
        assert_eq!(servers.candidates(), list(&["b:1", "c:1", "a:1"]));
        servers.answered("c:1");
        assert_eq!(servers.candidates(), list(&["c:1", "b:1", "a:1"]));
        servers.failed("unknown:1");
        servers.answered("unknown:1");
        assert_eq!(servers.candidates(), list(&["c:1", "b:1", "a:1"]));
    }

    #[test]
    fn what_the_cluster_said_is_remembered_and_an_empty_word_is_not_believed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("servers.json");
        let servers = Servers::open(&file, "a:1");
        servers
            .replace(known(&["b:1", "c:1"], &[]))
            .expect("written");
        servers.replace(Known::default()).expect("nothing to write");
        let again = Servers::open(&file, "a:1");
        assert_eq!(again.candidates(), list(&["a:1", "b:1", "c:1"]));
        std::fs::write(&file, "{damaged").expect("written");
        assert_eq!(Servers::open(&file, "a:1").candidates(), list(&["a:1"]));
    }

    #[test]
    fn other_addresses_and_what_was_told_are_tried_last_and_have_no_connection_of_their_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("servers.json");
        let servers = Servers::open(&file, "name:1");
        let word = known(&["a:1"], &["b:1", "a:1"]);
        servers.replace(word.clone()).expect("written");
        assert_eq!(servers.candidates(), list(&["a:1", "name:1", "b:1"]));
        assert_eq!(*servers.changes().borrow(), list(&["a:1"]));
        let moved = known(&["b:1"], &[]);
        servers.replace(moved).expect("written");
        assert_eq!(servers.candidates(), list(&["b:1", "name:1"]));
        servers.replace(word).expect("written");
        let again = Servers::open(&file, "name:1");
        assert_eq!(again.candidates(), list(&["name:1", "a:1", "b:1"]));
    }
}
