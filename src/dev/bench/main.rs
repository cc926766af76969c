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
mod traffic;
mod upstream;
mod wait;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use report::Report;

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
    match run(&root(), &words) {
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

/// Measures the parts named (`binary`, `start`, `node`, `api`, `agent`, `network`, `services`); all of them if none is.
fn run(root: &Path, words: &[&str]) -> anyhow::Result<()> {
    let (parts, idle_minutes) = match words {
        [IDLE_MINUTES, minutes, parts @ ..] => {
            let minutes = minutes.parse();
            (
                parts,
                minutes.with_context(|| format!("{IDLE_MINUTES} wants a number"))?,
            )
        }
        parts => (parts, IDLE_MINUTES_USUAL),
    };
    if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(part)) {
        anyhow::bail!("{unknown} is no part of the bench; these are: {PARTS:?}");
    }
    let release = std::env::var_os(BINARIES).map_or_else(
        || {
            root.join(format!(
                "target/{}-unknown-linux-musl/release",
                std::env::consts::ARCH
            ))
        },
        PathBuf::from,
    );
    let folder = std::env::var_os(DATA).map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let bench = Bench {
        binary: release.join("combo"),
        webserver: release.join("webserver"),
        manifest: root.join("packaging/sample.yaml"),
        upstream: std::env::var_os(UPSTREAM).map(PathBuf::from),
        folder: tempfile::Builder::new()
            .prefix("combo-bench-")
            .tempdir_in(folder)?,
        idle_seconds: std::env::var(IDLE)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(IDLE_SECONDS),
        idle_minutes,
    };
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    let mut report = Report::default();
    report.say(&format!("load before: {}", process::load_average()?));
    if wanted("binary") {
        let size = bench
            .binary
            .metadata()
            .context("build it first: cargo xtask release")?;
        report.figure(
            "static binary",
            report::megabytes(size.len()),
            "MB",
            report::AtMost(30.0),
        );
    }
    if wanted("start") {
        runtime.block_on(server::measure_start(&bench, &mut report))?;
    }
    if wanted("node") {
        runtime.block_on(node::measure(&bench, &mut report))?;
    }
    if wanted("api") {
        runtime.block_on(api::measure(&bench, &mut report))?;
    }
    if wanted("agent") {
        runtime.block_on(agent::measure(&bench, &mut report))?;
    }
    if wanted("network") {
        runtime.block_on(network::measure(&bench, &mut report))?;
    }
    if wanted("services") {
        runtime.block_on(services::measure(&bench, &mut report))?;
    }
    report.say(&format!("load after: {}", process::load_average()?));
    report.print();
    Ok(())
}
