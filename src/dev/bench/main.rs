//! Measures Combo's release binary, beside upstream's etcd and kube-apiserver where they are, in one run on one machine.
//!
//! Nothing is written to the tree: what is printed is what counts, and is kept by hand in tests/bench/README.md.

mod agent;
mod api;
mod load;
mod machines;
mod network;
mod node;
mod pods;
mod process;
mod report;
mod server;
mod services;
mod store;
mod traffic;
mod upstream;
mod wait;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use report::Report;

/// As the server has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The folder with upstream's `etcd` and `kube-apiserver`; without it nothing is compared.
const UPSTREAM: &str = "COMBO_UPSTREAM_BIN";
/// The folder with `combo` and `webserver`, if not those that `cargo xtask release` built last.
const BINARIES: &str = "COMBO_BENCH_BINARIES";
/// Where data folders are made; figures of writes are those of its disk.
const DATA: &str = "COMBO_BENCH_DIR";
/// How long the node stands idle before its memory is read, in seconds.
const IDLE: &str = "COMBO_BENCH_IDLE_SECONDS";
const IDLE_SECONDS: u64 = 300;
const PARTS: &[&str] = &[
    "binary", "start", "node", "api", "agent", "network", "services",
];
/// The part that is measured alone, by a release build of this program.
const STORE: &str = "store";
/// The flag that says over how many minutes the bytes are counted that an idle node writes.
const IDLE_MINUTES: &str = "--idle-minutes";
const IDLE_MINUTES_USUAL: u64 = 10;
/// Work is spread as in the server.
const WORKERS: usize = 2;

/// Where things are, and how long to look.
struct Bench {
    binary: PathBuf,
    webserver: PathBuf,
    manifest: PathBuf,
    upstream: Option<PathBuf>,
    folder: tempfile::TempDir,
    idle_seconds: u64,
    idle_minutes: u64,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [store::SERVE, file, port] => store::serve(Path::new(file), port),
        words => run(&root(), words),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(3).unwrap_or(manifest).to_owned()
}

/// Measures the parts named, all of them if none is: `[--idle-minutes N] [part]…`.
fn run(root: &Path, words: &[&str]) -> anyhow::Result<()> {
    let (parts, idle_minutes) = match words {
        [IDLE_MINUTES, minutes, parts @ ..] => {
            let minutes = minutes.parse();
            let minutes = minutes.with_context(|| format!("{IDLE_MINUTES} wants a number"))?;
            (parts, minutes)
        }
        parts => (parts, IDLE_MINUTES_USUAL),
    };
    if let [STORE, parts @ ..] = parts {
        return measure_store(root, parts);
    }
    if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(part)) {
        anyhow::bail!("{unknown} is no part of the bench; these are: {PARTS:?}");
    }
    let parts = if parts.is_empty() { PARTS } else { parts };
    let bench = Bench::new(root, idle_minutes)?;
    runtime()?.block_on(bench.measure(parts))
}

fn measure_store(root: &Path, parts: &[&str]) -> anyhow::Result<()> {
    let bench = Bench::new(root, IDLE_MINUTES_USUAL)?;
    let mut report = Report::default();
    report.say(&format!("load before: {}", process::load_average()?));
    runtime()?.block_on(store::measure(&bench, parts, &mut report))?;
    report.say(&format!("load after: {}", process::load_average()?));
    report.print();
    Ok(())
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(WORKERS).enable_all().build()?)
}

impl Bench {
    fn new(root: &Path, idle_minutes: u64) -> anyhow::Result<Self> {
        let release = format!(
            "target/{}-unknown-linux-musl/release",
            std::env::consts::ARCH
        );
        let folder = |name: &str, usual: PathBuf| std::env::var_os(name).map_or(usual, Into::into);
        let binaries = folder(BINARIES, root.join(release));
        let data = folder(DATA, "/var/tmp".into());
        let idle_seconds = std::env::var(IDLE).ok();
        Ok(Self {
            binary: binaries.join("combo"),
            webserver: binaries.join("webserver"),
            manifest: root.join("packaging/sample.yaml"),
            upstream: std::env::var_os(UPSTREAM).map(PathBuf::from),
            folder: tempfile::Builder::new()
                .prefix("combo-bench-")
                .tempdir_in(data)?,
            idle_seconds: idle_seconds
                .and_then(|text| text.parse().ok())
                .unwrap_or(IDLE_SECONDS),
            idle_minutes,
        })
    }

    /// Measures in the order of `PARTS`.
    async fn measure(&self, parts: &[&str]) -> anyhow::Result<()> {
        let mut report = Report::default();
        report.say(&format!("load before: {}", process::load_average()?));
        for part in PARTS.iter().filter(|part| parts.contains(part)) {
            match *part {
                "binary" => self.measure_binary(&mut report)?,
                "start" => server::measure_start(self, &mut report).await?,
                "node" => node::measure(self, &mut report).await?,
                "api" => api::measure(self, &mut report).await?,
                "agent" => agent::measure(self, &mut report).await?,
                "network" => network::measure(self, &mut report).await?,
                _ => services::measure(self, &mut report).await?,
            }
        }
        report.say(&format!("load after: {}", process::load_average()?));
        report.print();
        Ok(())
    }

    fn measure_binary(&self, report: &mut Report) -> anyhow::Result<()> {
        let size = self.binary.metadata();
        let size = size.context("build it first: cargo xtask release")?.len();
        let size = report::megabytes(size);
        report.figure("static binary", size, "MB", report::AtMost(30.0));
        Ok(())
    }
}
