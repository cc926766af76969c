//! A profile as written: what to do with which system call, for which capabilities and architectures.

use super::numbers::Architecture;
use crate::capabilities::CapabilitySet;
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};
use serde::Deserialize;
use std::collections::BTreeMap;

const DEFAULT: &str = include_str!("moby_default.json");

/// The largest errno that a filter can return.
const ERRNO_MAX: u32 = 4095;

/// Why a profile cannot become a filter. The container is not created then.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ProfileError {
    #[error("cannot parse the seccomp profile: {0}")]
    Parse(String),
    #[error("seccomp action {0} is not supported")]
    Action(String),
    #[error("seccomp flag {0} is not supported")]
    Flag(String),
    #[error("seccomp argument index {0} is above 5")]
    ArgumentIndex(usize),
    #[error("seccomp errno {0} is out of range")]
    Errno(u32),
    #[error("the seccomp profile makes a filter of {0} instructions; the kernel takes 4096")]
    TooLong(usize),
}

/// A profile with every condition on capabilities decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(super) default: Action,
    /// Rules by architecture: for each name its rules in the profile's order.
    pub(super) rules: BTreeMap<Architecture, BTreeMap<String, Vec<Rule>>>,
    pub(super) flags: u32,
}

/// What happens to a call: a value of `SECCOMP_RET_*` with its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Action(pub(super) u32);

/// Applies when every condition holds; without conditions always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
}

/// A test of one 64-bit argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u32,
    pub(super) test: Test,
    pub(super) value: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `argument & mask == value`.
    MaskedEqual(u64),
}

/// The part of moby's form that OCI's lacks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MobyProfile {
    syscalls: Vec<MobyConditions>,
}

#[derive(Debug, Default, Deserialize)]
struct MobyConditions {
    #[serde(default)]
    includes: MobyCondition,
    #[serde(default)]
    excludes: MobyCondition,
}

/// `minKernel` is not read: the oldest kernel that can run us is newer than any that moby names.
#[derive(Debug, Default, Deserialize)]
struct MobyCondition {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

impl Profile {
    /// The default profile for a container with these capabilities.
    pub(crate) fn runtime_default(capabilities: CapabilitySet) -> Profile {
        let oci: LinuxSeccomp = serde_json::from_str(DEFAULT).expect("a test parses it");
        let moby: MobyProfile = serde_json::from_str(DEFAULT).expect("a test parses it");
        let applies = |index: usize, architecture: Architecture| {
            moby.syscalls
                .get(index)
                .is_some_and(|conditions| conditions.hold(capabilities, architecture))
        };
        Profile::from_oci(&oci, Architecture::native(), applies).expect("a test compiles it")
    }

    /// A profile of the node's administrator, in OCI's form.
    pub(crate) fn parse(json: &[u8]) -> Result<Profile, ProfileError> {
        let oci: LinuxSeccomp =
            serde_json::from_slice(json).map_err(|error| ProfileError::Parse(error.to_string()))?;
        let native = Architecture::native();
        let listed: Vec<Architecture> = match oci.architectures() {
            Some(names) if !names.is_empty() => {
                let named: Vec<Architecture> = names
                    .iter()
                    .filter_map(|name| Architecture::from_profile_name(&profile_name(*name)))
                    .collect();
                // As with libseccomp, the native architecture is always there.
                native
                    .iter()
                    .enumerate()
                    .filter(|(at, one)| *at == 0 || named.contains(one))
                    .map(|(_, one)| *one)
                    .collect()
            }
            _ => native[..1].to_vec(),
        };
        Profile::from_oci(&oci, &listed, |_, _| true)
    }

