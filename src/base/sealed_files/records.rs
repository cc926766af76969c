//! Records that are written behind everybody's back: one task, in order, nothing twice, and no write while nothing changes.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::error::{Error, Result};
use crate::folder::SealedFolder;

pub const RECORDS_MAX: usize = 16 * 1024;
/// What is not urgent waits this long for more of its kind.
const LAZY_AFTER: Duration = Duration::from_secs(5);
/// A disk that does not take a record is asked again after this time.
const RETRY: Duration = Duration::from_secs(30);

/// Called on the writing thread after something was written.
pub type AfterWriting = Box<dyn Fn() + Send + Sync>;
/// Makes a record's contents when they are due; `None`: it is removed.
type Make = Box<dyn FnOnce() -> Option<Vec<u8>> + Send>;

/// The records of one folder. Cloning it shares them.
#[derive(Clone)]
pub struct Records {
    shared: Arc<Shared>,
}

struct Shared {
    folder: SealedFolder,
    /// What is on the disk: a name, and the sum of its contents.
    known: Mutex<BTreeMap<String, u64>>,
    // Bounded by the number of names: each has one entry at most.
    pending: Mutex<BTreeMap<String, Waiting>>,
    arrived: Arc<Notify>,
    /// Held while something is taken out of `pending` and written.
    writing: tokio::sync::Mutex<()>,
    after_writing: AfterWriting,
}

struct Waiting {
    make: Make,
    haste: Haste,
    /// Who waits until it is durable; they hear false if it is not.
    told: Vec<oneshot::Sender<bool>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Haste {
    Later,
    Now,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("Records")
            .field(&self.shared.folder)
            .finish()
    }
}

impl Records {
    /// Reads what there is. Must be called within a runtime: a task of it writes until the last clone is gone.
    pub fn open(folder: SealedFolder, after_writing: AfterWriting) -> Result<Self> {
        let known = folder.read_all()?.into_iter();
        let known = known.map(|(name, contents)| (name, sum(&contents)));
        let shared = Arc::new(Shared {
            known: Mutex::new(known.collect()),
            folder,
            pending: Mutex::default(),
            arrived: Arc::default(),
            writing: tokio::sync::Mutex::default(),
            after_writing,
        });
        let (writer, arrived) = (Arc::downgrade(&shared), Arc::clone(&shared.arrived));
        env::spawn(write_on(writer, arrived));
        Ok(Self { shared })
    }

    /// The record as it was written last; what waits to be written does not count. A damaged one is none, with a warning.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        if !self.shared.known.lock().contains_key(name) {
            return None;
        }
        self.shared.folder.read(name).unwrap_or_else(|error| {
            tracing::warn!(%error, "a sealed record is not read");
            None
        })
    }

    /// Names that begin with `prefix`, in order.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let known = self.shared.known.lock();
        let from = known.range(prefix.to_owned()..);
        from.map(|(name, _)| name)
            .take_while(|name| name.starts_with(prefix))
            .cloned()
            .collect()
    }

    /// Writes a record at once: when this returns without an error, it or a later one of its name is durable.
    pub async fn put(&self, name: &str, contents: Vec<u8>) -> Result<()> {
        let (sender, written) = oneshot::channel();
        self.push(name, Haste::Now, Box::new(|| Some(contents)), Some(sender));
        match written.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::NotWritten),
            Err(_gone) => Err(Error::Ended),
        }
    }

    /// Writes a record as soon as the disk has time; nobody waits for it.
    pub fn put_soon(&self, name: &str, make: impl FnOnce() -> Option<Vec<u8>> + Send + 'static) {
        self.push(name, Haste::Now, Box::new(make), None);
    }

    /// Writes a record some seconds later, together with others; of several changes only the last is made.
    pub fn put_later(&self, name: &str, make: impl FnOnce() -> Option<Vec<u8>> + Send + 'static) {
        self.push(name, Haste::Later, Box::new(make), None);
    }

    /// Removes a record some seconds later.
    pub fn remove(&self, name: &str) {
        self.push(name, Haste::Later, Box::new(|| None), None);
    }

    /// Returns once everything that waits now was written, or cannot be.
    pub async fn flush(&self) {
        let mut all = Vec::new();
        for waiting in self.shared.pending.lock().values_mut() {
            let (sender, written) = oneshot::channel();
            waiting.told.push(sender);
            waiting.haste = Haste::Now;
            all.push(written);
        }
        self.shared.arrived.notify_one();
        for written in all {
            // Failures are logged where they happen; gone means that the runtime ends.
            let _is_written = written.await;
        }
        // What was under way already is done as well.
        drop(self.shared.writing.lock().await);
    }

    fn push(&self, name: &str, haste: Haste, make: Make, told: Option<oneshot::Sender<bool>>) {
        {
            let mut pending = self.shared.pending.lock();
            let before = pending.remove(name);
            let mut waiting = Waiting {
                make,
                haste,
                told: told.into_iter().collect(),
            };
            if let Some(before) = before {
                waiting.haste = haste.max(before.haste);
                waiting.told.extend(before.told);
            }
            pending.insert(name.to_owned(), waiting);
        }
        self.shared.arrived.notify_one();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.arrived.notify_one();
    }
}

