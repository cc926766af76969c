//! The binary as it is shipped.

use std::path::Path;

use anyhow::Context as _;

use crate::judge::succeed;
use crate::package::{DATE, date};

/// For the last step alone, where everything is compiled: libraries and tests need none of it.
///
/// Code at fixed addresses needs no relocating: each shim would hold 0.7 MB of relocated tables for itself, of the 1 MB that it
/// may have. Functions of equal code are kept once: the same generic code is made for many types.
const FLAGS: &[&str] = &[
    "-C",
    "relocation-model=static",
    "-C",
    "link-arg=-Wl,--icf=all",
];

/// With a frame pointer in each function the tables for unwinding are a third smaller, and a profiler sees who called.
const CONFIG: &str =
    r#"target.'cfg(target_env = "musl")'.rustflags = ["-C", "force-frame-pointers=yes"]"#;

/// No clock is behind this date. A day is exact enough, and what is compiled today counts until tomorrow.
const DATE_STEP_SECONDS: u32 = 24 * 60 * 60;

/// Builds `combo`, and the sample workload beside it. `arguments` go to cargo.
pub(crate) fn build(root: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let built = date(root)? / DATE_STEP_SECONDS * DATE_STEP_SECONDS;
    let cargo = |arguments: &[&str]| {
        let mut command = std::process::Command::new("cargo");
        command.env(DATE, built.to_string());
        command.current_dir(root).args(["--config", CONFIG]);
        command.args(arguments);
        command
    };
    let combo = ["rustc", "--release", "--package", "combo", "--bin", "combo"];
    let mut combo = cargo(&combo);
    succeed(combo.args(arguments).arg("--").args(FLAGS)).context("build combo")?;
    succeed(&mut cargo(&["build", "--release", "--package", "testkit"]))
        .context("build the sample workload")
}
