//! What takes longer than `tests/run.sh` may: upstream's suite, and crashes by the hundred.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// The folder of the kit that builds and runs upstream's suite: its program `run`.
const KIT: &str = "COMBO_CONFORMANCE_KIT";
const EXPECTED: &str = "tests/conformance/expected.txt";
/// How often a store is killed, unless the caller says otherwise.
const KILLS: &str = "200";

/// Runs the tests that Combo must pass, or those that `arguments` choose, against the cluster of a kubeconfig.
pub(crate) fn conformance(root: &Path, kubeconfig: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let kit = std::env::var_os(KIT).map(PathBuf::from);
    let kit =
        kit.with_context(|| format!("{KIT} names no folder: the suite is not part of this tree"))?;
    let mut command = Command::new(kit.join("run"));
    command.current_dir(root).args(["--kubeconfig", kubeconfig]);
    if arguments.is_empty() {
        command.args(["--names", EXPECTED, "--output", "target/conformance"]);
    }
    succeed(command.args(arguments))
}

/// Kills the store between any two writes, then servers with running pods; no acknowledged write may be lost.
pub(crate) fn crash(root: &Path, kills: Option<&str>) -> anyhow::Result<()> {
    let mut store = Command::new("cargo");
    store
        .current_dir(root)
        .env("COMBO_CRASH_KILLS", kills.unwrap_or(KILLS));
    succeed(store.args(["test", "--package", "sqlite", "--test", "store", "crash::"]))?;
    let mut servers = Command::new("cargo");
    servers
        .current_dir(root)
        .env("COMBO_E2E_KILLS", kills.unwrap_or(KILLS));
    succeed(servers.args([
        "test",
        "--package",
        "combo",
        "--test",
        "e2e",
        "random_kills",
    ]))
}

/// Runs a task that is a program of its own: it needs much of the tree, which the other tasks should not wait for.
pub(crate) fn own(root: &Path, program: &str, words: &[&str]) -> anyhow::Result<()> {
    own_of("dev", root, program, words)
}

/// The same, built to be fast: for what runs for hours.
pub(crate) fn own_fast(root: &Path, program: &str, words: &[&str]) -> anyhow::Result<()> {
    own_of("ci", root, program, words)
}

/// The same of a program that is itself what is measured.
pub(crate) fn own_measured(root: &Path, program: &str, words: &[&str]) -> anyhow::Result<()> {
    own_of("release", root, program, words)
}

fn own_of(profile: &str, root: &Path, program: &str, words: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("cargo");
    command
        .current_dir(root)
        .args(["run", "--quiet", "--profile", profile, "--package", program])
        .arg("--");
    succeed(command.args(words))
}

/// Runs a command whose failure is an error.
pub(crate) fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("run {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().display());
    }
    Ok(())
}
