//! Reads a log from where the client wants, and on as it grows, also across rotation: woken by the kernel, never by a timer.

use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bytes::Bytes;
use linux::inotify::Watches;
use tokio::fs::File;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::{mpsc, watch};

use crate::logs::line::Renderer;
use crate::logs::options::LogOptions;

const CHUNK_BYTES: usize = 32 * 1024;
/// A longer line is no line of a log.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Whether the container still runs: false tells that the log ends where it ends.
pub(crate) type Liveness = watch::Receiver<bool>;

/// Sends the log until its end, the limit, or the client's leaving.
pub(crate) async fn read_log(
    path: &Path,
    options: LogOptions,
    mut alive: Liveness,
    out: mpsc::Sender<Bytes>,
) -> std::io::Result<()> {
    let mut file = File::open(path).await?;
    if let Some(lines) = options.tail_lines {
        let start = tail_start(&mut file, lines).await?;
        file.seek(SeekFrom::Start(start)).await?;
    }
    let follow = options.follow;
    let watches = if follow { Some(watch_log(path)?) } else { None };
    let mut reader = LogReader {
        renderer: Renderer::new(options),
        pending: Vec::new(),
        out,
    };
    loop {
        // Asked before the last read, so that nothing written before the end is missed.
        let was_alive = *alive.borrow_and_update();
        if !reader.drain(&mut file).await? {
            return Ok(());
        }
        let Some(watches) = &watches else {
            return Ok(());
        };
        if let Some(next) = rotated(path, &file).await {
            reader.drain(&mut file).await?;
            file = next;
            watches
                .get_ref()
                .watch_file(path)
                .map_err(std::io::Error::other)?;
            continue;
        }
        if !was_alive {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = reader.out.closed() => return Ok(()),
            // An error says that nobody knows any more: then it has ended.
            _told = alive.changed() => {}
            ready = watches.readable() => {
                let mut ready = ready?;
                watches.get_ref().take().map_err(std::io::Error::other)?;
                ready.clear_ready();
            }
        }
    }
}

/// Wakes when the file grows, and when another one takes its name.
#[expect(
    deprecated,
    reason = "the watches own their descriptor and keep it while they live; the other constructor is unsafe"
)]
fn watch_log(path: &Path) -> std::io::Result<AsyncFd<Watches>> {
    let watches = Watches::new().map_err(std::io::Error::other)?;
    watches.watch_file(path).map_err(std::io::Error::other)?;
    if let Some(directory) = path.parent() {
        watches
            .watch_directory(directory)
            .map_err(std::io::Error::other)?;
    }
    AsyncFd::new(watches)
}

/// The file that has the name now, if it is another one.
async fn rotated(path: &Path, file: &File) -> Option<File> {
    let next = File::open(path).await.ok()?;
    let (old, new) = (file.metadata().await.ok()?, next.metadata().await.ok()?);
    ((old.dev(), old.ino()) != (new.dev(), new.ino())).then_some(next)
}

struct LogReader {
    renderer: Renderer,
    /// The beginning of a line whose end is not written yet.
    pending: Vec<u8>,
    out: mpsc::Sender<Bytes>,
}

impl LogReader {
    /// Sends everything up to the end of the file; false: nothing more is wanted.
    async fn drain(&mut self, file: &mut File) -> std::io::Result<bool> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = file.read(&mut chunk).await?;
            if read == 0 {
                return Ok(!self.renderer.is_full());
            }
            self.pending.extend_from_slice(&chunk[..read]);
            let rendered = self.take_lines();
            let is_gone = !rendered.is_empty() && self.out.send(rendered.into()).await.is_err();
            if is_gone || self.renderer.is_full() {
                return Ok(false);
            }
        }
    }

    fn take_lines(&mut self) -> Vec<u8> {
        let mut rendered = Vec::new();
        let mut start = 0;
        while let Some(length) = self.pending[start..].iter().position(|byte| *byte == b'\n') {
            if self.renderer.is_full() {
                break;
            }
            self.renderer
                .render(&self.pending[start..start + length], &mut rendered);
            start += length + 1;
        }
        self.pending.drain(..start);
        if self.pending.len() > LINE_BYTES_MAX {
            self.pending.clear();
        }
        rendered
    }
}

/// Where the last `lines` lines begin.
async fn tail_start(file: &mut File, lines: u64) -> std::io::Result<u64> {
    let length = file.metadata().await?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut end = length;
    let mut found = 0;
    let mut chunk = vec![0; CHUNK_BYTES];
    while end > 0 {
        let size = end.min(CHUNK_BYTES as u64);
        let part = &mut chunk[..usize::try_from(size).unwrap_or(CHUNK_BYTES)];
        file.seek(SeekFrom::Start(end - size)).await?;
        file.read_exact(part).await?;
        for (index, byte) in part.iter().enumerate().rev() {
            let position = end - size + index as u64;
            // The newline at the very end closes the last line and begins none.
            if *byte == b'\n' && position + 1 != length {
                found += 1;
                if found == lines {
                    return Ok(position + 1);
                }
            }
        }
        end -= size;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    async fn collect(path: &Path, options: LogOptions) -> String {
        let (out, mut chunks) = mpsc::channel(4);
        let (_alive, liveness) = watch::channel(false);
        let (read, text) = tokio::join!(read_log(path, options, liveness, out), async {
            let mut text = Vec::new();
            while let Some(chunk) = chunks.recv().await {
                text.extend_from_slice(&chunk);
            }
            text
        });
        read.unwrap();
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn the_tail_counts_lines_from_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let lines: String = (0..5000)
            .map(|n| format!("2026-01-01T00:00:00Z stdout F line {n}\n"))
            .collect();
        std::fs::write(&path, lines).unwrap();
        let tail = |lines| LogOptions {
            tail_lines: Some(lines),
            ..LogOptions::default()
        };
        assert_eq!(collect(&path, tail(2)).await, "line 4998\nline 4999\n");
        assert_eq!(collect(&path, tail(0)).await, "");
        assert_eq!(collect(&path, tail(3000)).await.lines().count(), 3000);
        assert_eq!(collect(&path, tail(9000)).await.lines().count(), 5000);
    }

    #[tokio::test]
    async fn following_goes_on_across_rotation_and_ends_with_the_container() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let append = |text: &str| {
            let mut file = std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(&path)
                .unwrap();
            writeln!(file, "2026-01-01T00:00:00Z stdout F {text}").unwrap();
        };
        append("one");
        let (out, mut chunks) = mpsc::channel(4);
        let (alive, liveness) = watch::channel(true);
        let options = LogOptions {
            follow: true,
            ..LogOptions::default()
        };
        let reading = {
            let path = path.clone();
            env::spawn(async move { read_log(&path, options, liveness, out).await })
        };
        assert_eq!(chunks.recv().await.unwrap(), "one\n");
        append("two");
        assert_eq!(chunks.recv().await.unwrap(), "two\n");
        std::fs::rename(&path, directory.path().join("0.log.1")).unwrap();
        append("three");
        assert_eq!(chunks.recv().await.unwrap(), "three\n");
        append("four");
        alive.send(false).unwrap();
        assert_eq!(chunks.recv().await.unwrap(), "four\n");
        assert!(chunks.recv().await.is_none());
        reading.await.unwrap().unwrap();
    }
}
