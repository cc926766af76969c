//! What a server does while nobody asks anything of it.

use std::fs;
use std::time::Duration;

use crate::process;
use crate::report::{AtMost, Report};

/// How long a server has after its last work to give back what it took.
const SETTLE: Duration = Duration::from_secs(8);
const SPAN: Duration = Duration::from_secs(60);

/// Resident memory once the server has come to rest.
pub(crate) async fn settled(pid: u32) -> anyhow::Result<u64> {
    env::sleep(SETTLE).await;
    process::resident(pid)
}

/// Counts wake-ups of all threads and bytes written in a minute.
#[expect(clippy::cast_precision_loss, reason = "counts are small")]
pub(crate) async fn measure(pid: u32, report: &mut Report) -> anyhow::Result<()> {
    let (woken, written) = (wake_ups(pid)?, process::written(pid)?);
    env::sleep(SPAN).await;
    let woken = wake_ups(pid)? - woken;
    let written = process::written(pid)? - written;
    report.figure(
        "idle for a minute: wake-ups of its threads",
        woken as f64,
        "",
        AtMost(0.0),
    );
    report.figure(
        "idle for a minute: bytes written",
        written as f64,
        "",
        AtMost(0.0),
    );
    Ok(())
}

/// How often the threads of a process gave up the processor to wait so far.
fn wake_ups(pid: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let count = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += count.map_or(Ok(0), |count| count.trim().parse::<u64>())?;
    }
    Ok(sum)
}
