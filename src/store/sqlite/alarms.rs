//! Why a store refuses writes, across restarts: a small file beside the database names the alarms that are raised, so that a damaged database need
//! not be written to for it, and a restored one has none.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use kv::Alarm;
use parking_lot::Mutex;

use crate::error::RESTORE_HINT;

/// What is done about a store that is full.
const SPACE_HINT: &str = "delete what is not needed and `combo db compact`, \
    or start with a larger --quota-backend-bytes; then `combo db disarm`";

#[derive(Debug)]
pub(crate) struct Alarms {
    path: PathBuf,
    /// With the reason.
    raised: Mutex<BTreeMap<Alarm, String>>,
}

impl Alarms {
    /// Reads which alarms of the database at `path` are raised.
    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".alarms");
        let path = PathBuf::from(name);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read,
        }?;
        let alarms = Self {
            path,
            raised: Mutex::default(),
        };
        for line in text.lines() {
            let (name, why) = line.split_once(' ').unwrap_or((line, ""));
            if let Some(alarm) = [Alarm::NoSpace, Alarm::Corrupt]
                .into_iter()
                .find(|alarm| self::name(*alarm) == name)
            {
                warn(alarm, why);
                alarms.raised.lock().insert(alarm, why.to_owned());
            }
        }
        Ok(alarms)
    }

    pub(crate) fn is_raised(&self, alarm: Alarm) -> bool {
        self.raised.lock().contains_key(&alarm)
    }

    pub(crate) fn raised(&self) -> Vec<Alarm> {
        self.raised.lock().keys().copied().collect()
    }

    pub(crate) fn raise(&self, alarm: Alarm, why: &str) {
        let mut raised = self.raised.lock();
        if raised.contains_key(&alarm) {
            return;
        }
        let why = why.replace('\n', " ");
        warn(alarm, &why);
        raised.insert(alarm, why);
        self.save(&raised);
    }

    /// Tells whether it was raised.
    pub(crate) fn clear(&self, alarm: Alarm) -> bool {
        let mut raised = self.raised.lock();
        let was_raised = raised.remove(&alarm).is_some();
        if was_raised {
            tracing::info!(
                alarm = name(alarm),
                "the store takes writes again: its alarm is cleared"
            );
            self.save(&raised);
        }
        was_raised
    }

    /// Raises the alarm that an error of the file calls for.
    pub(crate) fn note(&self, doing: &str, error: &rusqlite::Error) {
        if crate::error::is_damage(error) {
            self.raise(Alarm::Corrupt, &format!("{doing}: {error}"));
        }
    }

    /// In memory they are raised anyway.
    fn save(&self, raised: &BTreeMap<Alarm, String>) {
        if let Err(error) = self.write(raised) {
            tracing::warn!(%error, path = %self.path.display(), "the next start does not know of the store's alarms");
        }
    }

    fn write(&self, raised: &BTreeMap<Alarm, String>) -> io::Result<()> {
        if raised.is_empty() {
            return fs::remove_file(&self.path);
        }
        let mut text = String::new();
        for (alarm, why) in raised {
            let _infallible = writeln!(text, "{} {why}", name(*alarm));
        }
        let made = self.path.with_extension("alarms.new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&made)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&made, &self.path)?;
        fs::File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()
    }

    /// In Prometheus' text form.
    pub(crate) fn text(&self) -> String {
        let raised = self.raised.lock();
        let mut text = "# HELP combo_store_alarm Why the store refuses writes, 1 where it does.\n\
                        # TYPE combo_store_alarm gauge\n"
            .to_owned();
        for alarm in [Alarm::NoSpace, Alarm::Corrupt] {
            let value = u8::from(raised.contains_key(&alarm));
            let _infallible = writeln!(
                text,
                "combo_store_alarm{{alarm=\"{}\"}} {value}",
                name(alarm)
            );
        }
        text
    }
}

/// As etcd calls it.
fn name(alarm: Alarm) -> &'static str {
    match alarm {
        Alarm::NoSpace => "NOSPACE",
        Alarm::Corrupt => "CORRUPT",
    }
}

fn warn(alarm: Alarm, why: &str) {
    match alarm {
        Alarm::NoSpace => {
            tracing::error!("alarm NOSPACE: the store takes nothing new ({why}): {SPACE_HINT}");
        }
        Alarm::Corrupt => {
            tracing::error!(
                "alarm CORRUPT: the store is damaged and only read ({why}): {RESTORE_HINT}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_there_after_a_restart_until_they_are_cleared() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("state.db");
        let load = || Alarms::load(&database).expect("loaded");
        let alarms = load();
        alarms.raise(Alarm::Corrupt, "row 7\nis odd");
        alarms.raise(Alarm::NoSpace, "16 MiB");
        let alarms = load();
        assert_eq!(alarms.raised(), [Alarm::NoSpace, Alarm::Corrupt]);
        assert!(alarms.text().contains("{alarm=\"CORRUPT\"} 1"));
        assert!(alarms.clear(Alarm::NoSpace) && !alarms.clear(Alarm::NoSpace));
        let alarms = load();
        assert_eq!(alarms.raised(), [Alarm::Corrupt]);
        assert!(alarms.clear(Alarm::Corrupt));
        assert_eq!(load().raised(), []);
        let left = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 0);
    }
}