    fn from_oci(
        oci: &LinuxSeccomp,
        architectures: &[Architecture],
        applies: impl Fn(usize, Architecture) -> bool,
    ) -> Result<Profile, ProfileError> {
        let mut rules: BTreeMap<Architecture, BTreeMap<String, Vec<Rule>>> = BTreeMap::new();
        for architecture in architectures {
            let by_name = rules.entry(*architecture).or_default();
            for (index, call) in oci.syscalls().iter().flatten().enumerate() {
                if !applies(index, *architecture) {
                    continue;
                }
                let action = action(call.action(), call.errno_ret())?;
                let conditions = call.args().iter().flatten().map(condition);
                let conditions = conditions.collect::<Result<Vec<Condition>, ProfileError>>()?;
                for name in call.names() {
                    let rule = Rule {
                        conditions: conditions.clone(),
                        action,
                    };
                    by_name.entry(name.clone()).or_default().push(rule);
                }
            }
        }
        let mut flags = 0;
        for flag in oci.flags().iter().flatten() {
            flags |= flag_bits(*flag)?;
        }
        Ok(Profile {
            default: action(oci.default_action(), oci.default_errno_ret())?,
            rules,
            flags,
        })
    }
}

impl MobyConditions {
    fn hold(&self, capabilities: CapabilitySet, architecture: Architecture) -> bool {
        let has = |name: &String| {
            CapabilitySet::named(name).is_some_and(|one| capabilities.contains(one))
        };
        let is = |name: &String| name == architecture.go_name();
        // Rules for arm are meant for a 64-bit kernel's 32-bit programs too, and those of amd64 for i386 only when named.
        let included = self.includes.caps.iter().all(has)
            && (self.includes.arches.is_empty() || self.includes.arches.iter().any(is));
        let excluded = self.excludes.caps.iter().any(has) || self.excludes.arches.iter().any(is);
        included && !excluded
    }
}

fn profile_name(architecture: oci_spec::runtime::Arch) -> String {
    match serde_json::to_value(architecture) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<Action, ProfileError> {
    const KILL_PROCESS: u32 = 0x8000_0000;
    const KILL_THREAD: u32 = 0x0000_0000;
    const TRAP: u32 = 0x0003_0000;
    const ERRNO: u32 = 0x0005_0000;
    const TRACE: u32 = 0x7ff0_0000;
    const LOG: u32 = 0x7ffc_0000;
    const ALLOW: u32 = 0x7fff_0000;
    let data = errno.unwrap_or(libc::EPERM.cast_unsigned());
    if data > ERRNO_MAX {
        return Err(ProfileError::Errno(data));
    }
    Ok(Action(match action {
        LinuxSeccompAction::ScmpActAllow => ALLOW,
        LinuxSeccompAction::ScmpActErrno => ERRNO | data,
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => KILL_THREAD,
        LinuxSeccompAction::ScmpActKillProcess => KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => TRAP,
        LinuxSeccompAction::ScmpActLog => LOG,
        LinuxSeccompAction::ScmpActTrace => TRACE | data,
        // Needs an agent that listens; none is configured here.
        LinuxSeccompAction::ScmpActNotify => return Err(ProfileError::Action(action.to_string())),
    }))
}

fn condition(argument: &LinuxSeccompArg) -> Result<Condition, ProfileError> {
    let index = argument.index();
    let test = match argument.op() {
        LinuxSeccompOperator::ScmpCmpEq => Test::Equal,
        LinuxSeccompOperator::ScmpCmpNe => Test::NotEqual,
        LinuxSeccompOperator::ScmpCmpLt => Test::Less,
        LinuxSeccompOperator::ScmpCmpLe => Test::LessOrEqual,
        LinuxSeccompOperator::ScmpCmpGt => Test::Greater,
        LinuxSeccompOperator::ScmpCmpGe => Test::GreaterOrEqual,
        LinuxSeccompOperator::ScmpCmpMaskedEq => Test::MaskedEqual(argument.value()),
    };
    // For the masked test the first value is the mask, the second what must be left.
    let value = match test {
        Test::MaskedEqual(_) => argument.value_two().unwrap_or(0),
        _ => argument.value(),
    };
    let argument = u32::try_from(index).ok().filter(|index| *index < 6);
    Ok(Condition {
        argument: argument.ok_or(ProfileError::ArgumentIndex(index))?,
        test,
        value,
    })
}

fn flag_bits(flag: LinuxSeccompFilterFlag) -> Result<u32, ProfileError> {
    match serde_json::to_value(flag) {
        Ok(serde_json::Value::String(name)) => match name.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => Ok(1),
            "SECCOMP_FILTER_FLAG_LOG" => Ok(2),
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(4),
            _ => Err(ProfileError::Flag(name)),
        },
        _ => Err(ProfileError::Flag(format!("{flag:?}"))),
    }
}
