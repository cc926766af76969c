//! Capabilities as sets of bits, and which a container gets.

use cri::{Capabilities, Privilege};

/// A set of capabilities: bit N is capability N of capability.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct CapabilitySet(pub(crate) u64);

/// What a container has when its pod says nothing: the fourteen that docker chose.
pub(crate) const DEFAULT_CAPABILITIES: CapabilitySet = CapabilitySet(0xa804_25fb);

/// In the order of their numbers.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl CapabilitySet {
    pub(crate) const ALL: CapabilitySet = CapabilitySet((1 << NAMES.len()) - 1);
    pub(crate) const NONE: CapabilitySet = CapabilitySet(0);

    /// One capability by name, with or without `CAP_`, in any case; `ALL` is every one.
    pub(crate) fn named(name: &str) -> Option<CapabilitySet> {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if short == "ALL" {
            return Some(CapabilitySet::ALL);
        }
        let number = NAMES.iter().position(|known| *known == short)?;
        Some(CapabilitySet(1 << number))
    }

    pub(crate) fn with(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 | other.0)
    }

    pub(crate) fn without(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 & !other.0)
    }

    pub(crate) fn contains(self, other: CapabilitySet) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The sets of a process after its execve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ProcessCapabilities {
    /// Bounding, and for root permitted and effective.
    pub(crate) granted: CapabilitySet,
    /// Kept through execve by any user.
    pub(crate) ambient: CapabilitySet,
}

/// What a container gets; `None`: it is privileged and keeps all. A name nobody knows is returned as the error.
pub(crate) fn resolve(privilege: &Privilege) -> Result<Option<ProcessCapabilities>, String> {
    let Privilege::Confined(changes) = privilege else {
        return Ok(None);
    };
    let Capabilities {
        add,
        drop,
        add_ambient,
    } = changes;
    let is_all = |names: &[String]| {
        names
            .iter()
            .any(|name| CapabilitySet::named(name) == Some(CapabilitySet::ALL))
    };
    let mut granted = DEFAULT_CAPABILITIES;
    // "ALL" sets the ground, and single names change it: drop ALL with add CHOWN leaves CHOWN.
    if is_all(add) {
        granted = CapabilitySet::ALL;
    }
    if is_all(drop) {
        granted = CapabilitySet::NONE;
    }
    for capability in singles(add)? {
        granted = granted.with(capability);
    }
    for capability in singles(drop)? {
        granted = granted.without(capability);
    }
    let mut ambient = CapabilitySet::NONE;
    for capability in singles(add_ambient)? {
        ambient = ambient.with(capability);
    }
    Ok(Some(ProcessCapabilities {
        granted: granted.with(ambient),
        ambient,
    }))
}

fn singles(names: &[String]) -> Result<Vec<CapabilitySet>, String> {
    let mut out = Vec::new();
    for name in names {
        match CapabilitySet::named(name) {
            Some(CapabilitySet::ALL) => {}
            Some(one) => out.push(one),
            None => return Err(name.clone()),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(add: &[&str], drop: &[&str]) -> u64 {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let changes = Capabilities {
            add: names(add),
            drop: names(drop),
            add_ambient: Vec::new(),
        };
        resolve(&Privilege::Confined(changes))
            .unwrap()
            .unwrap()
            .granted
            .0
    }

    #[test]
    fn single_names_change_what_all_and_the_default_set_give() {
        assert_eq!(resolved(&[], &[]), 0xa804_25fb);
        assert_eq!(resolved(&[], &["ALL"]), 0);
        assert_eq!(resolved(&["CAP_CHOWN"], &["all"]), 1);
        assert_eq!(resolved(&["ALL"], &["chown"]), CapabilitySet::ALL.0 & !1);
        assert_eq!(resolved(&["NET_ADMIN"], &[]), 0xa804_25fb | 1 << 12);
        let unknown = Capabilities {
            add: vec!["NOPE".to_owned()],
            ..Default::default()
        };
        assert_eq!(
            resolve(&Privilege::Confined(unknown)),
            Err("NOPE".to_owned())
        );
    }
}
