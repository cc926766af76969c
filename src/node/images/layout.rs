//! Where things lie on disk, and the few ways in which files come to be there.
//!
//! `blobs/sha256/<hex>` content as it came; `layers/<hex of the chain id>/{fs,layer.json}` unpacked layers; `index.json` the list of images;
//! `holds/<holder>.json` who uses which layers; `ingest/` what is not finished yet; two lock files. All but holds and locks appear by rename.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use linux::AtomicFile;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::{Digest, HashingWriter};
use crate::error::{Error, Result};

#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The directories of the store in its root.
    pub(crate) const OWN_FOLDERS: &[&str] = &["blobs", "layers", "holds", "ingest"];

    /// Makes the directories; only root may look into them.
    pub(crate) fn create(root: &Path) -> Result<Self> {
        let layout = Self {
            root: root.to_path_buf(),
        };
        for directory in [
            layout.blobs(),
            layout.layers(),
            layout.holds(),
            layout.ingest(),
        ] {
            fs::create_dir_all(&directory).map_err(Error::io("make directory", &directory))?;
        }
        for directory in [layout.layers(), layout.ingest(), layout.root.join("blobs")] {
            set_private(&directory)?;
        }
        Ok(layout)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn layer(&self, chain_id: &Digest) -> PathBuf {
        self.layers().join(chain_id.hex())
    }

    pub(crate) fn holds(&self) -> PathBuf {
        self.root.join("holds")
    }

    pub(crate) fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index.json")
    }

    /// Held shared by whoever adds content, exclusively by whoever removes it.
    pub(crate) fn content_lock(&self) -> PathBuf {
        self.root.join("content.lock")
    }

    /// Held exclusively for the moment in which the index changes.
    pub(crate) fn index_lock(&self) -> PathBuf {
        self.root.join("index.lock")
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        self.blob(digest).is_file()
    }

    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob(digest);
        File::open(&path).map_err(Error::io("open", &path))
    }

    /// The whole of a small blob, whose digest is checked again.
    pub(crate) fn read_document(&self, digest: &Digest, size_bytes_max: u64) -> Result<Vec<u8>> {
        let path = self.blob(digest);
        let what = digest.to_string();
        let content = read_bounded(
            BufReader::new(self.open_blob(digest)?),
            &what,
            size_bytes_max,
        )
        .map_err(|error| error.or_io("read", &path))?;
        let found = Digest::of(&content);
        if &found == digest {
            Ok(content)
        } else {
            Err(Error::DigestMismatch {
                what,
                expected: digest.clone(),
                found,
            })
        }
    }

    /// A name below `ingest/` that nobody else uses.
    pub(crate) fn temporary(&self) -> PathBuf {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = self
                .ingest()
                .join(format!("{}-{number}", std::process::id()));
            if !path.exists() {
                return path;
            }
        }
    }

    pub(crate) fn blob_writer(&self) -> Result<BlobWriter> {
        let path = self.temporary();
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(Error::io("make", &path))?;
        Ok(BlobWriter {
            layout: self.clone(),
            path,
            writer: Some(HashingWriter::new(file)),
        })
    }

    /// Stores content that is at hand.
    pub(crate) fn put_blob(&self, content: &[u8]) -> Result<Digest> {
        let mut writer = self.blob_writer()?;
        writer
            .write_all(content)
            .map_err(|source| writer.failed(source))?;
        Ok(writer.commit(None)?.0)
    }
}

/// A blob that is being written; dropped without `commit`, it leaves nothing behind.
pub(crate) struct BlobWriter {
    layout: Layout,
    path: PathBuf,
    /// Present until `commit`.
    writer: Option<HashingWriter<File>>,
}

impl BlobWriter {
    /// Makes the blob durable under its digest, which must be the expected one if any; gives the digest and the size.
    pub(crate) fn commit(mut self, expected: Option<(&str, &Digest)>) -> Result<(Digest, u64)> {
        let writer = self
            .writer
            .take()
            .expect("commit consumes the only owner of the writer");
        let (file, found, size_bytes) = writer.finish();
        if let Some((what, expected)) = expected
            && *expected != found
        {
            return Err(Error::DigestMismatch {
                what: what.to_owned(),
                expected: expected.clone(),
                found,
            });
        }
        if !self.layout.has_blob(&found) {
            file.sync_all().map_err(Error::io("sync", &self.path))?;
            let target = self.layout.blob(&found);
            fs::rename(&self.path, &target).map_err(Error::io("rename to", &target))?;
            sync_directory(&self.layout.blobs())?;
        }
        Ok((found, size_bytes))
    }

    pub(crate) fn failed(&self, source: io::Error) -> Error {
        Error::io("write", &self.path)(source)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.writer
            .as_mut()
            .expect("the writer is present until commit")
            .write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // After a commit that renamed the file there is nothing to remove; a file that stays is swept later.
        let _gone = fs::remove_file(&self.path);
    }
}

/// Why a bounded read ended early.
pub(crate) enum ReadError {
    Io(io::Error),
    TooLarge(Error),
}

impl ReadError {
    pub(crate) fn or_io(self, doing: &'static str, path: &Path) -> Error {
        match self {
            Self::Io(source) => Error::io(doing, path)(source),
            Self::TooLarge(error) => error,
        }
    }
}

pub(crate) fn read_bounded(
    reader: impl Read,
    what: &str,
    size_bytes_max: u64,
) -> std::result::Result<Vec<u8>, ReadError> {
    let mut content = Vec::new();
    reader
        .take(size_bytes_max + 1)
        .read_to_end(&mut content)
        .map_err(ReadError::Io)?;
    let size_bytes = content.len() as u64;
    if size_bytes > size_bytes_max {
        return Err(ReadError::TooLarge(Error::TooLarge {
            what: what.to_owned(),
            size_bytes,
            size_bytes_max,
        }));
    }
    Ok(content)
}

/// A lock that ends when the file is closed.
#[derive(Clone, Copy)]
pub(crate) enum LockMode {
    Shared,
    Exclusive,
}

pub(crate) fn lock(path: &Path, mode: LockMode) -> Result<File> {
    let file = open_lock(path)?;
    match mode {
        LockMode::Shared => file.lock_shared(),
        LockMode::Exclusive => file.lock(),
    }
    .map_err(Error::io("lock", path))?;
    Ok(file)
}

/// The exclusive lock, or `None` while somebody else holds it.
pub(crate) fn try_lock(path: &Path) -> Result<Option<File>> {
    let file = open_lock(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(source)) => Err(Error::io("lock", path)(source)),
    }
}

fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(Error::io("open", path))
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(content) => serde_json::from_slice(&content)
            .map(Some)
            .map_err(|source| Error::Json {
                what: path.display().to_string(),
                source,
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::io("read", path)(source)),
    }
}

/// Replaces a file so that after a crash either the old or the new content is there.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let content = serde_json::to_vec(value).map_err(|source| Error::Json {
        what: path.display().to_string(),
        source,
    })?;
    Ok(AtomicFile::private(path).write(&content)?)
}

pub(crate) fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(Error::io("sync", directory))
}

pub(crate) fn remove_file_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

pub(crate) fn remove_tree_if_there(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn set_private(directory: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
        .map_err(Error::io("set the mode of", directory))
}
