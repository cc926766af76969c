//! Kernel settings of a network namespace.

use linux::{BorrowedSettings, Doing as _, Setting};
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

/// Lets the node route between pods and other networks, until `instance` gives the settings back.
pub(crate) fn enable_forwarding(instance: &str, v6: bool) -> linux::Result<()> {
    let settings = BorrowedSettings::of_this_namespace()?;
    let mut followers = of_each_link("ipv4", "forwarding", "1")?;
    followers.push(Setting::new("net/ipv4/conf/all/accept_redirects", "0"));
    settings.borrow(
        instance,
        &Setting::new("net/ipv4/ip_forward", "1"),
        &followers,
    )?;
    if v6 {
        keep_router_advertisements(instance, &settings)?;
        let followers = of_each_link("ipv6", "forwarding", "1")?;
        let forwarding = Setting::new("net/ipv6/conf/all/forwarding", "1");
        settings.borrow(instance, &forwarding, &followers)?;
    }
    Ok(())
}

/// Gives back what `enable_forwarding` borrowed; the last instance brings the old values back.
pub(crate) fn give_back(instance: &str) -> linux::Result<()> {
    for setting in BorrowedSettings::of_this_namespace()?.give_back(instance)? {
        tracing::info!(setting.key, setting.value, "a kernel setting is as before");
    }
    Ok(())
}

/// A machine that forwards stops listening to routers, and would lose its own default route, unless it is told to go on.
fn keep_router_advertisements(instance: &str, settings: &BorrowedSettings) -> linux::Result<()> {
    for setting in of_each_link("ipv6", "accept_ra", "2")? {
        if linux::sysctl::read(&setting.key).is_ok_and(|value| value == "1") {
            settings.borrow(instance, &setting, &[])?;
        }
    }
    Ok(())
}

/// The setting of every link, and of `all` and `default`; none if the kernel does not have the family.
fn of_each_link(family: &str, name: &str, value: &str) -> linux::Result<Vec<Setting>> {
    let folder = format!("/proc/sys/net/{family}/conf");
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.doing(|| format!("list {folder}"))?,
    };
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .map(|link| Setting::new(format!("net/{family}/conf/{link}/{name}"), value))
        .collect())
}
