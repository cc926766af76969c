//! Follows the folder: applied at start, and whenever something in it changes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use controller::{Event, EventRecorder, EventType};
use env::{Clock, Shutdown};
use k8s_openapi::api::core::v1::ObjectReference;
use kube_client::Client;

use crate::folder::{FileState, Snapshot, Watched};
use crate::pass::{FIELD_MANAGER, News, Outcome, Pass};
use crate::plan::plan;
use crate::record::{NAMESPACE, record_name};

/// Changes that come together are read together; an editor writes a file in several steps.
const SETTLE: Duration = Duration::from_millis(300);
/// What the API did not take is tried again: a kind may be served a moment later.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Failures of one file that are told; more would fill the log.
const FAILURES_TOLD_MAX: usize = 10;

/// What the manifests folder works with.
pub struct AddOns {
    pub folder: PathBuf,
    /// Whose folder it is, among the servers of a shared store: what only others' files made is none of its business.
    pub owner: Option<String>,
    /// May do everything: files may say anything.
    pub client: Client,
    pub clock: Arc<dyn Clock>,
    pub shutdown: Shutdown,
}

impl std::fmt::Debug for AddOns {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "AddOns({})", self.folder.display())
    }
}

/// Runs until the end is asked for; an error: the folder cannot be watched.
pub async fn run(parts: AddOns) -> std::io::Result<()> {
    let watched = Watched::open(&parts.folder)?;
    let events = EventRecorder::new(
        parts.client.clone(),
        FIELD_MANAGER,
        "",
        Arc::clone(&parts.clock),
    );
    let mut follower = Follower {
        client: parts.client,
        events,
        applied: BTreeMap::new(),
        told: BTreeMap::new(),
    };
    let mut retry = RETRY_FIRST;
    loop {
        let snapshot = read(&parts.folder, &watched).await;
        let snapshot = snapshot.owned_by(parts.owner.as_deref());
        let settled = follower.pass(&snapshot).await;
        let again = async {
            if settled {
                std::future::pending::<()>().await;
            }
            env::sleep(retry).await;
        };
        tokio::select! {
            biased;
            () = parts.shutdown.requested() => return Ok(()),
            () = watched.changed() => {
                env::sleep(SETTLE).await;
                watched.take();
                retry = RETRY_FIRST;
            }
            () = again => retry = (retry * 2).min(RETRY_MAX),
        }
    }
}

/// Reads until no folder turned up that was not watched while it was read.
async fn read(folder: &std::path::Path, watched: &Watched) -> Snapshot {
    let look = async || {
        let folder = folder.to_owned();
        let read = env::spawn_blocking(move || Snapshot::read(&folder)).await;
        read.expect("reading a folder does not panic")
    };
    let mut snapshot = look().await;
    loop {
        watched.also(&snapshot.folders);
        let again = look().await;
        if again.folders == snapshot.folders {
            return again;
        }
        snapshot = again;
    }
}

struct Follower {
    client: Client,
    events: Arc<EventRecorder>,
    /// What this process applied whole, by file.
    applied: BTreeMap<String, String>,
    /// What is wrong with files and was told already.
    told: BTreeMap<String, Vec<String>>,
}

impl Follower {
    /// Whether everything is in force that can be.
    async fn pass(&mut self, snapshot: &Snapshot) -> bool {
        let mut pass = Pass::new(&self.client);
        let records = match pass.records().await {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!(%error, "the records of manifests cannot be read");
                return false;
            }
        };
        self.told
            .retain(|file, _| snapshot.files.contains_key(file));
        self.applied
            .retain(|file, _| matches!(snapshot.files.get(file), Some(FileState::Good { .. })));
        for (file, state) in &snapshot.files {
            if let FileState::Bad(why) = state {
                self.tell_failures(file, vec![why.clone()]);
            }
        }
        let plan = plan(snapshot, &records, &self.applied);
        let mut settled = true;
        for outcome in pass.carry_out(&plan, &records).await {
            settled &= self.take(outcome);
        }
        settled
    }

    fn take(&mut self, outcome: Outcome) -> bool {
        let Outcome {
            file,
            checksum,
            news,
        } = outcome;
        let is_settled = !matches!(news, News::Failed(_));
        match checksum {
            Some(checksum) => self.applied.insert(file.clone(), checksum),
            None => self.applied.remove(&file),
        };
        match news {
            News::None => {
                self.told.remove(&file);
            }
            News::Applied { objects, pruned } => {
                self.told.remove(&file);
                tracing::info!(file, objects, pruned, "a manifest is applied");
                let message = format!("{file}: {objects} objects applied, {pruned} removed");
                self.emit(&file, EventType::Normal, "Applied", message);
            }
            News::Removed { pruned } => {
                tracing::info!(file, pruned, "a manifest is gone, and what it made with it");
                let message = format!("{file} is gone: {pruned} objects removed");
                self.emit(&file, EventType::Normal, "Removed", message);
            }
            News::Failed(failures) => self.tell_failures(&file, failures),
        }
        is_settled
    }

    /// Once, however often it is tried.
    fn tell_failures(&mut self, file: &str, mut failures: Vec<String>) {
        if failures.len() > FAILURES_TOLD_MAX {
            let more = failures.len() - FAILURES_TOLD_MAX;
            failures.truncate(FAILURES_TOLD_MAX);
            failures.push(format!("and {more} more"));
        }
        if self.told.get(file) == Some(&failures) {
            return;
        }
        let text = failures.join("; ");
        tracing::warn!(file, why = text, "a manifest is not in force");
        self.emit(
            file,
            EventType::Warning,
            "Failed",
            format!("{file}: {text}"),
        );
        self.told.insert(file.to_owned(), failures);
    }

    fn emit(&self, file: &str, event_type: EventType, reason: &str, message: String) {
        let regarding = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("ConfigMap".to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            name: Some(record_name(file)),
            ..ObjectReference::default()
        };
        self.events.emit(Event {
            regarding,
            event_type,
            reason: reason.to_owned(),
            message,
        });
    }
}
