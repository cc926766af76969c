//! One file with everything that a machine without a network needs: the binary, the install script,
//! images, checksums.
//!
//! It is a plain tar, so that a shell can open it; every byte of it is determined by its first
//! member, the list of contents with a checksum for each and for itself. Whatever differs is
//! refused with the member's name.

mod contents;

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};

use crate::error::{Error, Result};
use crate::installation::sync_folder;

pub use contents::{Architecture, BundleContents, BundleMember};

/// The list of contents, the first member.
const CONTENTS: &str = "contents.txt";
const BINARY: &str = "combo";
const SCRIPT: &str = "install.sh";
const IMAGES: &str = "images/";
const BLOCK_BYTES: usize = 512;
const BUFFER_BYTES: usize = 128 << 10;
/// What a header of this kind can say.
const MEMBER_BYTES_MAX: u64 = 8 << 30;
const NAME_BYTES_MAX: usize = 100;
const CONTENTS_BYTES_MAX: u64 = 1 << 20;
/// What the image store imports from its folder.
const IMAGE_ENDINGS: &[&str] = &[".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".txt"];
const EXECUTABLE: u32 = 0o755;
const PLAIN: u32 = 0o644;

/// What goes into a bundle.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub version: String,
    pub architecture: Architecture,
    pub binary: PathBuf,
    pub script: String,
    pub images: Vec<PathBuf>,
}

impl Bundle {
    /// Writes it whole or not at all.
    pub fn write(&self, path: &Path) -> Result<BundleContents> {
        self.check_binary()?;
        let mut members = vec![
            member(
                BINARY,
                File::open(&self.binary).map_err(Error::file("open", &self.binary))?,
                &self.binary,
            )?,
            member(SCRIPT, self.script.as_bytes(), Path::new(SCRIPT))?,
        ];
        for image in &self.images {
            let name = image_name(image)?;
            if members.iter().any(|member| member.name == name) {
                return Err(Error::Refused(format!("two images are called {name}")));
            }
            let file = File::open(image).map_err(Error::file("open", image))?;
            members.push(member(&name, file, image)?);
        }
        let contents = BundleContents {
            version: self.version.clone(),
            architecture: self.architecture,
            members,
        };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".temporary");
        let temporary = path.with_file_name(name);
        let written = self.write_members(&contents, &temporary);
        if written.is_err() {
            drop(fs::remove_file(&temporary));
        }
        written?;
        fs::rename(&temporary, path).map_err(Error::file("write", path))?;
        sync_folder(folder_of(path))?;
        Ok(contents)
    }

    fn check_binary(&self) -> Result<()> {
        let mut head = [0; 20];
        let mut file = File::open(&self.binary).map_err(Error::file("open", &self.binary))?;
        let read = file.read_exact(&mut head);
        let is_ours = read.is_ok()
            && head.starts_with(b"\x7fELF")
            && head[18..20] == self.architecture.elf_machine();
        if is_ours {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "{} is no program for {}: name one with --binary",
            self.binary.display(),
            self.architecture
        )))
    }

    fn write_members(&self, contents: &BundleContents, path: &Path) -> Result<()> {
        let failed = || Error::file("write", path);
        let file = File::create(path).map_err(failed())?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        let list = contents.to_text();
        let parts = contents.members.iter().zip(
            std::iter::once(Source::File(&self.binary))
                .chain([Source::Text(self.script.as_bytes())])
                .chain(self.images.iter().map(|image| Source::File(image))),
        );
        append(
            &mut out,
            CONTENTS,
            list.len() as u64,
            list.as_bytes(),
            PLAIN,
        )
        .map_err(failed())?;
        for (member, source) in parts {
            let mode = mode_of(&member.name);
            match source {
                Source::Text(text) => append(&mut out, &member.name, member.size_bytes, text, mode),
                Source::File(path) => {
                    let file = File::open(path).map_err(Error::file("open", path))?;
                    append(&mut out, &member.name, member.size_bytes, file, mode)
                }
            }
            .map_err(failed())?;
        }
        out.write_all(&[0; 2 * BLOCK_BYTES]).map_err(failed())?;
        let file = out
            .into_inner()
            .map_err(|error| failed()(error.into_error()))?;
        file.sync_all().map_err(failed())
    }

    /// Reads a bundle to its end and compares all of it.
    pub fn verify(path: &Path) -> Result<BundleContents> {
        let mut reader = BundleReader::open(path)?;
        for member in &reader.contents.members.clone() {
            reader.member(member, &mut std::io::sink())?;
        }
        reader.end()?;
        Ok(reader.contents)
    }

    /// Puts the images of a bundle into a folder that a node imports from, each whole or not at
    /// all. All of the bundle is verified before the first one has its name.
    pub fn load_images(path: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
        fs::create_dir_all(folder).map_err(Error::file("make the folder", folder))?;
        let mut written = Vec::new();
        let loaded = write_images(path, folder, &mut written);
        if loaded.is_err() {
            for (temporary, _) in &written {
                drop(fs::remove_file(temporary));
            }
        }
        loaded?;
        for (temporary, image) in &written {
            fs::rename(temporary, image).map_err(Error::file("write", image))?;
        }
        sync_folder(folder)?;
        Ok(written.into_iter().map(|(_, image)| image).collect())
    }
}

