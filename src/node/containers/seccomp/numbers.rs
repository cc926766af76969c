//! Names of system calls to numbers, for each architecture that one kernel may run.

/// One line per name; a text that is read on demand costs no relocation in every shim.
const TABLE: &str = include_str!("system_calls.txt");

/// An architecture as a filter sees it: `AUDIT_ARCH_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Architecture {
    X86_64,
    I386,
    Aarch64,
    Arm,
}

impl Architecture {
    /// The value in `seccomp_data.arch`.
    pub(super) fn audit(self) -> u32 {
        match self {
            Architecture::X86_64 => 0xC000_003E,
            Architecture::I386 => 0x4000_0003,
            Architecture::Aarch64 => 0xC000_00B7,
            Architecture::Arm => 0x4000_0028,
        }
    }

    /// This build's architecture and the 32-bit one that the kernel runs beside it.
    pub(super) fn native() -> &'static [Architecture] {
        if cfg!(target_arch = "x86_64") {
            &[Architecture::X86_64, Architecture::I386]
        } else if cfg!(target_arch = "aarch64") {
            &[Architecture::Aarch64, Architecture::Arm]
        } else {
            &[Architecture::Arm]
        }
    }

    /// The name in a profile, for example `SCMP_ARCH_X86_64`.
    pub(super) fn from_profile_name(name: &str) -> Option<Architecture> {
        match name {
            "SCMP_ARCH_X86_64" => Some(Architecture::X86_64),
            "SCMP_ARCH_X86" => Some(Architecture::I386),
            "SCMP_ARCH_AARCH64" => Some(Architecture::Aarch64),
            "SCMP_ARCH_ARM" => Some(Architecture::Arm),
            _ => None,
        }
    }

    /// Go's name, as moby's `includes.arches` has it.
    pub(super) fn go_name(self) -> &'static str {
        match self {
            Architecture::X86_64 => "amd64",
            Architecture::I386 => "x86",
            Architecture::Aarch64 => "arm64",
            Architecture::Arm => "arm",
        }
    }

    fn column(self) -> usize {
        match self {
            Architecture::X86_64 => 1,
            Architecture::I386 => 2,
            Architecture::Aarch64 => 3,
            Architecture::Arm => 4,
        }
    }
}

/// All names with their numbers on one architecture.
pub(super) fn numbers(architecture: Architecture) -> std::collections::BTreeMap<&'static str, u32> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let name = fields.next()?;
            let number = fields.nth(architecture.column() - 1)?.parse().ok()?;
            Some((name, number))
        })
        .collect()
}
