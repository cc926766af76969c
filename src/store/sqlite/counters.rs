//! What the store has done since it was opened, in Prometheus' text form.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the spans that commits are sorted by, in microseconds: from a fast disk's flush to a card that hangs.
const COMMIT_BOUNDS_MICROS: [u64; 12] = [
    250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 256_000, 1_000_000, 4_000_000,
];
/// A page in the log, with its header.
const LOG_PAGE_BYTES: u64 = 4096 + 24;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// One for each bound, and one for what took longer.
    commits: [AtomicU64; COMMIT_BOUNDS_MICROS.len() + 1],
    commit_micros: AtomicU64,
    failed_commits: AtomicU64,
    changes: AtomicU64,
    log_bytes: AtomicU64,
    /// Pages in the log now.
    log_pages: AtomicI64,
}

/// What the store is at the moment.
#[derive(Debug)]
pub(crate) struct Gauges {
    pub(crate) status: kv::Status,
    pub(crate) log_file_bytes: u64,
    pub(crate) waiting: usize,
    pub(crate) leases: usize,
}

impl Counters {
    pub(crate) fn committed(&self, changes: usize, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = COMMIT_BOUNDS_MICROS
            .iter()
            .position(|bound| micros <= *bound);
        let place = place.unwrap_or(COMMIT_BOUNDS_MICROS.len());
        self.commits[place].fetch_add(1, Ordering::Relaxed);
        self.commit_micros.fetch_add(micros, Ordering::Relaxed);
        self.changes.fetch_add(changes as u64, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failed_commits.fetch_add(1, Ordering::Relaxed);
    }

    /// The log has so many pages after a commit; fewer than before: it began anew.
    pub(crate) fn log_is(&self, pages: i64) {
        let before = self.log_pages.swap(pages, Ordering::Relaxed);
        let written = if pages >= before {
            pages - before
        } else {
            pages
        };
        self.log_bytes
            .fetch_add(written.unsigned_abs() * LOG_PAGE_BYTES, Ordering::Relaxed);
    }

    pub(crate) fn log_pages(&self) -> i64 {
        self.log_pages.load(Ordering::Relaxed)
    }

    pub(crate) fn text(&self, now: &Gauges) -> String {
        let mut text = String::new();
        let status = &now.status;
        for (name, help, value) in [
            ("size_bytes", "The database and its log.", status.size_bytes),
            (
                "size_in_use_bytes",
                "The pages of the database that hold something.",
                status.size_in_use_bytes,
            ),
            ("log_bytes", "The file of the log.", now.log_file_bytes),
            ("keys", "Keys that are there.", status.keys as u64),
            ("leases", "Leases that run.", now.leases as u64),
            (
                "compact_revision",
                "The newest revision whose history is forgotten.",
                status.compact_revision.max(0).unsigned_abs(),
            ),
            (
                "queue_length",
                "Writes that wait for the writer.",
                now.waiting as u64,
            ),
        ] {
            put(&mut text, "gauge", name, help, value);
        }
        for (name, help, counter) in [
            (
                "changes_total",
                "Changes of keys that were committed.",
                &self.changes,
            ),
            (
                "log_written_bytes_total",
                "Bytes that were written to the log.",
                &self.log_bytes,
            ),
            (
                "failed_commits_total",
                "Commits that the disk refused.",
                &self.failed_commits,
            ),
        ] {
            put(
                &mut text,
                "counter",
                name,
                help,
                counter.load(Ordering::Relaxed),
            );
        }
        // The name that upstream's API server has for it.
        let _infallible = writeln!(
            text,
            "# HELP apiserver_storage_size_bytes Size of the storage database file physically allocated in bytes.\n\
             # TYPE apiserver_storage_size_bytes gauge\n\
             apiserver_storage_size_bytes{{storage_cluster_id=\"etcd-0\"}} {}",
            status.size_bytes
        );
        self.push_commits(&mut text);
        text
    }

    pub(crate) fn commit_times(&self) -> kv::CommitTimes {
        let mut count = 0;
        let mut up_to = Vec::with_capacity(COMMIT_BOUNDS_MICROS.len());
        for (place, commits) in self.commits.iter().enumerate() {
            count += commits.load(Ordering::Relaxed);
            if let Some(bound) = COMMIT_BOUNDS_MICROS.get(place) {
                up_to.push((Duration::from_micros(*bound), count));
            }
        }
        kv::CommitTimes {
            up_to,
            count,
            sum: Duration::from_micros(self.commit_micros.load(Ordering::Relaxed)),
        }
    }

    fn push_commits(&self, text: &mut String) {
        const NAME: &str = "combo_store_commit_duration_seconds";
        let _infallible = writeln!(
            text,
            "# HELP {NAME} How long it took to make a batch durable.\n# TYPE {NAME} histogram"
        );
        let times = self.commit_times();
        for (bound, count) in &times.up_to {
            let bound = bound.as_secs_f64();
            let _infallible = writeln!(text, "{NAME}_bucket{{le=\"{bound}\"}} {count}");
        }
        let (count, sum) = (times.count, times.sum.as_secs_f64());
        let _infallible = writeln!(
            text,
            "{NAME}_bucket{{le=\"+Inf\"}} {count}\n{NAME}_sum {sum}\n{NAME}_count {count}"
        );
    }
}

fn put(text: &mut String, kind: &str, name: &str, help: &str, value: u64) {
    let _infallible = writeln!(
        text,
        "# HELP combo_store_{name} {help}\n# TYPE combo_store_{name} {kind}\ncombo_store_{name} {value}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_sorted_by_how_long_they_took_and_a_log_that_begins_anew_is_counted_on() {
        let counters = Counters::default();
        counters.committed(2, Duration::from_micros(700));
        counters.committed(1, Duration::from_secs(9));
        for pages in [3, 5, 1] {
            counters.log_is(pages);
        }
        let mut text = String::new();
        counters.push_commits(&mut text);
        for line in [
            "combo_store_commit_duration_seconds_bucket{le=\"0.0005\"} 0",
            "combo_store_commit_duration_seconds_bucket{le=\"0.001\"} 1",
            "combo_store_commit_duration_seconds_bucket{le=\"4\"} 1",
            "combo_store_commit_duration_seconds_bucket{le=\"+Inf\"} 2",
            "combo_store_commit_duration_seconds_sum 9.0007",
        ] {
            assert!(text.lines().any(|said| said == line), "{line} in {text}");
        }
        assert_eq!(
            counters.log_bytes.load(Ordering::Relaxed),
            6 * LOG_PAGE_BYTES
        );
        assert_eq!(counters.changes.load(Ordering::Relaxed), 3);
    }
}