/// Files whose names begin with a dot are not looked at by a node that runs.
fn write_images(path: &Path, folder: &Path, written: &mut Vec<(PathBuf, PathBuf)>) -> Result<()> {
    let mut reader = BundleReader::open(path)?;
    for member in &reader.contents.members.clone() {
        let Some(name) = member.name.strip_prefix(IMAGES) else {
            reader.member(member, &mut std::io::sink())?;
            continue;
        };
        let temporary = folder.join(format!(".{name}.temporary"));
        let mut file = File::create(&temporary).map_err(Error::file("write", &temporary))?;
        written.push((temporary.clone(), folder.join(name)));
        reader.member(member, &mut file)?;
        file.sync_all().map_err(Error::file("fsync", &temporary))?;
    }
    reader.end()
}

enum Source<'a> {
    Text(&'a [u8]),
    File(&'a Path),
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn image_name(path: &Path) -> Result<String> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let is_good = IMAGE_ENDINGS.iter().any(|ending| name.ends_with(ending))
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_graphic())
        && IMAGES.len() + name.len() <= NAME_BYTES_MAX;
    if is_good {
        return Ok(format!("{IMAGES}{name}"));
    }
    Err(Error::Refused(format!(
        "{}: an archive of images has a plain name that ends in one of {}",
        path.display(),
        IMAGE_ENDINGS.join(" ")
    )))
}

fn mode_of(name: &str) -> u32 {
    if name.starts_with(IMAGES) {
        PLAIN
    } else {
        EXECUTABLE
    }
}

fn member(name: &str, content: impl Read, path: &Path) -> Result<BundleMember> {
    let mut counted = Counted::default();
    let mut content = BufReader::with_capacity(BUFFER_BYTES, content);
    std::io::copy(&mut content, &mut counted).map_err(Error::file("read", path))?;
    if counted.bytes > MEMBER_BYTES_MAX {
        return Err(Error::Refused(format!(
            "{} has {} bytes; a member of a bundle has at most {MEMBER_BYTES_MAX}",
            path.display(),
            counted.bytes
        )));
    }
    Ok(BundleMember {
        name: name.to_owned(),
        size_bytes: counted.bytes,
        sha256: counted.finish(),
    })
}

/// Counts and digests what passes.
struct Counted {
    bytes: u64,
    context: Context,
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            bytes: 0,
            context: Context::new(&SHA256),
        }
    }
}

