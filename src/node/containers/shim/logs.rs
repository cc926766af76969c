//! A container's log file in CRI's form: `<RFC 3339 with nanoseconds> <stream> F|P <line>`.
//!
//! A line longer than [`LINE_BYTES_MAX`], or without an end when the stream ends, is written in parts marked `P`.
//! A full disk loses log lines and stops no container.

use super::protocol::Stream;
use env::Timestamp;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The longest part of a line, as in other CRI runtimes.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024;
/// Group-readable, as log collectors expect.
const LOG_MODE: u32 = 0o640;

/// The open log file of one container.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    files_max: u32,
}

/// Bytes of a stream behind its last line end.
#[derive(Debug)]
pub(super) struct Lines {
    stream: Stream,
    rest: Vec<u8>,
}

impl Log {
    /// Opens the file for appending; makes it and its directory if missing. 0 bytes means no rotation.
    pub(super) fn open(path: &Path, bytes_max: u64, files_max: u32) -> io::Result<Log> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = open_for_appending(path)?;
        let bytes = file.metadata()?.len();
        Ok(Log {
            path: path.to_owned(),
            file,
            bytes,
            bytes_max,
            files_max,
        })
    }

    /// Somebody moved the file away: go on in a new one at the same path.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.file = open_for_appending(&self.path)?;
        self.bytes = self.file.metadata()?.len();
        Ok(())
    }

    /// Moves the file away under a name with the time, removes the oldest, and goes on in a new one.
    pub(super) fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        let mut name = self.path.file_name().unwrap_or_default().to_os_string();
        // With the fraction: a program that writes much fills several files in a second.
        name.push(now.to_jiff().strftime(".%Y%m%d-%H%M%S%.9f").to_string());
        let rotated = self.path.with_file_name(name);
        std::fs::rename(&self.path, &rotated)?;
        self.reopen()?;
        self.remove_oldest()
    }

    fn remove_oldest(&self) -> io::Result<()> {
        let Some((directory, name)) = self.path.parent().zip(self.path.file_name()) else {
            return Ok(());
        };
        let mut prefix = name.to_string_lossy().into_owned();
        prefix.push('.');
        let mut rotated: Vec<PathBuf> = std::fs::read_dir(directory)?
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .map(|entry| entry.path())
            .collect();
        rotated.sort();
        // The current file counts.
        let keep = usize::try_from(self.files_max.saturating_sub(1)).unwrap_or(usize::MAX);
        let surplus = rotated.len().saturating_sub(keep);
        for path in &rotated[..surplus] {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    fn write(&mut self, lines: &[u8], now: Timestamp) {
        // What cannot be written is lost: the container must not wait for a disk.
        if self.file.write_all(lines).is_ok() {
            self.bytes += lines.len() as u64;
        }
        if self.bytes_max > 0 && self.bytes >= self.bytes_max && self.rotate(now).is_err() {
            // Try again only when as much again has been written.
            self.bytes = 0;
        }
    }
}

impl Lines {
    pub(super) fn new(stream: Stream) -> Lines {
        Lines {
            stream,
            rest: Vec::new(),
        }
    }

    /// Writes the whole lines of what was read.
    pub(super) fn push(&mut self, chunk: &[u8], log: &mut Log, now: Timestamp) {
        let mut out = Vec::with_capacity(chunk.len() + 64);
        let head = self.head(now);
        self.split(chunk, &head, &mut out);
        if !out.is_empty() {
            log.write(&out, now);
        }
    }

    /// The stream has ended: writes what is left, as a part.
    pub(super) fn finish(&mut self, log: &mut Log, now: Timestamp) {
        if self.rest.is_empty() {
            return;
        }
        let mut out = Vec::new();
        let rest = std::mem::take(&mut self.rest);
        append(&mut out, &self.head(now), 'P', &rest);
        log.write(&out, now);
    }

    fn head(&self, now: Timestamp) -> String {
        let stream = match self.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        format!("{} {stream} ", now.to_nanos_string())
    }

    fn split(&mut self, chunk: &[u8], head: &str, out: &mut Vec<u8>) {
        let mut left = chunk;
        while !left.is_empty() {
            let end = left.iter().position(|byte| *byte == b'\n');
            let room = LINE_BYTES_MAX - self.rest.len();
            let take = end.unwrap_or(left.len());
            if take > room {
                self.rest.extend_from_slice(&left[..room]);
                append(out, head, 'P', &self.rest);
                self.rest.clear();
                left = &left[room..];
            } else if end.is_some() {
                self.rest.extend_from_slice(&left[..take]);
                append(out, head, 'F', &self.rest);
                self.rest.clear();
                left = &left[take + 1..];
            } else {
                self.rest.extend_from_slice(left);
                left = &[];
            }
        }
        if self.rest.is_empty() {
            // An idle container holds no buffer.
            self.rest = Vec::new();
        }
    }
}

fn append(out: &mut Vec<u8>, head: &str, tag: char, line: &[u8]) {
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(&[u8::try_from(tag).expect("F or P"), b' ']);
    out.extend_from_slice(line);
    out.push(b'\n');
}

fn open_for_appending(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(LOG_MODE)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(chunks: &[&[u8]]) -> Vec<u8> {
        let mut lines = Lines::new(Stream::Stdout);
        let mut out = Vec::new();
        for chunk in chunks {
            lines.split(chunk, "T stdout ", &mut out);
        }
        out
    }

    #[test]
    fn a_line_over_several_reads_is_written_once_and_whole() {
        assert_eq!(
            written(&[b"he", b"llo\nwor", b"ld\n\n"]),
            b"T stdout F hello\nT stdout F world\nT stdout F \n"
        );
        assert_eq!(written(&[b"no end yet"]), b"");
    }

    #[test]
    fn a_line_longer_than_the_limit_is_written_in_parts() {
        let mut long = vec![b'x'; LINE_BYTES_MAX + 3];
        long.push(b'\n');
        let out = written(&[&long]);
        let parts: Vec<&[u8]> = out.split(|byte| *byte == b'\n').collect();
        assert!(parts[0].starts_with(b"T stdout P x") && parts[0].len() == LINE_BYTES_MAX + 11);
        assert_eq!(parts[1], b"T stdout F xxx");
    }

    #[test]
    fn rotation_keeps_as_many_files_as_allowed_and_goes_on_at_the_same_path() {
        let directory = std::env::temp_dir().join(format!("logs-{}", std::process::id()));
        let path = directory.join("app/0.log");
        let mut log = Log::open(&path, 10, 3).unwrap();
        let mut lines = Lines::new(Stream::Stderr);
        for nanosecond in 0..6 {
            let moment = format!("2026-01-01T00:00:00.00000000{nanosecond}Z");
            let now = Timestamp::parse(&moment).unwrap();
            lines.push(b"0123456789\n", &mut log, now);
        }
        let names: Vec<_> = std::fs::read_dir(directory.join("app")).unwrap().collect();
        assert_eq!(names.len(), 3, "the current file and two rotated ones");
        assert!(path.exists());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
