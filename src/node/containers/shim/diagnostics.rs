//! What libcontainer says of an error on the way, kept for the message: the error itself names only the stage.
//!
//! The process that fails is a fork of a fork of the worker, so the words go to a memory file that all of them share.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The most that is read back, in bytes.
const BYTES_MAX: u64 = 4096;

/// The words of one worker.
pub(super) struct Diagnostics {
    file: File,
}

impl Diagnostics {
    /// Listens from now on, in this process and its forks. Once in a process.
    pub(super) fn listen() -> io::Result<Diagnostics> {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let file = File::from(rustix::fs::memfd_create("diagnostics", flags)?);
        let listener = Listener {
            file: Mutex::new(file.try_clone()?),
        };
        tracing::subscriber::set_global_default(listener).map_err(io::Error::other)?;
        Ok(Diagnostics { file })
    }

    /// The first thing that was said: the innermost code speaks first.
    pub(super) fn first(mut self) -> Option<String> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(0)).ok()?;
        self.file.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.lines()
            .next()
            .map(str::to_owned)
            .filter(|line| !line.is_empty())
    }
}

struct Listener {
    file: Mutex<File>,
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let line = format!("{}{}\n", words.message, words.fields);
        if let Ok(mut file) = self.file.lock() {
            // Words that are lost make a message shorter, nothing else.
            drop(file.write_all(line.replace('\n', " ").trim_end().as_bytes()));
            drop(file.write_all(b"\n"));
        }
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a text cannot fail.
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let _ = write!(self.fields, " {}={value:?}", field.name());
        }
    }
}
