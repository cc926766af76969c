//! Kernel parameters by their dotted names, in the namespaces of the calling thread.

use crate::error::{Doing, Result};
use std::path::PathBuf;

/// The value, without the line end.
pub fn read(name: &str) -> Result<String> {
    let path = path_of(name);
    let text = std::fs::read_to_string(&path).doing(|| format!("read sysctl {name}"))?;
    Ok(text.trim_end().to_owned())
}

pub fn write(name: &str, value: &str) -> Result<()> {
    std::fs::write(path_of(name), value).doing(|| format!("set sysctl {name} to {value:?}"))
}

/// `net.ipv4.conf.eth0/1.forwarding` and `net/ipv4/conf/eth0.1/forwarding` are the same: the first
/// separator decides, as sysctl(8) has it.
fn path_of(name: &str) -> PathBuf {
    let first = name
        .find(['.', '/'])
        .and_then(|at| name[at..].chars().next());
    let relative = match first {
        Some('/') => name.to_owned(),
        _ => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
    };
    // A name with `..` would leave /proc/sys.
    let inside = relative
        .split('/')
        .filter(|part| !part.is_empty() && *part != "..");
    let mut path = PathBuf::from("/proc/sys");
    path.extend(inside);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_decides_what_the_other_one_means() {
        let wanted = PathBuf::from("/proc/sys/net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(path_of("net.ipv4.conf.eth0/1.forwarding"), wanted);
        assert_eq!(path_of("net/ipv4/conf/eth0.1/forwarding"), wanted);
        assert_eq!(
            path_of("net/../../etc/passwd"),
            PathBuf::from("/proc/sys/net/etc/passwd")
        );
    }
}
