//! Kernel settings of a network namespace.

use std::io;
use std::path::PathBuf;

/// Writes a setting of the calling thread's network namespace if it has another value; a setting that this kernel does
/// not have is passed over.
pub(crate) fn write(key: &str, value: &str) -> io::Result<()> {
    let path = PathBuf::from("/proc/sys").join(key);
    match std::fs::read_to_string(&path) {
        Ok(found) if found.trim() == value => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => std::fs::write(&path, value),
    }
}

/// Lets the node route between pods and other networks.
pub(crate) fn enable_forwarding(v6: bool) -> io::Result<()> {
    write("net/ipv4/ip_forward", "1")?;
    if v6 {
        keep_router_advertisements()?;
        write("net/ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// A machine that forwards stops listening to routers, and would lose its own default route, unless it is told to go on.
fn keep_router_advertisements() -> io::Result<()> {
    let entries = match std::fs::read_dir("/proc/sys/net/ipv6/conf") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let path = entry?.path().join("accept_ra");
        if std::fs::read_to_string(&path).is_ok_and(|value| value.trim() == "1") {
            std::fs::write(&path, "2")?;
        }
    }
    Ok(())
}
