//! The images of tests, packed once on the spot: no download.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::json;
use testkit::Image;

use crate::support::server::{combo, work_dir};

/// busybox with its applets; users root, nobody and app (1000, in group extra).
pub(crate) const BUSYBOX: &str = "combo.local/busybox:1";
/// The sample web server; it answers with its host's name on port 8080.
pub(crate) const WEB: &str = "combo.local/webserver:1";
/// The same, which says that it is version 2.
pub(crate) const WEB_2: &str = "combo.local/webserver:2";
/// An entrypoint that a kernel runs through the binary that started it.
pub(crate) const SELF_EXECUTING: &str = "combo.local/self-executing:1";

/// Debian's busybox-static.
const BUSYBOX_BINARY: &str = "/bin/busybox";

/// The archives, made at the first call.
pub(crate) fn archives() -> &'static [PathBuf] {
    static ARCHIVES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    ARCHIVES.get_or_init(|| {
        let pack = |name: &str, reference: &str, image: Image| {
            let archive = work_dir().join(format!("{name}.tar"));
            image
                .write(reference, &archive)
                .expect("an archive is written");
            archive
        };
        let web = program("webserver");
        let web_image = || Image::of_binary(&web).expect("the web server is read");
        vec![
            pack("busybox", BUSYBOX, busybox()),
            pack("web1", WEB, web_image()),
            pack(
                "web2",
                WEB_2,
                web_image().set("Env", json!(["PATH=/", "VERSION=2"])),
            ),
            pack("self", SELF_EXECUTING, self_executing()),
        ]
    })
}

fn base() -> Image {
    let binary = std::fs::read(BUSYBOX_BINARY).expect("Debian's busybox-static is installed");
    let mut image = Image::new()
        .file("bin/busybox", &binary, 0o755)
        .expect("packed");
    for applet in applets() {
        image = image
            .symlink(&format!("bin/{applet}"), "busybox")
            .expect("packed");
    }
    for (directory, mode) in [
        ("tmp", 0o1777),
        ("root", 0o700),
        ("proc", 0o755),
        ("sys", 0o755),
        ("dev", 0o755),
    ] {
        image = image.directory(directory, mode).expect("packed");
    }
    for name in ["fetch", "webserver"] {
        let bytes = std::fs::read(program(name)).expect("a program of the testkit");
        image = image
            .file(&format!("bin/{name}"), &bytes, 0o755)
            .expect("packed");
    }
    image = image.file("bin/call32", &call32(), 0o755).expect("packed");
    let passwd =
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\napp:x:1000:1000:app:/tmp:/bin/sh\n";
    let group = b"root:x:0:\napp:x:1000:\nextra:x:50:app\n";
    image
        .file("etc/passwd", passwd, 0o644)
        .expect("packed")
        .file("etc/group", group, 0o644)
        .expect("packed")
}

fn busybox() -> Image {
    base()
        .set("Cmd", json!(["sh"]))
        .set("Env", json!(["PATH=/bin"]))
}

fn self_executing() -> Image {
    let image = base()
        .file("evil", b"#!/proc/self/exe\n", 0o755)
        .expect("packed");
    image
        .set("Entrypoint", json!(["/evil"]))
        .set("Env", json!(["PATH=/bin"]))
}

/// A program for 32-bit x86 of a few instructions: `add_key` by `int 0x80`, whose error number is its exit code.
fn call32() -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    // mov eax, 286 (add_key); int 0x80; neg eax; mov ebx, eax; mov eax, 1 (exit); int 0x80
    const CODE: &[u8] = &[
        0xb8, 0x1e, 0x01, 0, 0, 0xcd, 0x80, 0xf7, 0xd8, 0x89, 0xc3, 0xb8, 1, 0, 0, 0, 0xcd, 0x80,
    ];
    let size = u32::try_from(52 + 32 + CODE.len()).expect("a small program");
    let mut out = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    out.extend([2_u16, 3].iter().flat_map(|half| half.to_le_bytes()));
    out.extend(
        [1, BASE + 84, 52, 0, 0]
            .iter()
            .flat_map(|word: &u32| word.to_le_bytes()),
    );
    out.extend(
        [52_u16, 32, 1, 40, 0, 0]
            .iter()
            .flat_map(|half| half.to_le_bytes()),
    );
    out.extend(
        [1, 0, BASE, BASE, size, size, 5, 0x1000]
            .iter()
            .flat_map(|word| word.to_le_bytes()),
    );
    out.extend(CODE);
    out
}

fn applets() -> Vec<String> {
    let output = Command::new(BUSYBOX_BINARY)
        .arg("--list")
        .output()
        .expect("busybox runs");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|name| *name != "busybox")
        .map(str::to_owned)
        .collect()
}

/// A program of the testkit lies beside the binary under test; cargo makes it if it does not.
fn program(name: &str) -> PathBuf {
    let beside = combo().with_file_name(name);
    if beside.exists() {
        return beside;
    }
    let profile = match combo()
        .parent()
        .and_then(Path::file_name)
        .and_then(|name| name.to_str())
    {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let done = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "build",
            "--quiet",
            "--package",
            "testkit",
            "--bin",
            name,
            "--profile",
            profile,
        ])
        .status();
    assert!(
        done.expect("cargo runs").success() && beside.exists(),
        "cargo did not make {}",
        beside.display()
    );
    beside
}
