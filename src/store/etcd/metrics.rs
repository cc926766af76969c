//! What etcd's dashboards and alerts read, under etcd's names, in Prometheus' text form.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use kv::{Alarm, CommitTimes, Status};
use parking_lot::Mutex;
use tonic::Code;

use crate::alarms;
use crate::core::{Core, VERSION};

/// Methods that are told apart; a client can call what it likes.
const METHODS_MAX: usize = 128;
const OTHER_METHOD: &str = "/other/other";
/// The methods that are not one request and one answer.
const STREAMS: [(&str, &str); 7] = [
    ("/etcdserverpb.Watch/Watch", "bidi_stream"),
    ("/etcdserverpb.Lease/LeaseKeepAlive", "bidi_stream"),
    ("/etcdserverpb.KV/RangeStream", "server_stream"),
    ("/etcdserverpb.Maintenance/Snapshot", "server_stream"),
    ("/v3electionpb.Election/Observe", "server_stream"),
    ("/grpc.health.v1.Health/Watch", "server_stream"),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "bidi_stream",
    ),
];

/// What was done through the API since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    calls: Mutex<BTreeMap<String, Calls>>,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) ranges: AtomicU64,
    pub(crate) puts: AtomicU64,
    pub(crate) deletes: AtomicU64,
    pub(crate) txns: AtomicU64,
    pub(crate) granted_leases: AtomicU64,
    pub(crate) revoked_leases: AtomicU64,
    pub(crate) renewed_leases: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) watch_streams: Gauge,
    pub(crate) watchers: Gauge,
}

