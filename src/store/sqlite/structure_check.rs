//! After a stop that was not clean, the structure of the file is looked through beside the work; the rows were checked when they were read.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use kv::Alarm;
use rusqlite::{Connection, InterruptHandle};

use crate::alarms::Alarms;
use crate::schema;

/// A look that runs; it ends with its owner.
pub(crate) struct StructureCheck {
    interrupt: InterruptHandle,
    thread: Option<JoinHandle<()>>,
}

impl StructureCheck {
    pub(crate) fn start(path: &Path, alarms: Arc<Alarms>) -> rusqlite::Result<Self> {
        let connection = schema::open_second(path)?;
        let interrupt = connection.get_interrupt_handle();
        let work = move || match look(&connection) {
            Ok(found) if found == "ok" => {
                tracing::info!("the structure of the store is whole");
            }
            Ok(found) => alarms.raise(Alarm::Corrupt, &found),
            // What cannot be read now says so when it is needed.
            Err(error) => {
                alarms.note("check the structure", &error);
                tracing::debug!(%error, "the structure of the store was not checked to its end");
            }
        };
        let thread = std::thread::Builder::new()
            .name("store-check".into())
            .spawn(work);
        let thread = thread.expect("a thread can be started while the process starts");
        Ok(Self {
            interrupt,
            thread: Some(thread),
        })
    }
}

fn look(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
}

impl Drop for StructureCheck {
    fn drop(&mut self) {
        self.interrupt.interrupt();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}
