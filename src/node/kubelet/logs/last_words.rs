//! What an ended container left as its message: its termination log, or the last lines of its log.

use cri::{ContainerState, ContainerStatus, ExitReason};

use crate::container::labels::{falls_back_to_logs, termination_message_path_of};

/// The end of the termination log that is kept: bytes.
const MESSAGE_BYTES_MAX: u64 = 4096;
/// The end of the log that stands in for it.
const LOG_BYTES_MAX: usize = 2048;
const LOG_LINES_MAX: usize = 80;

/// Empty when there are none.
pub(crate) async fn last_words(container: &ContainerStatus) -> String {
    let container = container.clone();
    // Reading files blocks.
    env::spawn_blocking(move || read(&container))
        .await
        .unwrap_or_default()
}

fn read(container: &ContainerStatus) -> String {
    let ContainerState::Exited {
        exit_code, reason, ..
    } = &container.state
    else {
        return String::new();
    };
    let path = std::path::Path::new("/").join(termination_message_path_of(container));
    let mount = container
        .mounts
        .iter()
        .find(|mount| mount.container_path == path);
    let words = match mount.map(|mount| read_end(&mount.host_path, MESSAGE_BYTES_MAX)) {
        Some(Ok(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Some(Err(error)) => {
            return format!(
                "Error on reading termination log {}: {error}",
                path.display()
            );
        }
        None => String::new(),
    };
    let may_fall_back = *exit_code != 0 && *reason != ExitReason::StartError;
    if words.is_empty() && may_fall_back && falls_back_to_logs(container) {
        return end_of_log(&container.log_path);
    }
    words
}

fn end_of_log(path: &std::path::Path) -> String {
    // A CRI line has some 40 bytes of head: this much holds the end that is kept.
    let Ok(bytes) = read_end(path, 64 * 1024) else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES_MAX)..];
    let mut words = String::new();
    for line in last {
        let mut parts = line.splitn(4, ' ');
        let (tag, content) = (
            parts.nth(2).unwrap_or("F"),
            parts.next().unwrap_or_default(),
        );
        words.push_str(content);
        if tag != "P" {
            words.push('\n');
        }
    }
    let cut = words.len().saturating_sub(LOG_BYTES_MAX);
    let cut = (cut..=words.len())
        .find(|at| words.is_char_boundary(*at))
        .unwrap_or(words.len());
    words.split_off(cut)
}

fn read_end(path: &std::path::Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    // The container owns the file and may have made anything of it.
    if !file.metadata()?.is_file() {
        return Ok(Vec::new());
    }
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}
