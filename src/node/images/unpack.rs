//! Turns one layer's tar stream into an overlayfs layer directory; nothing the stream says can touch what lies outside it.
//!
//! Every path is opened below the layer's directory with `openat2(RESOLVE_IN_ROOT)`, and every last component is used without following links.
//! Device nodes are made as the image says: the devices cgroup of a container decides about their use, as with other runtimes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    self, AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;

use crate::refusal::Refusal;
use crate::tar_reader::{Entry, EntryKind, PATH_BYTES_MAX, TarError, TarReader};

const NAME_BYTES_MAX: usize = 255;
/// As the kernel's own limit (ELOOP).
const LINKS_FOLLOWED_MAX: usize = 40;
const COPY_BUFFER_BYTES: usize = 128 * 1024;
const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// aufs' book-keeping; of these only the opaque marker means anything.
const WHITEOUT_META_PREFIX: &[u8] = b".wh..wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";
const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// How much one layer may hold.
#[derive(Debug, Clone, Copy)]
pub struct UnpackLimits {
    /// Bytes of the uncompressed stream, and so also of all files together.
    pub bytes_max: u64,
    pub entries_max: u64,
}

impl Default for UnpackLimits {
    /// 64 GiB and 4 million entries: above any image known to run on a node, below what fills a file system by accident.
    fn default() -> Self {
        Self {
            bytes_max: 64 << 30,
            entries_max: 4_000_000,
        }
    }
}

/// Which attribute marks a directory that hides the layers below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpaqueMark {
    /// `trusted.overlay.opaque`: needs `CAP_SYS_ADMIN` in the first user namespace.
    Trusted,
    /// `user.overlay.opaque` with the mount option `userxattr` (Linux 5.11).
    User,
}

impl OpaqueMark {
    fn name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}

/// What a layer came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    pub(crate) size_bytes: u64,
    pub(crate) entries: u64,
}

#[derive(Debug)]
pub(crate) enum UnpackError {
    Refused { entry: String, refusal: Refusal },
    Io { entry: String, source: io::Error },
    Stream(io::Error),
}

impl From<TarError> for UnpackError {
    fn from(error: TarError) -> Self {
        match error {
            TarError::Io(source) => Self::Stream(source),
            TarError::Refused { entry, refusal } => Self::Refused { entry, refusal },
        }
    }
}

/// What stopped one entry.
enum Stop {
    Refused(Refusal),
    Failed(io::Error),
    Stream(io::Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::LOOP => Self::Refused(Refusal::TooManyLinks),
            Errno::NOTDIR => Self::Refused(Refusal::ParentNotDirectory),
            Errno::NAMETOOLONG => Self::Refused(Refusal::PathTooLong),
            // A mount point inside a layer's directory cannot be ours.
            Errno::XDEV => Self::Refused(Refusal::PathEscapes),
            other => Self::Failed(other.into()),
        }
    }
}

/// A path inside the image: parts that are neither empty, `.` nor `..`.
type Parts = Vec<OsString>;

pub(crate) struct Unpacker<'a> {
    /// The layer's directory.
    root: BorrowedFd<'a>,
    /// The directories of the layers below, nearest first: implied directories look like theirs.
    parents: &'a [OwnedFd],
    opaque_mark: OpaqueMark,
    limits: UnpackLimits,
    unpacked: Unpacked,
    /// Set when everything else is done, because making a file changes its directory's time.
    directory_times: BTreeMap<Parts, Timespec>,
    last_directory: Option<(Parts, OwnedFd)>,
}

impl<'a> Unpacker<'a> {
    pub(crate) fn new(
        root: BorrowedFd<'a>,
        parents: &'a [OwnedFd],
        opaque_mark: OpaqueMark,
        limits: UnpackLimits,
    ) -> Self {
        Self {
            root,
            parents,
            opaque_mark,
            limits,
            unpacked: Unpacked::default(),
            directory_times: BTreeMap::new(),
            last_directory: None,
        }
    }

