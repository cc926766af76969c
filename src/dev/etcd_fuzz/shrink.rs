//! Fewer steps that still fail: parts are left out as long as what is left fails on empty servers.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::episode::Episode;
use crate::steps::Step;

/// What is not small by then stays as it is.
const TIME_MAX: Duration = Duration::from_mins(6);

/// The smallest list of steps that was found, and how it fails.
pub(crate) async fn shrink(
    program: &Path,
    tmpfs: &Path,
    steps: Vec<Step>,
) -> anyhow::Result<(Vec<Step>, Option<anyhow::Error>)> {
    let deadline = Instant::now() + TIME_MAX;
    let mut steps: Vec<Step> = steps.into_iter().flat_map(Step::apart).collect();
    let mut failure = replay(program, tmpfs, &steps).await?;
    if failure.is_none() {
        return Ok((steps, None));
    }
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut end = steps.len();
        while end > 0 && Instant::now() < deadline {
            let start = end.saturating_sub(size);
            let fewer = [&steps[..start], &steps[end..]].concat();
            if let Some(error) = replay(program, tmpfs, &fewer).await? {
                failure = Some(error);
                steps = fewer;
            }
            end = start.min(steps.len());
        }
        size /= 2;
    }
    Ok((steps, failure))
}

/// How a list of steps fails, if it does.
async fn replay(
    program: &Path,
    tmpfs: &Path,
    steps: &[Step],
) -> anyhow::Result<Option<anyhow::Error>> {
    let mut episode = Episode::begin(program, tmpfs).await?;
    for step in steps.iter().chain([&Step::Settle]) {
        if let Err(error) = episode.step(step).await {
            return Ok(Some(error));
        }
    }
    Ok(None)
}
