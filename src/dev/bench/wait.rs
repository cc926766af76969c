//! Waiting for what shows itself only to who looks.

use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::Value;

/// How long a server, a node or some pods may take to start.
pub(crate) const START_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(4);

/// How long it took until the condition held.
pub(crate) async fn until<F: Future<Output = bool>>(
    what: &str,
    limit: Duration,
    condition: impl Fn() -> F,
) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    while !condition().await {
        if begun.elapsed() > limit {
            bail!("{what}: not in {limit:?}");
        }
        env::sleep(LOOK_EVERY).await;
    }
    Ok(begun.elapsed())
}

/// Whether a node, or a pod, is Ready.
pub(crate) fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| {
        all.iter()
            .any(|one| one["type"] == "Ready" && one["status"] == "True")
    })
}
