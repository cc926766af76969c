//! Which servers an agent knows, which of them answers, and the file that remembers both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linux::AtomicFile;
use parking_lot::Mutex;
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
    /// In the order they are tried; never empty.
    order: Mutex<Vec<String>>,
    known: watch::Sender<Vec<String>>,
    heard: watch::Sender<BTreeMap<String, Heard>>,
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
        let mut order = vec![first.to_owned()];
        order.extend(remembered(file));
        dedup(&mut order);
        let known = watch::Sender::new(sorted(&order));
        let shared = Shared {
            file: file.to_owned(),
            order: Mutex::new(order),
            known,
            heard: watch::Sender::default(),
        };
        Self(Arc::new(shared))
    }

    /// All servers, in the order to try them.
    pub fn candidates(&self) -> Vec<String> {
        self.0.order.lock().clone()
    }

    /// The list whenever it changes; sorted, so that its order says nothing.
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
    pub fn replace(&self, servers: &[String]) -> Result<(), linux::Error> {
        if servers.is_empty() {
            return Ok(());
        }
        let known = {
            let mut order = self.0.order.lock();
            order.retain(|known| servers.contains(known));
            let stays = |heard: &mut BTreeMap<String, Heard>| {
                heard.retain(|known, _| servers.contains(known));
            };
            self.0.heard.send_modify(stays);
            order.extend(servers.iter().cloned());
            dedup(&mut order);
            sorted(&order)
        };
        let is_news = self.0.known.send_if_modified(|before| {
            let is_news = *before != known;
            before.clone_from(&known);
            is_news
        });
        if !is_news {
            return Ok(());
        }
        let text = json!({ "servers": known }).to_string();
        AtomicFile::private(&self.0.file).write(text.as_bytes())
    }
}

fn remembered(file: &Path) -> Vec<String> {
    let size = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    if size == 0 || size > FILE_BYTES_MAX {
        return Vec::new();
    }
    let text = std::fs::read(file).unwrap_or_default();
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let servers = value["servers"].as_array().into_iter().flatten();
    servers
        .filter_map(|server| server.as_str().map(str::to_owned))
        .collect()
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

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn who_answers_is_asked_first_and_who_fails_last() {
        let folder = tempfile::tempdir().expect("a folder");
        let servers = Servers::open(&folder.path().join("servers.json"), "a:1");
        servers
            .replace(&list(&["a:1", "b:1", "c:1"]))
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
        servers.replace(&list(&["b:1", "c:1"])).expect("written");
        servers.replace(&[]).expect("nothing to write");
        let again = Servers::open(&file, "a:1");
        assert_eq!(again.candidates(), list(&["a:1", "b:1", "c:1"]));
        std::fs::write(&file, "{damaged").expect("written");
        assert_eq!(Servers::open(&file, "a:1").candidates(), list(&["a:1"]));
    }
}