    /// Unpacks the whole stream, which is plain tar, and reads it to its last byte.
    pub(crate) fn run(mut self, stream: impl Read) -> Result<Unpacked, UnpackError> {
        let bounded = Bounded {
            inner: stream,
            left: self.limits.bytes_max,
        };
        let mut tar = TarReader::new(bounded);
        self.copy_implied_metadata(&Parts::new(), self.root)
            .map_err(|stop| stop.at(String::from("/")))?;
        while let Some(entry) = tar.next_entry()? {
            self.unpacked.entries += 1;
            if self.unpacked.entries > self.limits.entries_max {
                return Err(Stop::from(Refusal::TooManyEntries).at(entry.display()));
            }
            self.entry(&entry, &mut tar)
                .map_err(|stop| stop.at(entry.display()))?;
        }
        tar.drain().map_err(UnpackError::Stream)?;
        self.set_directory_times()
            .map_err(|stop| stop.at(String::from("/")))?;
        Ok(self.unpacked)
    }

    fn entry(&mut self, entry: &Entry, content: &mut impl Read) -> Result<(), Stop> {
        check_xattrs(entry)?;
        let mut parts = parts_of(&entry.path)?;
        if parts.iter().any(|part| {
            part.as_bytes().starts_with(WHITEOUT_META_PREFIX) && part.as_bytes() != WHITEOUT_OPAQUE
        }) {
            return Ok(());
        }
        let Some(name) = parts.pop() else {
            return self.root_entry(entry);
        };
        if parts
            .iter()
            .any(|part| part.as_bytes().starts_with(WHITEOUT_PREFIX))
        {
            return Err(Refusal::Whiteout.into());
        }
        if name.as_bytes() == WHITEOUT_OPAQUE {
            let directory = self.directory(&parts)?;
            return self.mark_opaque(directory.as_fd());
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT_PREFIX) {
            return self.whiteout(&parts, OsStr::from_bytes(hidden));
        }
        self.make(entry, parts, &name, content)
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), Stop> {
        if entry.kind != EntryKind::Directory {
            return Err(Refusal::RootNotDirectory.into());
        }
        Self::set_metadata(entry, self.root, OsStr::new("."))?;
        self.directory_times.insert(Parts::new(), mtime(entry));
        Ok(())
    }

    fn make(
        &mut self,
        entry: &Entry,
        parents: Parts,
        name: &OsStr,
        content: &mut impl Read,
    ) -> Result<(), Stop> {
        let target = match entry.kind {
            EntryKind::HardLink => Some(self.hard_link_target(entry, &parents, name)?),
            _ => None,
        };
        let directory = self.directory(&parents)?;
        let at = directory.as_fd();
        let before = self.clear(at, name, entry.kind)?;
        match (entry.kind, target) {
            (EntryKind::HardLink, Some((target_at, target_name))) => {
                // The link shares its target's metadata.
                fs::linkat(&target_at, &target_name, at, name, AtFlags::empty())?;
                return Ok(());
            }
            (EntryKind::HardLink, None) => return Err(Refusal::HardLinkTarget.into()),
            (EntryKind::Directory, _) => self.make_directory(at, name, before)?,
            (EntryKind::Regular, _) => self.make_file(entry, at, name, content)?,
            (EntryKind::Symlink, _) => make_symlink(entry, at, name)?,
            (EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo, _) => {
                make_node(entry, at, name)?;
            }
        }
        Self::set_metadata(entry, at, name)?;
        if entry.kind == EntryKind::Directory {
            let mut parts = parents;
            parts.push(name.to_owned());
            self.directory_times.insert(parts, mtime(entry));
            return Ok(());
        }
        fs::utimensat(at, name, &times(mtime(entry)), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    fn make_directory(&self, at: BorrowedFd<'_>, name: &OsStr, before: Before) -> Result<(), Stop> {
        if before != Before::Directory {
            fs::mkdirat(at, name, Mode::RWXU)?;
        }
        if before == Before::Whiteout {
            // The layer removes the directory of the layers below and makes another.
            let made = fs::openat(
                at,
                name,
                OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            self.mark_opaque(made.as_fd())?;
        }
        Ok(())
    }

    fn make_file(
        &mut self,
        entry: &Entry,
        at: BorrowedFd<'_>,
        name: &OsStr,
        content: &mut impl Read,
    ) -> Result<(), Stop> {
        if entry.size_bytes > self.limits.bytes_max - self.unpacked.size_bytes {
            return Err(Refusal::TooManyBytes.into());
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(fs::openat(at, name, flags, Mode::RUSR | Mode::WUSR)?);
        let mut buffer = vec![
            0;
            COPY_BUFFER_BYTES
                .min(usize::try_from(entry.size_bytes).unwrap_or(COPY_BUFFER_BYTES))
                .max(1)
        ];
        loop {
            let read = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Stop::Stream(error)),
            };
            file.write_all(&buffer[..read]).map_err(Stop::Failed)?;
        }
        self.unpacked.size_bytes += entry.size_bytes;
        Ok(())
    }

    fn hard_link_target(
        &mut self,
        entry: &Entry,
        parents: &Parts,
        name: &OsStr,
    ) -> Result<(OwnedFd, OsString), Stop> {
        let mut target = parts_of(&entry.link)?;
        let Some(target_name) = target.pop() else {
            return Err(Refusal::HardLinkTarget.into());
        };
        if &target == parents && target_name == name {
            return Err(Refusal::HardLinkTarget.into());
        }
        let missing = |errno: Errno| {
            if errno == Errno::NOENT {
                Stop::Refused(Refusal::HardLinkTarget)
            } else {
                errno.into()
            }
        };
        let at = open_directory(self.root, &target).map_err(missing)?;
        let stat = fs::statat(&at, &target_name, AtFlags::SYMLINK_NOFOLLOW).map_err(missing)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Err(Refusal::HardLinkTarget.into()),
            FileType::CharacterDevice if stat.st_rdev == 0 => Err(Refusal::HardLinkTarget.into()),
            _ => Ok((at, target_name)),
        }
    }

    /// Hides `name` of the layers below.
    fn whiteout(&mut self, parents: &Parts, name: &OsStr) -> Result<(), Stop> {
        if name.is_empty() || name == "." || name == ".." {
            return Err(Refusal::Whiteout.into());
        }
        let directory = self.directory(parents)?;
        let at = directory.as_fd();
        match stat_or_absent(at, name)? {
            None => {
                fs::mknodat(at, name, FileType::CharacterDevice, Mode::empty(), 0)?;
                Ok(())
            }
            // What this layer has itself hides the layers below already; only a directory would be merged with theirs.
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = fs::openat(at, name, flags, Mode::empty())?;
                self.mark_opaque(made.as_fd())
            }
            Some(_) => Ok(()),
        }
    }

