//! Who listens on this machine, as the kernel's tables of sockets tell.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The state `TCP_LISTEN` in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// A port that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) port: u16,
    /// The name of the process, where it can be found.
    pub(crate) process: Option<String>,
}

/// The listeners on the ports asked for, in the calling process' network namespace.
pub(crate) fn listeners(ports: &[u16]) -> Vec<Listener> {
    let mut sockets: BTreeMap<String, u16> = BTreeMap::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        for line in text.lines().skip(1) {
            if let Some((port, inode)) = listening(line)
                && ports.contains(&port)
            {
                sockets.insert(inode, port);
            }
        }
    }
    let mut found: Vec<Listener> = sockets
        .iter()
        .map(|(inode, port)| Listener {
            port: *port,
            process: owner(inode),
        })
        .collect();
    found.sort_by_key(|listener| listener.port);
    found.dedup_by_key(|listener| listener.port);
    found
}

/// Port and inode of a line about a listening socket.
fn listening(line: &str) -> Option<(u16, String)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    if *state != LISTENING {
        return None;
    }
    let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    Some((port, (*inode).to_owned()))
}

fn owner(inode: &str) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
        .find(|entry| holds(&entry.path().join("fd"), &wanted))
        .and_then(|entry| fs::read_to_string(entry.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
}

fn holds(descriptors: &Path, wanted: &str) -> bool {
    let descriptors = fs::read_dir(descriptors).into_iter().flatten().flatten();
    descriptors
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| target.as_os_str() == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_with_its_port_and_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = listeners(&[port]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].port, port);
        assert!(found[0].process.is_some());
        drop(listener);
        assert_eq!(listeners(&[port]), []);
    }
}
