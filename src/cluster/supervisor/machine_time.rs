//! What time it is, on machines whose clock cannot be trusted: the last time that was seen is kept, people are told when the clock is wrong,
//! and what goes by dates looks again when they change.
//!
//! The record is written at the start if it is old, with certificates, at an orderly stop, when the clock turns out to be earlier, and
//! otherwise once a day. After a power cut it is a day old at most, which does no harm: certificates begin long before, leases and the lives
//! of tokens on nodes go by the monotonic clock.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use env::{Basis, Clock, FlooredClock, Shutdown, SystemClock, Timestamp};
use linux::wall_clock::{ClockSettings, is_synchronised};
use linux::{AtomicFile, Readable};
use tokio::sync::{Notify, watch};

/// In the data folder. Whoever knows that the clock is right removes it.
const RECORD_FILE: &str = "last-seen";
const RECORD_BYTES_MAX: u64 = 64;
const RECORD_AGE_MAX: Duration = Duration::from_hours(24);
/// No event tells that a clock is synchronised: one in doubt is asked after this, one that is not in doubt never.
pub(crate) const DOUBT_PAUSE: Duration = Duration::from_mins(1);
/// A jump below this concerns nobody.
const JUMP_MIN: Duration = Duration::from_mins(1);

/// The clock of a process with all that belongs to it. Cloning it shares everything.
#[derive(Clone)]
pub(crate) struct MachineTime(Arc<Inner>);

struct Inner {
    clock: Arc<FlooredClock>,
    record: PathBuf,
    /// A server said what time it is.
    told: Notify,
    /// Dates are others than they were.
    changes: watch::Sender<()>,
}

/// What holds at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    monotonic: Duration,
    wall: Timestamp,
    now: Timestamp,
    basis: Basis,
}

/// What people are told of the clock, as an Event and in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClockNews {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Takes [`ClockNews`] to where people look.
pub(crate) type Tell = Box<dyn Fn(ClockNews) + Send + Sync>;

impl MachineTime {
    /// The machine's time, not before what is on record in the data folder nor before this program was built.
    pub(crate) fn open(data_dir: &Path) -> Self {
        let record = data_dir.join(RECORD_FILE);
        let recorded = read(&record);
        let floor = recorded.unwrap_or(Timestamp::UNIX_EPOCH);
        let floor = floor.max(Timestamp::of_build());
        let clock = FlooredClock::new(SystemClock::shared(), floor, is_synchronised);
        let this = Self(Arc::new(Inner {
            clock: Arc::new(clock),
            record,
            told: Notify::new(),
            changes: watch::channel(()).0,
        }));
        this.keep_record(recorded);
        this
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0.clock) as Arc<dyn Clock>
    }

    pub(crate) fn basis(&self) -> Basis {
        self.0.clock.basis()
    }

    /// Fires when dates are others than they were.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    /// A server that proved itself says what time it is.
    pub(crate) fn learn(&self, time: Timestamp) {
        self.0.clock.learn(time);
        self.0.told.notify_one();
    }

    /// Keeps the time on disk: where something durable is written anyway, or for the last time.
    pub(crate) fn record(&self) {
        let now = self.0.clock.now().to_seconds_string();
        let file = AtomicFile::with_mode(&self.0.record, 0o644);
        if let Err(error) = file.write(now.as_bytes()) {
            tracing::warn!(%error, "the time is not kept for the next start");
        }
    }

    /// Writes the record if it is old, or of a time that has not come.
    fn keep_record(&self, recorded: Option<Timestamp>) {
        let now = self.0.clock.now();
        let is_kept = recorded.is_some_and(|recorded| {
            recorded <= now && now.saturating_since(recorded) < RECORD_AGE_MAX
        });
        if !is_kept {
            self.record();
        }
    }

    /// Looks after the time until the end is asked for.
    pub(crate) async fn watch(self, tell: Tell, shutdown: Shutdown) {
        let settings = match ClockSettings::watch().and_then(|settings| {
            let readable = Readable::new(&settings)?;
            Ok((settings, readable))
        }) {
            Ok(settings) => settings,
            Err(error) => {
                tracing::error!(%error, "nobody notices when the clock is set");
                return;
            }
        };
        let mut before = self.moment();
        spread(first_news(&before, &self.0.record), &tell);
        loop {
            let wait = if before.basis == Basis::Wall {
                RECORD_AGE_MAX
            } else {
                DOUBT_PAUSE
            };
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                _set = settings.1.read_with(|| match settings.0.take() {
                    Ok(is_set) => is_set.then_some(()),
                    Err(error) => {
                        tracing::warn!(%error, "the kernel tells nothing of the clock");
                        None
                    }
                }) => {}
                () = self.0.told.notified() => {}
                () = env::sleep(wait) => {}
            }
            let after = self.moment();
            self.keep_record(read(&self.0.record));
            spread(news(&before, &after, &self.0.record), &tell);
            if jump(&before, &after, |moment| moment.now) >= JUMP_MIN || before.basis != after.basis
            {
                self.0.changes.send_replace(());
            }
            before = after;
        }
    }

    fn moment(&self) -> Moment {
        let clock = &self.0.clock;
        Moment {
            monotonic: clock.monotonic(),
            wall: clock.wall(),
            now: clock.now(),
            basis: clock.basis(),
        }
    }
}