    fn mark_opaque(&self, directory: BorrowedFd<'_>) -> Result<(), Stop> {
        let path = proc_path(directory, None);
        fs::setxattr(path, self.opaque_mark.name(), b"y", XattrFlags::empty())?;
        Ok(())
    }

    /// Makes room for an entry: a later one of the same name replaces an earlier one, but directories are merged.
    fn clear(&mut self, at: BorrowedFd<'_>, name: &OsStr, kind: EntryKind) -> Result<Before, Stop> {
        let Some(stat) = stat_or_absent(at, name)? else {
            return Ok(Before::Nothing);
        };
        let found = FileType::from_raw_mode(stat.st_mode);
        if found == FileType::Directory && kind == EntryKind::Directory {
            return Ok(Before::Directory);
        }
        let before = if found == FileType::CharacterDevice && stat.st_rdev == 0 {
            Before::Whiteout
        } else {
            Before::Nothing
        };
        self.last_directory = None;
        if found == FileType::Directory {
            std::fs::remove_dir_all(proc_path(at, Some(name))).map_err(Stop::Failed)?;
        } else {
            fs::unlinkat(at, name, AtFlags::empty())?;
        }
        Ok(before)
    }

    /// The directory `parts`, made with all that is missing above it.
    fn directory(&mut self, parts: &Parts) -> Result<OwnedFd, Stop> {
        if let Some((cached, descriptor)) = &self.last_directory
            && cached == parts
        {
            return descriptor.try_clone().map_err(Stop::Failed);
        }
        let descriptor = self.ensure_directory(parts, 0)?;
        self.last_directory = Some((parts.clone(), descriptor.try_clone().map_err(Stop::Failed)?));
        Ok(descriptor)
    }

