//! Packages for Debian and for RPM systems, of a binary that is built already.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use flate2::Compression;
use flate2::write::GzEncoder;

const NAME: &str = "combo";
const SUMMARY: &str = "Kubernetes for the edge in one static binary";
const DESCRIPTION: &str = "A server with the control plane and a node, or an agent that joins one. A node also runs with no network.";
const LICENCE: &str = "Apache-2.0";
const MAINTAINER: &str = "Combo <maintainers@combo.io>";
/// The packages' own revision of a version.
const REVISION: &str = "1";
pub(crate) const DATE: &str = "SOURCE_DATE_EPOCH";
const UNITS: &str = "/usr/lib/systemd/system";
/// The one folder that is the package's own.
const DOCUMENTS: &str = "/usr/share/doc/combo";

/// The names of a processor: Debian's and RPM's.
struct Architecture {
    debian: &'static str,
    rpm: &'static str,
}

struct PackagedFile {
    path: String,
    mode: u32,
    content: Vec<u8>,
}

/// What both kinds of package are made of.
struct Contents {
    architecture: Architecture,
    files: Vec<PackagedFile>,
    after_install: String,
    before_removal: String,
    after_removal: String,
    /// The time that all files have, so that one commit gives one package.
    unix_seconds: u32,
}

/// Writes a `.deb` and an `.rpm` of the binary into a folder.
pub(crate) fn build(root: &Path, binary: &Path, folder: &Path) -> anyhow::Result<()> {
    let contents = contents(root, binary)?;
    std::fs::create_dir_all(folder)?;
    for path in [debian(&contents, folder)?, rpm(&contents, folder)?] {
        println!("{}", path.display());
    }
    Ok(())
}

fn contents(root: &Path, binary: &Path) -> anyhow::Result<Contents> {
    let read =
        |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    let script = |name: &str| {
        let path = root.join("packaging/scripts").join(name);
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let program = read(binary)?;
    let architecture = architecture(&program).with_context(|| binary.display().to_string())?;
    let mut files = vec![PackagedFile {
        path: format!("/usr/bin/{NAME}"),
        mode: 0o755,
        content: program,
    }];
    for unit in ["combo.service", "combo-agent.service"] {
        files.push(PackagedFile {
            path: format!("{UNITS}/{unit}"),
            mode: 0o644,
            content: read(&root.join("systemd").join(unit))?,
        });
    }
    files.push(PackagedFile {
        path: format!("{DOCUMENTS}/copyright"),
        mode: 0o644,
        content: read(&root.join("LICENSE"))?,
    });
    Ok(Contents {
        architecture,
        files,
        after_install: script("postinst")?,
        before_removal: script("prerm")?,
        after_removal: script("postrm")?,
        unix_seconds: date(root)?,
    })
}

/// Read from the program's own head.
fn architecture(program: &[u8]) -> anyhow::Result<Architecture> {
    let machine = program
        .starts_with(b"\x7fELF")
        .then(|| program.get(18..20))
        .flatten();
    match machine {
        Some([62, 0]) => Ok(Architecture {
            debian: "amd64",
            rpm: "x86_64",
        }),
        Some([183, 0]) => Ok(Architecture {
            debian: "arm64",
            rpm: "aarch64",
        }),
        _ => bail!("it is no program for x86_64 or aarch64"),
    }
}

/// What is said, else when the last commit was made.
pub(crate) fn date(root: &Path) -> anyhow::Result<u32> {
    let text = if let Ok(text) = std::env::var(DATE) {
        text
    } else {
        let done = std::process::Command::new("git")
            .current_dir(root)
            .args(["log", "-1", "--format=%ct"])
            .output()
            .context("ask git for the time of the commit")?;
        String::from_utf8(done.stdout)?
    };
    let text = text.trim();
    text.parse()
        .with_context(|| format!("{DATE}: {text:?} is no number of seconds"))
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn debian(contents: &Contents, folder: &Path) -> anyhow::Result<PathBuf> {
    let architecture = contents.architecture.debian;
    let size_kib: usize = contents
        .files
        .iter()
        .map(|file| file.content.len().div_ceil(1024))
        .sum();
    let control = format!(
        "Package: {NAME}\nVersion: {}-{REVISION}\nArchitecture: {architecture}\nMaintainer: {MAINTAINER}\n\
         Installed-Size: {size_kib}\nSection: admin\nPriority: optional\nDescription: {SUMMARY}\n {DESCRIPTION}\n",
        version()
    );
    let script = |name: &str, text: &str| PackagedFile {
        path: format!("/{name}"),
        mode: 0o755,
        content: text.as_bytes().to_vec(),
    };
    let control = [
        PackagedFile {
            path: "/control".to_owned(),
            mode: 0o644,
            content: control.into_bytes(),
        },
        script("postinst", &contents.after_install),
        script("prerm", &contents.before_removal),
        script("postrm", &contents.after_removal),
    ];
    let members = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", packed(&control, contents.unix_seconds)?),
        (
            "data.tar.gz",
            packed(&contents.files, contents.unix_seconds)?,
        ),
    ];
    let path = folder.join(format!(
        "{NAME}_{}-{REVISION}_{architecture}.deb",
        version()
    ));
    std::fs::write(&path, archive(&members, contents.unix_seconds))?;
    Ok(path)
}

/// An `ar` archive, the outer form of a `.deb`.
fn archive(members: &[(&str, Vec<u8>)], unix_seconds: u32) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let head = format!(
            "{name:<16}{unix_seconds:<12}{:<6}{:<6}{:<8}{:<10}`\n",
            0,
            0,
            "100644",
            content.len()
        );
        out.extend(head.bytes());
        out.extend(content);
        // Members begin at even places.
        if content.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

fn packed(files: &[PackagedFile], unix_seconds: u32) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    let mut folders = std::collections::BTreeSet::new();
    for file in files {
        let path = Path::new(&file.path);
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        for folder in above.into_iter().rev() {
            if folders.insert(folder.to_owned()) {
                let mut header = header(tar::EntryType::Directory, 0o755, 0, unix_seconds);
                let name = format!(".{}/", folder.display()).replace("//", "/");
                tar.append_data(&mut header, name, std::io::empty())?;
            }
        }
        let size_bytes = file.content.len() as u64;
        let mut header = header(tar::EntryType::Regular, file.mode, size_bytes, unix_seconds);
        tar.append_data(
            &mut header,
            format!(".{}", file.path),
            file.content.as_slice(),
        )?;
    }
    Ok(tar.into_inner()?.finish()?)
}