impl Shared {
    fn take(&self, at_least: Haste) -> Vec<(String, Waiting)> {
        let mut pending = self.pending.lock();
        let all = std::mem::take(&mut *pending).into_iter();
        let (due, rest) = all.partition(|(_, waiting)| waiting.haste >= at_least);
        *pending = rest;
        let due: BTreeMap<String, Waiting> = due;
        due.into_iter().collect()
    }

    fn is_anything_waiting(&self) -> bool {
        !self.pending.lock().is_empty()
    }

    /// False if something could not be written; it waits again.
    fn write_all(&self, batch: Vec<(String, Waiting)>) -> bool {
        let (mut changed, mut all_written) = (false, true);
        for (name, waiting) in batch {
            let contents = (waiting.make)();
            let done = self.write(&name, contents.as_deref());
            if let Err(error) = &done {
                tracing::error!(%error, "a record is not kept: it would be missing after a restart");
            }
            for told in waiting.told {
                // Who does not wait any more needs no answer.
                let _unheard = told.send(done.is_ok());
            }
            match done {
                Ok(is_new) => changed |= is_new,
                Err(Error::TooLarge { .. } | Error::TooMany) => {}
                Err(_) => {
                    all_written = false;
                    self.put_back(name, contents);
                }
            }
        }
        if changed {
            (self.after_writing)();
        }
        all_written
    }

    /// False if the disk has it already.
    fn write(&self, name: &str, contents: Option<&[u8]>) -> Result<bool> {
        let known = self.known.lock().get(name).copied();
        let Some(contents) = contents else {
            if known.is_none() {
                return Ok(false);
            }
            self.folder.remove(name)?;
            self.known.lock().remove(name);
            return Ok(true);
        };
        let digest = sum(contents);
        if known == Some(digest) {
            return Ok(false);
        }
        if known.is_none() && self.known.lock().len() >= RECORDS_MAX {
            return Err(Error::TooMany);
        }
        self.folder.write(name, contents)?;
        self.known.lock().insert(name.to_owned(), digest);
        Ok(true)
    }

    fn put_back(&self, name: String, contents: Option<Vec<u8>>) {
        // A newer change that came meanwhile counts.
        self.pending.lock().entry(name).or_insert_with(|| Waiting {
            make: Box::new(|| contents),
            haste: Haste::Later,
            told: Vec::new(),
        });
    }
}

/// The task that writes: what is urgent at once, the rest some seconds after the first of it came.
async fn write_on(shared: Weak<Shared>, arrived: Arc<Notify>) {
    let mut timer: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
    loop {
        let due = async {
            match &mut timer {
                Some(timer) => timer.await,
                None => std::future::pending().await,
            }
        };
        let at_least = tokio::select! {
            biased;
            () = due => Haste::Later,
            () = arrived.notified() => Haste::Now,
        };
        if at_least == Haste::Later {
            timer = None;
        }
        let Some(strong) = shared.upgrade() else {
            return;
        };
        let turn = strong.writing.lock().await;
        let batch = strong.take(at_least);
        let written = if batch.is_empty() {
            Ok(true)
        } else {
            let writing = Arc::clone(&strong);
            env::spawn_blocking(move || writing.write_all(batch)).await
        };
        drop(turn);
        match written {
            Ok(true) if strong.is_anything_waiting() => {
                timer.get_or_insert_with(|| Box::pin(env::sleep(LAZY_AFTER)));
            }
            Ok(true) => {}
            Ok(false) => timer = Some(Box::pin(env::sleep(RETRY))),
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is ending, and this task with it.
                Err(_cancelled) => return,
            },
        }
    }
}

/// Tells whether contents differ; no secret is made of it.
fn sum(contents: &[u8]) -> u64 {
    let digest = ring::digest::digest(&ring::digest::SHA256, contents);
    let first = digest.as_ref().first_chunk::<8>();
    u64::from_le_bytes(*first.expect("a digest has 32 bytes"))
}
