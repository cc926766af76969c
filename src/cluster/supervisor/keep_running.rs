//! Components that fail begin again: one mistake in one of them ends neither the process nor a pod.

use std::time::Duration;

use env::Shutdown;

const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Runs a component until the end is asked for. When it panics or returns before that, it is made anew after a pause that grows.
pub(crate) fn keep_running<F, T>(component: &'static str, shutdown: Shutdown, make: F)
where
    F: Fn() -> T + Send + 'static,
    T: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    env::spawn(async move {
        let mut backoff = BACKOFF_FIRST;
        loop {
            let ended = env::spawn(make()).await;
            if shutdown.is_requested() {
                return;
            }
            match ended {
                Ok(Ok(())) => {
                    tracing::warn!(component, "the component ended early and is started again");
                }
                Ok(Err(error)) => tracing::error!(
                    component,
                    error = format!("{error:#}"),
                    "the component failed and is started again"
                ),
                Err(panic) => {
                    tracing::error!(component, %panic, "the component panicked and is started again");
                }
            }
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = env::sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_component_that_panics_begins_again() {
        let (trigger, shutdown) = Shutdown::new();
        let starts = Arc::new(AtomicU32::new(0));
        let (counted, until) = (starts.clone(), shutdown.clone());
        keep_running("test", shutdown, move || {
            let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            let until = until.clone();
            async move {
                assert!(!first, "the first one fails");
                until.requested().await;
                Ok(())
            }
        });
        while starts.load(Ordering::SeqCst) < 2 {
            env::sleep(Duration::from_millis(100)).await;
        }
        trigger.trigger();
    }
}