fn spread(news: Option<ClockNews>, tell: &Tell) {
    if let Some(news) = news {
        tracing::warn!("{}", news.message);
        tell(news);
    }
}

impl fmt::Debug for MachineTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MachineTime")
    }
}

/// The time on record; what is not readable counts as none.
fn read(record: &Path) -> Option<Timestamp> {
    let file = match std::fs::File::open(record) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(record = %record.display(), %error, "the last time that was seen cannot be read");
            return None;
        }
    };
    let mut text = String::new();
    let is_read = file
        .take(RECORD_BYTES_MAX)
        .read_to_string(&mut text)
        .is_ok();
    let time = Timestamp::parse(text.trim()).filter(|_| is_read);
    if time.is_none() {
        tracing::warn!(record = %record.display(), "the last time that was seen is no time; it does not count");
    }
    time
}

/// By how much a time went on more or less than the monotonic clock did.
fn jump(before: &Moment, after: &Moment, of: fn(&Moment) -> Timestamp) -> Duration {
    let passed = after.monotonic.saturating_sub(before.monotonic);
    of(after).distance(of(before).saturating_add(passed))
}

/// What is to be told at a start.
fn first_news(moment: &Moment, record: &Path) -> Option<ClockNews> {
    match moment.basis {
        Basis::Wall => None,
        Basis::LastKnown => Some(behind(moment, record)),
        Basis::Told => Some(off(moment)),
    }
}

/// What is to be told of what happened in between.
fn news(before: &Moment, after: &Moment, record: &Path) -> Option<ClockNews> {
    let is_set = jump(before, after, |moment| moment.wall) >= JUMP_MIN;
    if !is_set && before.basis == after.basis {
        return None;
    }
    Some(match after.basis {
        Basis::LastKnown => behind(after, record),
        Basis::Told => off(after),
        Basis::Wall if is_set => ClockNews {
            reason: "ClockSet",
            message: format!(
                "the machine's clock was set from {} to {}, and counts",
                before.wall.to_seconds_string(),
                after.wall.to_seconds_string()
            ),
        },
        Basis::Wall => ClockNews {
            reason: "ClockRight",
            message: format!(
                "the machine's clock, {}, counts again",
                after.wall.to_seconds_string()
            ),
        },
    })
}

fn behind(moment: &Moment, record: &Path) -> ClockNews {
    ClockNews {
        reason: "ClockBehind",
        message: format!(
            "the machine's clock shows {}, and it was {} already: time goes on from that until the clock is synchronised; \
             if the clock is right, remove {} and restart",
            moment.wall.to_seconds_string(),
            moment.now.to_seconds_string(),
            record.display()
        ),
    }
}

