//! What the running kernel was built with, as far as the machine tells.

use std::fs;
use std::io::Read as _;
use std::path::Path;

/// A kernel's configuration has some ten thousand lines.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// Whether a part of the kernel is there; `None` when nothing tells.
pub(crate) fn has(release: &str, option: &str, module: &str) -> Option<bool> {
    if Path::new("/sys/module").join(module).exists() {
        return Some(true);
    }
    let modules = Path::new("/lib/modules").join(release);
    let lists =
        ["modules.builtin", "modules.dep"].map(|name| fs::read_to_string(modules.join(name)));
    if lists
        .iter()
        .flatten()
        .any(|list| lists_module(list, module))
    {
        return Some(true);
    }
    if let Some(config) = configuration(release) {
        return Some(is_set(&config, option));
    }
    lists.iter().all(Result::is_ok).then_some(false)
}

/// Lines are `kernel/net/x/name.ko`, with an ending of the compression and, in `modules.dep`, what
/// it needs.
fn lists_module(list: &str, module: &str) -> bool {
    list.lines().any(|line| {
        let path = line.split(':').next().unwrap_or_default();
        let file = path.rsplit('/').next().unwrap_or_default();
        let name = file.split('.').next().unwrap_or_default();
        name.replace('-', "_") == module
    })
}

fn configuration(release: &str) -> Option<String> {
    let mut text = String::new();
    if let Ok(packed) = fs::File::open("/proc/config.gz") {
        let plain = flate2::read::GzDecoder::new(packed);
        plain
            .take(CONFIG_BYTES_MAX)
            .read_to_string(&mut text)
            .ok()?;
        return Some(text);
    }
    let file = fs::File::open(format!("/boot/config-{release}")).ok()?;
    file.take(CONFIG_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// A module that is not in the folder of modules does not help: on boards it is often in a package
/// of its own.
fn is_set(config: &str, option: &str) -> bool {
    config.lines().any(|line| {
        line.strip_prefix(option)
            .is_some_and(|rest| rest.starts_with("=y"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_under_both_spellings() {
        let list = "kernel/net/bridge/br_netfilter.ko.xz: kernel/net/bridge/bridge.ko.xz\nkernel/fs/nls/nls-utf8.ko:\n";
        assert!(lists_module(list, "br_netfilter"));
        assert!(lists_module(list, "nls_utf8"));
        assert!(!lists_module(list, "bridge"));
    }

    #[test]
    fn only_what_is_built_in_counts() {
        let config = "CONFIG_VXLAN=y\nCONFIG_WIREGUARD=m\n# CONFIG_X is not set\n";
        assert!(is_set(config, "CONFIG_VXLAN"));
        assert!(!is_set(config, "CONFIG_WIREGUARD"));
        assert!(!is_set(config, "CONFIG_VX"));
    }
}