#[derive(Debug, Default)]
struct Calls {
    started: u64,
    handled: BTreeMap<i32, u64>,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// How many there are of something.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicI64>);

/// One of them, while it lives.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Gauge {
    pub(crate) fn one(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Tells under which name the end of the call is counted.
    pub(crate) fn started(&self, path: &str) -> String {
        let mut calls = self.calls.lock();
        let path = if calls.len() < METHODS_MAX || calls.contains_key(path) {
            path
        } else {
            OTHER_METHOD
        };
        calls.entry(path.to_owned()).or_default().started += 1;
        path.to_owned()
    }

    pub(crate) fn handled(&self, path: &str, code: Code) {
        if let Some(calls) = self.calls.lock().get_mut(path) {
            *calls.handled.entry(code.into()).or_default() += 1;
        }
    }

    /// How many operations of each kind a transaction had.
    pub(crate) fn count_operations(&self, results: &[kv::OperationResult]) {
        for result in results {
            match result {
                kv::OperationResult::Range(_) => count(&self.ranges),
                kv::OperationResult::Put { .. } => count(&self.puts),
                kv::OperationResult::Delete { .. } => count(&self.deletes),
                kv::OperationResult::Txn(inner) => self.count_operations(&inner.results),
            }
        }
    }
}

/// Everything, as it is now.
pub(crate) fn text(core: &Core, status: &Status) -> String {
    let mut text = Text::default();
    text.gauges(&gauges(core, status));
    text.counters(&counters(&core.metrics));
    text.alarms(core);
    if let Some(times) = core.kv.commit_times() {
        for name in [
            "etcd_disk_wal_fsync_duration_seconds",
            "etcd_disk_backend_commit_duration_seconds",
        ] {
            text.commit_times(name, &times);
        }
    }
    text.calls(&core.metrics.calls.lock());
    text.0
}

fn gauges(core: &Core, status: &Status) -> Vec<(&'static str, i64)> {
    let metrics = &core.metrics;
    let unsigned = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    vec![
        ("etcd_server_has_leader", 1),
        ("etcd_server_is_leader", 1),
        ("etcd_server_is_learner", 0),
        ("etcd_server_proposals_pending", 0),
        ("etcd_server_proposals_committed_total", status.revision),
        ("etcd_server_proposals_applied_total", status.revision),
        (
            "etcd_server_quota_backend_bytes",
            unsigned(core.kv.quota_bytes().unwrap_or(0)),
        ),
        (
            "etcd_mvcc_db_total_size_in_bytes",
            unsigned(status.size_bytes),
        ),
        (
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            unsigned(status.size_in_use_bytes),
        ),
        ("etcd_debugging_mvcc_current_revision", status.revision),
        (
            "etcd_debugging_mvcc_compact_revision",
            status.compact_revision,
        ),
        (
            "etcd_debugging_mvcc_keys_total",
            i64::try_from(status.keys).unwrap_or(i64::MAX),
        ),
        (
            "etcd_debugging_mvcc_watch_stream_total",
            metrics.watch_streams.value(),
        ),
        (
            "etcd_debugging_mvcc_watcher_total",
            metrics.watchers.value(),
        ),
    ]
}

fn counters(metrics: &Metrics) -> Vec<(&'static str, u64)> {
    let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    vec![
        ("etcd_server_leader_changes_seen_total", 1),
        ("etcd_server_proposals_failed_total", 0),
        ("etcd_mvcc_range_total", value(&metrics.ranges)),
        ("etcd_mvcc_put_total", value(&metrics.puts)),
        ("etcd_mvcc_delete_total", value(&metrics.deletes)),
        ("etcd_mvcc_txn_total", value(&metrics.txns)),
        ("etcd_debugging_mvcc_events_total", value(&metrics.events)),
        (
            "etcd_debugging_lease_granted_total",
            value(&metrics.granted_leases),
        ),
        (
            "etcd_debugging_lease_revoked_total",
            value(&metrics.revoked_leases),
        ),
        (
            "etcd_debugging_lease_renewed_total",
            value(&metrics.renewed_leases),
        ),
        (
            "etcd_network_client_grpc_received_bytes_total",
            value(&metrics.received_bytes),
        ),
        (
            "etcd_network_client_grpc_sent_bytes_total",
            value(&metrics.sent_bytes),
        ),
    ]
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn gauges(&mut self, gauges: &[(&str, i64)]) {
        for (name, value) in gauges {
            self.line(&format!("# TYPE {name} gauge\n{name} {value}"));
        }
    }

    fn counters(&mut self, counters: &[(&str, u64)]) {
        for (name, value) in counters {
            self.line(&format!("# TYPE {name} counter\n{name} {value}"));
        }
    }

    fn alarms(&mut self, core: &Core) {
        let id = format!("{:x}", core.identity.member_id);
        self.line(&format!(
            "# TYPE etcd_server_version gauge\netcd_server_version{{server_version=\"{VERSION}\"}} 1"
        ));
        self.line(&format!(
            "# TYPE etcd_server_id gauge\netcd_server_id{{server_id=\"{id}\"}} 1"
        ));
        self.line("# TYPE etcd_debugging_server_alarms gauge");
        let raised = core.kv.alarms();
        for alarm in [Alarm::NoSpace, Alarm::Corrupt] {
            let value = u8::from(raised.contains(&alarm));
            self.line(&format!(
                "etcd_debugging_server_alarms{{alarm_type=\"{}\",server_id=\"{id}\"}} {value}",
                alarms::name(alarm)
            ));
        }
    }

    /// There is one flush for each commit.
    fn commit_times(&mut self, name: &str, times: &CommitTimes) {
        self.line(&format!("# TYPE {name} histogram"));
        for (bound, count) in &times.up_to {
            let bound = bound.as_secs_f64();
            self.line(&format!("{name}_bucket{{le=\"{bound}\"}} {count}"));
        }
        let (count, sum) = (times.count, times.sum.as_secs_f64());
        self.line(&format!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        self.line(&format!("{name}_sum {sum}\n{name}_count {count}"));
    }

    fn calls(&mut self, calls: &BTreeMap<String, Calls>) {
        self.line("# TYPE grpc_server_started_total counter");
        for (path, calls) in calls {
            let labels = labels(path);
            self.line(&format!(
                "grpc_server_started_total{{{labels}}} {}",
                calls.started
            ));
        }
        self.line("# TYPE grpc_server_handled_total counter");
        for (path, calls) in calls {
            for (code, count) in &calls.handled {
                // The enum's own names are those of gRPC, but for one.
                let code = match Code::from(*code) {
                    Code::Ok => "OK".to_owned(),
                    Code::Cancelled => "Canceled".to_owned(),
                    code => format!("{code:?}"),
                };
                let labels = labels(path);
                self.line(&format!(
                    "grpc_server_handled_total{{grpc_code=\"{code}\",{labels}}} {count}"
                ));
            }
        }
    }
}

fn labels(path: &str) -> String {
    let (service, method) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((path, ""));
    let is_label = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'))
    };
    let (service, method) = if is_label(service) && is_label(method) {
        (service, method)
    } else {
        ("other", "other")
    };
    let kind = STREAMS
        .iter()
        .find(|(stream, _)| *stream == path)
        .map_or("unary", |(_, kind)| kind);
    let mut labels = String::new();
    let _infallible = write!(
        labels,
        "grpc_method=\"{method}\",grpc_service=\"{service}\",grpc_type=\"{kind}\""
    );
    labels
}