fn off(moment: &Moment) -> ClockNews {
    ClockNews {
        reason: "ClockOff",
        message: format!(
            "the machine's clock shows {}, and the server says that it is {}: that counts until the clock is set",
            moment.wall.to_seconds_string(),
            moment.now.to_seconds_string()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const YEAR: i64 = 365 * 86_400;

    fn moment(monotonic: u64, wall: i64, now: i64, basis: Basis) -> Moment {
        Moment {
            monotonic: Duration::from_secs(monotonic),
            wall: Timestamp::from_unix_seconds(wall),
            now: Timestamp::from_unix_seconds(now),
            basis,
        }
    }

    #[test]
    fn people_are_told_what_the_clock_did_and_what_counts() {
        let record = Path::new("/data/last-seen");
        let right = moment(10, NOW, NOW, Basis::Wall);
        let said = |before: &Moment, after: &Moment| {
            news(before, after, record).map(|news| (news.reason, news.message))
        };
        assert_eq!(
            said(&right, &moment(40, NOW + 30, NOW + 30, Basis::Wall)),
            None
        );
        let ahead = moment(11, NOW + 3 * YEAR, NOW + 3 * YEAR, Basis::Wall);
        let text = "the machine's clock was set from 2027-01-15T08:00:00Z to 2030-01-14T08:00:00Z, and counts";
        assert_eq!(said(&right, &ahead), Some(("ClockSet", text.to_owned())));
        let behind = moment(11, 0, NOW + 1, Basis::LastKnown);
        let (reason, message) = said(&right, &behind).unwrap();
        assert_eq!(reason, "ClockBehind");
        assert!(message.starts_with(
            "the machine's clock shows 1970-01-01T00:00:00Z, and it was 2027-01-15T08:00:01Z"
        ));
        assert!(
            message.ends_with("remove /data/last-seen and restart"),
            "{message}"
        );
        let off = moment(12, NOW + 3 * YEAR + 1, NOW + 2, Basis::Told);
        assert_eq!(said(&ahead, &off).unwrap().0, "ClockOff");
        let again = moment(13, NOW + 3, NOW + 3, Basis::Wall);
        assert_eq!(said(&off, &again).unwrap().0, "ClockSet");
        let synchronised = moment(14, 4, 4, Basis::Wall);
        let before = moment(10, 0, NOW, Basis::LastKnown);
        assert_eq!(said(&before, &synchronised).unwrap().0, "ClockRight");
        assert_eq!(first_news(&right, record), None);
        assert_eq!(first_news(&behind, record).unwrap().reason, "ClockBehind");
    }

    #[test]
    fn a_start_goes_on_from_the_record_and_a_damaged_one_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join(RECORD_FILE);
        let at = |text: &str| {
            std::fs::write(&record, text).unwrap();
            MachineTime::open(folder.path()).clock().now()
        };
        let real = SystemClock::shared().now();
        // This machine's clock counts where it is synchronised; elsewhere a record of tomorrow does.
        let tomorrow = real.saturating_add(RECORD_AGE_MAX);
        let went_on = at(&tomorrow.to_seconds_string());
        assert_eq!(went_on.distance(tomorrow) < JUMP_MIN, !is_synchronised());
        for damaged in ["", "yesterday", "2026", &"9".repeat(1_000)] {
            assert!(at(damaged).distance(real) < JUMP_MIN, "{damaged}");
            let kept = read(&record).expect("it was written anew");
            assert!(kept.distance(real) < JUMP_MIN, "{damaged}");
        }
    }

    #[test]
    fn the_record_is_written_when_it_is_old_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join(RECORD_FILE);
        let now = SystemClock::shared().now();
        let recent = now.saturating_sub(Duration::from_hours(23));
        let old = now.saturating_sub(Duration::from_hours(25));
        for (before, is_kept) in [(recent, true), (old, false)] {
            let text = before.to_seconds_string();
            std::fs::write(&record, &text).unwrap();
            MachineTime::open(folder.path());
            let after = std::fs::read_to_string(&record).unwrap();
            assert_eq!(after == text, is_kept, "{text} {after}");
        }
    }
}
