//! Wall time and monotonic time behind one trait.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A moment of wall time with nanosecond resolution, in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Self = Self(jiff::Timestamp::UNIX_EPOCH);

    /// 2026-01-01T00:00:00Z. No build of this program is older, so that no machine which runs one has an earlier time.
    pub const OLDEST_BUILD: Self = Self(jiff::Timestamp::constant(1_767_225_600, 0));

    /// When this program was built, if the builder said so with `SOURCE_DATE_EPOCH`, as releases do; else [`Self::OLDEST_BUILD`].
    pub fn of_build() -> Self {
        let said = option_env!("SOURCE_DATE_EPOCH").and_then(|seconds| seconds.parse().ok());
        said.map_or(Self::OLDEST_BUILD, Self::from_unix_seconds)
            .max(Self::OLDEST_BUILD)
    }

    /// The moment `seconds` after the Unix epoch; out-of-range values are clamped to the nearest end (years -9999 to 9999).
    pub fn from_unix_seconds(seconds: i64) -> Self {
        let end = if seconds < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        };
        Self(jiff::Timestamp::from_second(seconds).unwrap_or(end))
    }

    /// Parses RFC 3339, with or without a fraction of a second.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }

    pub fn unix_seconds(self) -> i64 {
        self.0.as_second()
    }

    pub fn unix_nanoseconds(self) -> i128 {
        self.0.as_nanosecond()
    }

    /// The time since `earlier`, or zero if that is later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::try_from(self.0.duration_since(earlier.0)).unwrap_or(Duration::ZERO)
    }

    /// The time between the two, whichever is first.
    pub fn distance(self, other: Self) -> Duration {
        self.saturating_since(other)
            .max(other.saturating_since(self))
    }

    #[must_use]
    pub fn saturating_add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span).unwrap_or(jiff::Timestamp::MAX))
    }

    #[must_use]
    pub fn saturating_sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span).unwrap_or(jiff::Timestamp::MIN))
    }

    /// `2026-01-02T03:04:05Z`: the form of `metav1.Time`, whole seconds.
    pub fn to_seconds_string(self) -> String {
        self.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// `2026-01-02T03:04:05.000006Z`: the form of `metav1.MicroTime`.
    pub fn to_micros_string(self) -> String {
        self.0.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
    }

    /// `2026-01-02T03:04:05.000000006Z`: the form of a CRI log line (RFC 3339 with nanoseconds).
    pub fn to_nanos_string(self) -> String {
        self.0.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
    }

    pub fn to_jiff(self) -> jiff::Timestamp {
        self.0
    }

    pub fn from_jiff(timestamp: jiff::Timestamp) -> Self {
        Self(timestamp)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall time; it may jump.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment; it never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self {
            start: Instant::now(),
        })
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now())
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A server's word on the time counts against a clock that is off by more than this, and not against one that is about right.
const TOLERATED: Duration = Duration::from_mins(5);

/// The machine's clocks, on a machine whose wall clock may have begun at 1970: until that is known to be right, time is
/// never before a moment that has certainly passed, and goes on from there.
#[derive(Debug)]
pub struct FlooredClock {
    system: Arc<dyn Clock>,
    /// Whether the wall clock follows a source of time; asked only where the two disagree.
    is_synchronised: fn() -> bool,
    anchor: Mutex<Anchor>,
}

/// A moment that is known, and when it was, by the monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    time: Timestamp,
    at: Duration,
    kind: AnchorKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnchorKind {
    /// It is later than this.
    Floor,
    /// A server has said that it is this.
    Told,
}

/// By what a [`FlooredClock`] tells the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The wall clock: it is synchronised, or nothing speaks against it.
    Wall,
    /// The wall clock shows a time that is over: time goes on from the last that is known.
    LastKnown,
    /// The wall clock is not what a server said.
    Told,
}

impl FlooredClock {
    /// `floor`: the latest of what has certainly passed, such as the last time that was seen and the build's date.
    pub fn new(system: Arc<dyn Clock>, floor: Timestamp, is_synchronised: fn() -> bool) -> Self {
        let anchor = Mutex::new(Anchor {
            time: floor,
            at: system.monotonic(),
            kind: AnchorKind::Floor,
        });
        Self {
            system,
            is_synchronised,
            anchor,
        }
    }

    /// A server whom we trust says what time it is: that counts until the machine's own clock is about the same, or synchronised.
    pub fn learn(&self, time: Timestamp) {
        *self.anchor.lock() = Anchor {
            time,
            at: self.system.monotonic(),
            kind: AnchorKind::Told,
        };
    }

