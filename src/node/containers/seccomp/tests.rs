//! The compiled filter decides as the profile says; it is run here by a small interpreter of classic BPF.

use super::numbers::{Architecture, numbers};
use super::profile::ProfileError;
use super::{Filter, Profile, compile};
use crate::capabilities::{CapabilitySet, DEFAULT_CAPABILITIES};

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL: u32 = 0x8000_0000;

fn run(filter: &Filter, architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = [0u8; 64];
    data[0..4].copy_from_slice(&number.to_le_bytes());
    data[4..8].copy_from_slice(&architecture.to_le_bytes());
    for (at, argument) in arguments.iter().enumerate() {
        data[16 + at * 8..24 + at * 8].copy_from_slice(&argument.to_le_bytes());
    }
    let (mut accumulator, mut at) = (0u32, 0usize);
    loop {
        let instruction = filter.program[at];
        let (yes, no) = (
            (instruction >> 40 & 0xff) as usize,
            (instruction >> 32 & 0xff) as usize,
        );
        let value = (instruction & 0xffff_ffff) as u32;
        at += 1;
        let holds = match instruction >> 48 {
            0x20 => {
                let at = value as usize;
                accumulator = u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
                continue;
            }
            0x54 => {
                accumulator &= value;
                continue;
            }
            0x05 => {
                at += value as usize;
                continue;
            }
            0x06 => return value,
            0x15 => accumulator == value,
            0x25 => accumulator > value,
            0x35 => accumulator >= value,
            other => panic!("instruction {other:x}"),
        };
        at += if holds { yes } else { no };
    }
}

fn ask(filter: &Filter, architecture: Architecture, name: &str, first: u64) -> u32 {
    let number = numbers(architecture)[name];
    run(filter, architecture.audit(), number, [first, 0, 0, 0, 0, 0])
}

#[test]
fn the_default_profile_allows_ordinary_calls_and_refuses_dangerous_ones_on_both_architectures() {
    let filter = compile(&Profile::runtime_default(DEFAULT_CAPABILITIES)).unwrap();
    for architecture in Architecture::native() {
        for name in [
            "read",
            "openat",
            "execve",
            "futex",
            "ptrace",
            "io_uring_setup",
        ] {
            let wanted = if name == "io_uring_setup" {
                EPERM
            } else {
                ALLOW
            };
            assert_eq!(
                ask(&filter, *architecture, name, 0),
                wanted,
                "{name} on {architecture:?}"
            );
        }
        for name in [
            "mount",
            "keyctl",
            "bpf",
            "unshare",
            "reboot",
            "perf_event_open",
            "setns",
        ] {
            assert_eq!(
                ask(&filter, *architecture, name, 0),
                EPERM,
                "{name} on {architecture:?}"
            );
        }
        assert_eq!(ask(&filter, *architecture, "clone3", 0), ENOSYS);
        assert_eq!(ask(&filter, *architecture, "clone", 0x11), ALLOW);
        assert_eq!(
            ask(&filter, *architecture, "clone", 0x1000_0000),
            EPERM,
            "CLONE_NEWUSER"
        );
        assert_eq!(ask(&filter, *architecture, "socket", 40), EPERM, "AF_VSOCK");
        assert_eq!(ask(&filter, *architecture, "socket", 2), ALLOW);
        assert_eq!(ask(&filter, *architecture, "personality", 8), ALLOW);
        assert_eq!(ask(&filter, *architecture, "personality", 9), EPERM);
    }
    assert!(
        filter.program.len() < 1500,
        "{} instructions",
        filter.program.len()
    );
}

#[test]
fn numbers_that_no_table_has_and_the_x32_interface_are_refused_and_a_foreign_architecture_is_killed()
 {
    let filter = compile(&Profile::runtime_default(DEFAULT_CAPABILITIES)).unwrap();
    let native = Architecture::native()[0];
    assert_eq!(run(&filter, native.audit(), 5000, [0; 6]), EPERM);
    if native == Architecture::X86_64 {
        assert_eq!(run(&filter, native.audit(), 0x4000_0000, [0; 6]), EPERM);
    }
    assert_eq!(run(&filter, 0x1234, 0, [0; 6]), KILL);
}

#[test]
fn a_capability_brings_the_calls_that_need_it() {
    let with_admin = DEFAULT_CAPABILITIES.with(CapabilitySet::named("SYS_ADMIN").unwrap());
    let filter = compile(&Profile::runtime_default(with_admin)).unwrap();
    let native = Architecture::native()[0];
    for name in ["mount", "unshare", "clone3", "bpf"] {
        assert_eq!(ask(&filter, native, name, 0), ALLOW, "{name}");
    }
    assert_eq!(ask(&filter, native, "reboot", 0), EPERM);
    let all = compile(&Profile::runtime_default(CapabilitySet::ALL)).unwrap();
    assert_eq!(ask(&all, native, "reboot", 0), ALLOW);
}

#[test]
fn a_profile_of_the_administrator_with_every_operator_is_followed() {
    let profile = br#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_AARCH64"],
        "syscalls":[
        {"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":5,"args":[{"index":0,"value":4294967296,"op":"SCMP_CMP_GE"}]},
        {"names":["write"],"action":"SCMP_ACT_KILL_PROCESS","args":[{"index":0,"value":7,"op":"SCMP_CMP_LT"}]},
        {"names":["close"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":7,"op":"SCMP_CMP_NE"}]},
        {"names":["dup"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":240,"valueTwo":16,"op":"SCMP_CMP_MASKED_EQ"}]},
        {"names":["lseek"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":8589934592,"op":"SCMP_CMP_GT"}]},
        {"names":["fsync"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":5,"op":"SCMP_CMP_LE"}]}]}"#;
    let filter = compile(&Profile::parse(profile).unwrap()).unwrap();
    let native = Architecture::native()[0];
    let cases: &[(&str, u64, u32)] = &[
        ("read", 4_294_967_296, 0x0005_0005),
        ("read", 4_294_967_295, ALLOW),
        ("read", 8_589_934_592, 0x0005_0005),
        ("write", 6, KILL),
        ("write", 7, ALLOW),
        ("write", 4_294_967_296, ALLOW),
        ("close", 7, ALLOW),
        ("close", 4_294_967_303, EPERM),
        ("dup", 0x1f, EPERM),
        ("dup", 0x2f, ALLOW),
        ("lseek", 8_589_934_592, ALLOW),
        ("lseek", 8_589_934_593, EPERM),
        ("fsync", 5, EPERM),
        ("fsync", 6, ALLOW),
        ("fsync", 4_294_967_296, ALLOW),
    ];
    for (name, argument, wanted) in cases {
        assert_eq!(
            ask(&filter, native, name, *argument),
            *wanted,
            "{name}({argument})"
        );
    }
    // i386 is not listed: its calls are unknown.
    assert_eq!(run(&filter, Architecture::I386.audit(), 3, [0; 6]), KILL);
}

#[test]
fn what_cannot_be_applied_is_an_error() {
    assert!(matches!(Profile::parse(b"{"), Err(ProfileError::Parse(_))));
    let notify = br#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#;
    assert!(matches!(
        Profile::parse(notify),
        Err(ProfileError::Action(_))
    ));
    let index = br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO",
        "args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#;
    assert_eq!(Profile::parse(index), Err(ProfileError::ArgumentIndex(6)));
}
