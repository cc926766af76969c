//! What `combo server` and `combo agent` have in common: a log, a runtime, signals, and systemd.

use anyhow::Context as _;
use config::GeneralFlags;
use env::Shutdown;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

/// More threads bring nothing on the machines we are for.
const WORKERS_MAX: usize = 4;
const BLOCKING_THREADS_MAX: usize = 16;
/// Address space, not memory: pages are taken when a deep document or an unoptimised build needs them.
const THREAD_STACK_BYTES: usize = 4 * 1024 * 1024;
const THREAD_KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(5);

/// Starts a service, keeps it until a signal asks for its end, and lets `stop` end it well.
pub(crate) fn run<T>(
    start: impl AsyncFnOnce(Shutdown) -> anyhow::Result<T>,
    stop: impl AsyncFnOnce(T),
) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(WORKERS_MAX);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(threads)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_stack_size(THREAD_STACK_BYTES)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .build()
        .context("start the runtime")?
        .block_on(serve(start, stop))
}

async fn serve<T>(
    start: impl AsyncFnOnce(Shutdown) -> anyhow::Result<T>,
    stop: impl AsyncFnOnce(T),
) -> anyhow::Result<()> {
    let (trigger, shutdown) = Shutdown::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let started = tokio::select! {
        biased;
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
        started = start(shutdown) => started?,
    };
    tell_systemd(NotifyState::Ready);
    tokio::select! {
        biased;
        _ = terminate.recv() => tracing::info!("asked to stop"),
        _ = interrupt.recv() => tracing::info!("interrupted: stopping"),
    }
    tell_systemd(NotifyState::Stopping);
    trigger.trigger();
    stop(started).await;
    Ok(())
}

/// Does nothing where systemd did not start this process.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// Starts the log that `said` asks for.
pub(crate) fn start_log(said: &GeneralFlags) -> anyhow::Result<()> {
    let level = if said.debug {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr);
    match said.log_format.as_deref().unwrap_or("text") {
        "text" => log.with_target(false).with_ansi(false).init(),
        "json" => log.json().init(),
        other => anyhow::bail!("--log-format {other:?} is neither text nor json"),
    }
    Ok(())
}