    fn ensure_directory(
        &mut self,
        parts: &[OsString],
        links_followed: usize,
    ) -> Result<OwnedFd, Stop> {
        if links_followed > LINKS_FOLLOWED_MAX {
            return Err(Refusal::TooManyLinks.into());
        }
        match open_directory(self.root, parts) {
            // Not a directory: a whiteout may stand where the layer makes the directory again.
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            other => return Ok(other?),
        }
        let mut at = self.root.try_clone_to_owned().map_err(Stop::Failed)?;
        for (depth, name) in parts.iter().enumerate() {
            let here = &parts[..=depth];
            match open_directory(self.root, here) {
                Ok(next) => {
                    at = next;
                    continue;
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(errno.into()),
            }
            match stat_or_absent(at.as_fd(), name)?
                .map(|stat| (FileType::from_raw_mode(stat.st_mode), stat.st_rdev))
            {
                None => at = self.imply_directory(at.as_fd(), name, here, Before::Nothing)?,
                Some((FileType::CharacterDevice, 0)) => {
                    fs::unlinkat(&at, name, AtFlags::empty())?;
                    at = self.imply_directory(at.as_fd(), name, here, Before::Whiteout)?;
                }
                Some((FileType::Symlink, _)) => {
                    let target = resolve_link(at.as_fd(), &parts[..depth], name)?;
                    at = self.ensure_directory(&target, links_followed + 1)?;
                }
                Some(_) => return Err(Refusal::ParentNotDirectory.into()),
            }
        }
        Ok(at)
    }

    /// Makes a directory that no entry announced; it looks like the one of the layers below, which it will cover.
    fn imply_directory(
        &self,
        at: BorrowedFd<'_>,
        name: &OsStr,
        parts: &[OsString],
        before: Before,
    ) -> Result<OwnedFd, Stop> {
        fs::mkdirat(at, name, Mode::from_raw_mode(0o755))?;
        let made = fs::openat(
            at,
            name,
            OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        if before == Before::Whiteout {
            self.mark_opaque(made.as_fd())?;
        } else {
            self.copy_implied_metadata(parts, made.as_fd())?;
        }
        Ok(made)
    }

    fn copy_implied_metadata(&self, parts: &[OsString], made: BorrowedFd<'_>) -> Result<(), Stop> {
        let Some(below) = self
            .parents
            .iter()
            .find_map(|parent| open_directory(parent.as_fd(), parts).ok())
        else {
            return Ok(());
        };
        let stat = fs::fstat(&below)?;
        fs::chownat(
            made,
            ".",
            Some(fs::Uid::from_raw(stat.st_uid)),
            Some(fs::Gid::from_raw(stat.st_gid)),
            AtFlags::empty(),
        )?;
        fs::chmodat(
            made,
            ".",
            Mode::from_raw_mode(stat.st_mode & 0o7777),
            AtFlags::empty(),
        )?;
        Ok(())
    }

    /// Owner, extended attributes and mode, in the order in which none undoes another.
    fn set_metadata(entry: &Entry, at: BorrowedFd<'_>, name: &OsStr) -> Result<(), Stop> {
        let uid = u32::try_from(entry.uid)
            .ok()
            .filter(|id| *id != u32::MAX)
            .ok_or(Refusal::Owner)?;
        let gid = u32::try_from(entry.gid)
            .ok()
            .filter(|id| *id != u32::MAX)
            .ok_or(Refusal::Owner)?;
        fs::chownat(
            at,
            name,
            Some(fs::Uid::from_raw(uid)),
            Some(fs::Gid::from_raw(gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        if entry.kind != EntryKind::Symlink {
            fs::chmodat(
                at,
                name,
                Mode::from_raw_mode(entry.mode & 0o7777),
                AtFlags::empty(),
            )?;
        }
        for (attribute, value) in &entry.xattrs {
            if !keeps_attribute(attribute) {
                continue;
            }
            match fs::lsetxattr(
                proc_path(at, Some(name)),
                OsStr::from_bytes(attribute),
                value,
                XattrFlags::empty(),
            ) {
                // The file system or this kind of file has no such attributes: nothing a container could miss.
                Err(Errno::NOTSUP | Errno::PERM) if attribute.starts_with(b"user.") => {}
                result => result?,
            }
        }
        Ok(())
    }

    fn set_directory_times(&mut self) -> Result<(), Stop> {
        for (parts, mtime) in std::mem::take(&mut self.directory_times) {
            match open_directory(self.root, &parts) {
                Ok(directory) => fs::futimens(&directory, &times(mtime))?,
                // A later entry replaced the directory.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// What stood where an entry goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Whiteout,
    Directory,
}

impl Stop {
    fn at(self, entry: String) -> UnpackError {
        match self {
            Self::Refused(refusal) => UnpackError::Refused { entry, refusal },
            Self::Failed(source) => UnpackError::Io { entry, source },
            Self::Stream(source) => UnpackError::Stream(source),
        }
    }
}

/// Ends a stream that is longer than allowed with an error.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    Refusal::TooManyBytes,
                ));
            }
        }
        Ok(read)
    }
}

/// The parts of a path as Docker reads it: relative to the image's root whether or not it begins with a slash.
fn parts_of(path: &[u8]) -> Result<Parts, Refusal> {
    if path.is_empty() || path.contains(&0) {
        return Err(Refusal::PathMalformed);
    }
    if path.len() >= PATH_BYTES_MAX {
        return Err(Refusal::PathTooLong);
    }
    let mut parts = Parts::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(Refusal::PathEscapes),
            _ if part.len() > NAME_BYTES_MAX => return Err(Refusal::PathTooLong),
            _ => parts.push(OsString::from_vec(part.to_vec())),
        }
    }
    Ok(parts)
}

