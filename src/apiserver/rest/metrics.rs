//! Counters of requests, in Prometheus' text form; the names are upstream's.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

/// Different combinations of verb, resource and code that are counted one by one; what comes later counts as `other`.
const SERIES_MAX: usize = 2000;

/// What else has something to tell, in the same form.
#[async_trait]
pub trait MetricsSource: Send + Sync + fmt::Debug {
    async fn text(&self) -> String;
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<Series, Counted>>,
    pub(crate) sources: Mutex<Vec<Arc<dyn MetricsSource>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) code: u16,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    count: u64,
    seconds: f64,
}

impl Metrics {
    pub(crate) fn count(&self, series: Series, took: std::time::Duration) {
        let mut requests = self.requests.lock();
        let is_full = requests.len() >= SERIES_MAX;
        let series = if is_full && !requests.contains_key(&series) {
            Series {
                group: String::new(),
                version: String::new(),
                resource: "other".to_owned(),
                subresource: String::new(),
                ..series
            }
        } else {
            series
        };
        let counted = requests.entry(series).or_default();
        counted.count += 1;
        counted.seconds += took.as_secs_f64();
    }

    /// Everything that there is to tell.
    pub(crate) async fn text(&self, revision: i64) -> String {
        let mut text = self.requests_text(revision);
        let sources = self.sources.lock().clone();
        for source in sources {
            text.push_str(&source.text().await);
        }
        text
    }

    fn requests_text(&self, revision: i64) -> String {
        let mut text = String::from(
            "# HELP apiserver_request_total Counter of apiserver requests broken out for each verb, group, version, \
             resource, subresource and code.\n# TYPE apiserver_request_total counter\n",
        );
        let requests = self.requests.lock();
        for (series, counted) in &*requests {
            let _infallible = writeln!(
                text,
                "apiserver_request_total{{{}}} {}",
                labels(series),
                counted.count
            );
        }
        text.push_str(
            "# HELP apiserver_request_duration_seconds Response time in seconds.\n\
             # TYPE apiserver_request_duration_seconds summary\n",
        );
        for (series, counted) in &*requests {
            let labels = labels(series);
            let _infallible = writeln!(
                text,
                "apiserver_request_duration_seconds_sum{{{labels}}} {}",
                counted.seconds
            );
            let _infallible = writeln!(
                text,
                "apiserver_request_duration_seconds_count{{{labels}}} {}",
                counted.count
            );
        }
        let _infallible = writeln!(
            text,
            "# TYPE combo_store_revision gauge\ncombo_store_revision {revision}"
        );
        text
    }
}

fn labels(series: &Series) -> String {
    let Series {
        verb,
        group,
        version,
        resource,
        subresource,
        code,
    } = series;
    format!(
        "code=\"{code}\",group=\"{}\",resource=\"{}\",subresource=\"{}\",verb=\"{verb}\",version=\"{}\"",
        escape(group),
        escape(resource),
        escape(subresource),
        escape(version)
    )
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