impl Counted {
    fn finish(self) -> String {
        contents::hexadecimal(self.context.finish().as_ref())
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.context.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn append(
    out: &mut impl Write,
    name: &str,
    size_bytes: u64,
    content: impl Read,
    mode: u32,
) -> std::io::Result<()> {
    out.write_all(&header(name, size_bytes, mode))?;
    let copied = std::io::copy(&mut content.take(size_bytes), out)?;
    if copied != size_bytes {
        let why = format!("{name} became shorter while it was read");
        return Err(std::io::Error::other(why));
    }
    out.write_all(&vec![0; padding(size_bytes)])
}

fn padding(size_bytes: u64) -> usize {
    let over = (size_bytes % BLOCK_BYTES as u64) as usize;
    (BLOCK_BYTES - over) % BLOCK_BYTES
}

/// The one header that a member of this name, size and mode has.
fn header(name: &str, size_bytes: u64, mode: u32) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    let mut put =
        |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size_bytes:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    put(265, "root");
    put(297, "root");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Reads members in their order and refuses the first byte that is not as it must be.
struct BundleReader {
    path: PathBuf,
    file: BufReader<File>,
    contents: BundleContents,
}

impl BundleReader {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::file("open", path))?;
        let mut reader = Self {
            path: path.to_owned(),
            file: BufReader::with_capacity(BUFFER_BYTES, file),
            contents: BundleContents::default(),
        };
        reader.contents = reader.read_contents()?;
        Ok(reader)
    }

    fn refused(&self, why: impl Into<String>) -> Error {
        Error::Bundle {
            path: self.path.clone(),
            why: why.into(),
        }
    }

    fn read_contents(&mut self) -> Result<BundleContents> {
        let mut block = [0; BLOCK_BYTES];
        self.exact(&mut block, CONTENTS)?;
        let size = std::str::from_utf8(&block[124..135]).unwrap_or_default();
        let size_bytes = u64::from_str_radix(size, 8).unwrap_or(u64::MAX);
        if size_bytes > CONTENTS_BYTES_MAX || block != header(CONTENTS, size_bytes, PLAIN) {
            return Err(self.refused("it is no bundle of Combo, or its beginning was changed"));
        }
        let mut text = vec![0; size_bytes as usize];
        self.exact(&mut text, CONTENTS)?;
        self.zeros(padding(size_bytes), CONTENTS)?;
        let text = String::from_utf8(text)
            .map_err(|_| self.refused(format!("{CONTENTS} was changed: it is no text")))?;
        BundleContents::parse(&text).map_err(|why| self.refused(format!("{CONTENTS} {why}")))
    }

    /// Copies a member while its bytes are compared with its checksum; what was copied counts only
    /// if this succeeds.
    fn member(&mut self, member: &BundleMember, out: &mut impl Write) -> Result<()> {
        let name = &member.name;
        let mut block = [0; BLOCK_BYTES];
        self.exact(&mut block, name)?;
        if block != header(name, member.size_bytes, mode_of(name)) {
            return Err(self.refused(format!("the head of {name} was changed")));
        }
        let mut counted = Counted::default();
        let mut left = member.size_bytes;
        let mut buffer = vec![0; left.min(BUFFER_BYTES as u64) as usize];
        while left > 0 {
            let part = left.min(BUFFER_BYTES as u64) as usize;
            self.exact(&mut buffer[..part], name)?;
            counted
                .write_all(&buffer[..part])
                .and_then(|()| out.write_all(&buffer[..part]))
                .map_err(|error| self.refused(format!("{name} cannot be unpacked: {error}")))?;
            left -= part as u64;
        }
        let found = counted.finish();
        if found != member.sha256 {
            let expected = &member.sha256;
            return Err(self.refused(format!(
                "{name} was changed: its sha256 is {found}, {CONTENTS} says {expected}"
            )));
        }
        self.zeros(padding(member.size_bytes), name)
    }

    fn end(&mut self) -> Result<()> {
        self.zeros(2 * BLOCK_BYTES, "the end")?;
        let mut more = [0];
        match self.file.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.refused("something follows its end")),
            Err(error) => Err(self.refused(format!("it cannot be read: {error}"))),
        }
    }

    fn exact(&mut self, buffer: &mut [u8], name: &str) -> Result<()> {
        self.file.read_exact(buffer).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                self.refused(format!("it is cut short in {name}"))
            } else {
                self.refused(format!("{name} cannot be read: {error}"))
            }
        })
    }

    fn zeros(&mut self, count: usize, name: &str) -> Result<()> {
        let mut block = vec![0; count];
        self.exact(&mut block, name)?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        Err(self.refused(format!("the bytes behind {name} were changed")))
    }
}

#[cfg(test)]
mod tests;