    /// What the wall clock shows, whatever is thought of it.
    pub fn wall(&self) -> Timestamp {
        self.system.now()
    }

    pub fn basis(&self) -> Basis {
        self.judge().1
    }

    fn judge(&self) -> (Timestamp, Basis) {
        let wall = self.system.now();
        let anchor = *self.anchor.lock();
        let passed = self.system.monotonic().saturating_sub(anchor.at);
        let reckoned = anchor.time.saturating_add(passed);
        let (is_plausible, otherwise) = match anchor.kind {
            AnchorKind::Floor => (wall >= reckoned, Basis::LastKnown),
            AnchorKind::Told => (wall.distance(reckoned) <= TOLERATED, Basis::Told),
        };
        if is_plausible || (self.is_synchronised)() {
            (wall, Basis::Wall)
        } else {
            (reckoned, otherwise)
        }
    }
}

impl Clock for FlooredClock {
    fn now(&self) -> Timestamp {
        self.judge().0
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic()
    }
}

/// A clock that stands still until it is told to advance, for tests and simulation.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<(Timestamp, Duration)>,
}

impl ManualClock {
    pub fn at(now: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new((now, Duration::ZERO)),
        })
    }

    pub fn advance(&self, span: Duration) {
        let mut state = self.state.lock();
        state.0 = state.0.saturating_add(span);
        state.1 += span;
    }

    /// The wall clock jumps; monotonic time does not.
    pub fn jump_to(&self, now: Timestamp) {
        self.state.lock().0 = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.state.lock().0
    }

    fn monotonic(&self) -> Duration {
        self.state.lock().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT: i64 = 1_790_000_000;
    const DAY: i64 = 86_400;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    fn clock(wall: i64, is_synchronised: fn() -> bool) -> (Arc<ManualClock>, FlooredClock) {
        let wall = ManualClock::at(at(wall));
        let clock = FlooredClock::new(Arc::clone(&wall) as _, at(BUILT), is_synchronised);
        (wall, clock)
    }

    #[test]
    fn a_machine_that_wakes_in_1970_goes_on_from_the_last_time_that_was_seen() {
        let (wall, clock) = clock(0, || false);
        assert_eq!(clock.now(), at(BUILT));
        wall.advance(Duration::from_secs(5));
        assert_eq!(clock.now(), at(BUILT + 5));
        wall.jump_to(at(BUILT + DAY));
        assert_eq!(
            clock.now(),
            at(BUILT + DAY),
            "a later wall clock is believed"
        );
        assert_eq!(clock.monotonic(), Duration::from_secs(5));
    }

    #[test]
    fn a_synchronised_clock_is_right_also_when_it_is_earlier() {
        let (_, clock) = clock(BUILT - DAY, || true);
        assert_eq!(clock.now(), at(BUILT - DAY));
    }

    #[test]
    fn what_a_server_says_counts_until_the_clock_is_synchronised() {
        for wall in [0, BUILT - DAY, BUILT + 3 * 365 * DAY] {
            let (machine, clock) = clock(wall, || false);
            clock.learn(at(BUILT + 100));
            machine.advance(Duration::from_secs(1));
            assert_eq!(clock.now(), at(BUILT + 101));
        }
        let (_, clock) = clock(BUILT - DAY, || true);
        clock.learn(at(BUILT + 100));
        assert_eq!(clock.now(), at(BUILT - DAY));
    }

    #[test]
    fn a_clock_that_is_about_right_is_not_overruled() {
        let (machine, clock) = clock(BUILT + 50, || false);
        clock.learn(at(BUILT + 100));
        assert_eq!((clock.now(), clock.basis()), (at(BUILT + 50), Basis::Wall));
        // Set to nonsense, and back by hand.
        machine.jump_to(at(BUILT + 3 * 365 * DAY));
        assert_eq!((clock.now(), clock.basis()), (at(BUILT + 100), Basis::Told));
        machine.jump_to(at(BUILT + 60));
        assert_eq!((clock.now(), clock.basis()), (at(BUILT + 60), Basis::Wall));
    }

    #[test]
    fn a_clock_says_by_what_it_tells_the_time() {
        let (machine, clock) = clock(0, || false);
        assert_eq!((clock.basis(), clock.wall()), (Basis::LastKnown, at(0)));
        machine.jump_to(at(BUILT + 1));
        assert_eq!(clock.basis(), Basis::Wall);
    }
}