fn header(kind: tar::EntryType, mode: u32, size_bytes: u64, unix_seconds: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size_bytes);
    header.set_mtime(unix_seconds.into());
    header
}

fn rpm(contents: &Contents, folder: &Path) -> anyhow::Result<PathBuf> {
    let architecture = contents.architecture.rpm;
    let mut builder = rpm::PackageBuilder::new(NAME, version(), LICENCE, architecture, SUMMARY);
    builder
        .release(REVISION)
        .description(DESCRIPTION)
        .vendor(MAINTAINER)
        .using_config(
            rpm::BuildConfig::v4()
                .source_date(contents.unix_seconds)
                .compression(rpm::CompressionType::Gzip),
        )
        .post_install_script(contents.after_install.as_str())
        .pre_uninstall_script(contents.before_removal.as_str())
        .post_uninstall_script(contents.after_removal.as_str());
    // rpm removes only what is named; a .deb takes empty folders with it.
    builder.with_dir_entry(rpm::FileOptions::dir(DOCUMENTS).permissions(0o755))?;
    for file in &contents.files {
        let options = rpm::FileOptions::new(file.path.as_str()).permissions(file.mode as u16);
        builder.with_file_contents(file.content.as_slice(), options)?;
    }
    let path = folder.join(format!(
        "{NAME}-{}-{REVISION}.{architecture}.rpm",
        version()
    ));
    builder.build()?.write_file(&path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Contents {
        let mut program = b"\x7fELF".to_vec();
        program.resize(101, 0);
        program[18] = 183;
        let root = crate::root();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("combo");
        std::fs::write(&path, &program).unwrap();
        contents(&root, &path).unwrap()
    }

    #[test]
    fn a_deb_has_its_three_members_at_even_places() {
        let folder = tempfile::tempdir().unwrap();
        let contents = sample();
        let path = debian(&contents, folder.path()).unwrap();
        assert!(path.ends_with(format!("combo_{}-1_arm64.deb", version())));
        let bytes = std::fs::read(path).unwrap();
        let mut at = 8;
        let mut names = Vec::new();
        while at < bytes.len() {
            let head = std::str::from_utf8(&bytes[at..at + 60]).unwrap();
            names.push(head[..16].trim().to_owned());
            let size: usize = head[48..58].trim().parse().unwrap();
            at += 60 + size + size % 2;
        }
        assert_eq!(names, ["debian-binary", "control.tar.gz", "data.tar.gz"]);
        assert_eq!(at, bytes.len());
    }

    #[test]
    fn an_rpm_is_read_back_with_its_files_and_modes() {
        let folder = tempfile::tempdir().unwrap();
        let path = rpm(&sample(), folder.path()).unwrap();
        let package = rpm::Package::open(path).unwrap();
        assert_eq!(package.metadata.get_arch().unwrap(), "aarch64");
        let files = package.metadata.get_file_entries().unwrap();
        let binary = files
            .iter()
            .find(|file| file.path() == Path::new("/usr/bin/combo"))
            .unwrap();
        assert_eq!(binary.mode().permissions(), 0o755);
        let folder = files
            .iter()
            .find(|file| file.path() == Path::new(DOCUMENTS));
        assert!(folder.is_some(), "a removal leaves {DOCUMENTS}");
    }

    #[test]
    fn a_program_of_another_processor_is_refused() {
        assert!(architecture(b"#!/bin/sh\n").is_err());
    }
}