/// Where the link `name` in the directory `parents` leads, `..` never above the root.
fn resolve_link(at: BorrowedFd<'_>, parents: &[OsString], name: &OsStr) -> Result<Parts, Stop> {
    let target = fs::readlinkat(at, name, Vec::new())?.into_bytes();
    let mut parts: Parts = if target.starts_with(b"/") {
        Parts::new()
    } else {
        parents.to_vec()
    };
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            _ => parts.push(OsString::from_vec(part.to_vec())),
        }
    }
    Ok(parts)
}

fn open_directory(root: BorrowedFd<'_>, parts: &[OsString]) -> Result<OwnedFd, Errno> {
    let path: PathBuf = if parts.is_empty() {
        PathBuf::from(".")
    } else {
        parts.iter().collect()
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::openat2(root, &path, flags, Mode::empty(), IN_ROOT)
}

fn stat_or_absent(at: BorrowedFd<'_>, name: &OsStr) -> Result<Option<fs::Stat>, Stop> {
    match fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// A path to `name` in an open directory, for calls that have no form with a descriptor.
fn proc_path(directory: BorrowedFd<'_>, name: Option<&OsStr>) -> PathBuf {
    let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
    match name {
        Some(name) => path.join(name),
        None => path,
    }
}

fn make_symlink(entry: &Entry, at: BorrowedFd<'_>, name: &OsStr) -> Result<(), Stop> {
    if entry.link.is_empty() || entry.link.contains(&0) {
        return Err(Refusal::PathMalformed.into());
    }
    if entry.link.len() >= PATH_BYTES_MAX {
        return Err(Refusal::PathTooLong.into());
    }
    // Where it leads is the container's affair: it is resolved inside the container's root.
    fs::symlinkat(OsStr::from_bytes(&entry.link), at, name)?;
    Ok(())
}

fn make_node(entry: &Entry, at: BorrowedFd<'_>, name: &OsStr) -> Result<(), Stop> {
    let (kind, (major, minor)) = match entry.kind {
        EntryKind::CharDevice => (FileType::CharacterDevice, entry.device),
        EntryKind::BlockDevice => (FileType::BlockDevice, entry.device),
        _ => (FileType::Fifo, (0, 0)),
    };
    if kind == FileType::CharacterDevice && (major, minor) == (0, 0) {
        return Err(Refusal::WhiteoutDevice.into());
    }
    fs::mknodat(
        at,
        name,
        kind,
        Mode::RUSR | Mode::WUSR,
        fs::makedev(major, minor),
    )?;
    Ok(())
}

fn check_xattrs(entry: &Entry) -> Result<(), Refusal> {
    let overlay =
        |name: &[u8]| name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    if entry.xattrs.iter().any(|(name, _)| overlay(name)) {
        Err(Refusal::OverlayAttribute)
    } else {
        Ok(())
    }
}

/// File capabilities, access lists and free attributes belong to the image; labels of security modules and `trusted.` to the host.
fn keeps_attribute(name: &[u8]) -> bool {
    name == b"security.capability"
        || name.starts_with(b"user.")
        || name.starts_with(b"system.posix_acl_")
}

fn mtime(entry: &Entry) -> Timespec {
    Timespec {
        tv_sec: entry.mtime_seconds,
        tv_nsec: entry.mtime_nanoseconds.into(),
    }
}

fn times(mtime: Timespec) -> Timestamps {
    Timestamps {
        last_access: mtime,
        last_modification: mtime,
    }
}
