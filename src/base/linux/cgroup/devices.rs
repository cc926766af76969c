//! Which devices a group may use: lines of a file on v1, a program on v2.

use crate::error::{Doing, Result};
use std::fmt;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// A rule. `None` as number means any.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the three kinds of access are independent"
)]
pub struct DeviceRule {
    pub allow: bool,
    pub kind: DeviceKind,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub read: bool,
    pub write: bool,
    pub make_node: bool,
}

/// Character or block devices, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    All,
    Character,
    Block,
}

/// The form of devices.allow and devices.deny: `c 1:3 rwm`.
impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::All => 'a',
            DeviceKind::Character => 'c',
            DeviceKind::Block => 'b',
        };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |n| n.to_string());
        write!(f, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        for (wanted, letter) in [(self.read, 'r'), (self.write, 'w'), (self.make_node, 'm')] {
            if wanted {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// An instruction of eBPF: `struct bpf_insn`.
type Instruction = u64;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_DEVCG_DEV_BLOCK: u32 = 1;
const BPF_DEVCG_DEV_CHAR: u32 = 2;
const BPF_DEVCG_ACC_MKNOD: u32 = 1;
const BPF_DEVCG_ACC_READ: u32 = 2;
const BPF_DEVCG_ACC_WRITE: u32 = 4;

/// The members of `union bpf_attr` that `BPF_PROG_ATTACH` reads.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Loads the rules as a program and attaches it to a v2 directory, beside programs that are there.
pub(super) fn attach_program(directory: &Path, rules: &[DeviceRule]) -> Result<()> {
    let described = || format!("restrict devices of {}", directory.display());
    let program = load(&program(rules)).doing(described)?;
    let directory_fd = std::fs::File::open(directory).doing(described)?;
    let attach = Attach {
        target: directory_fd.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &attach).doing(described)?;
    Ok(())
}

fn load(program: &[Instruction]) -> std::io::Result<OwnedFd> {
    /// The members of `union bpf_attr` that `BPF_PROG_LOAD` reads.
    #[repr(C)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
    }
    let load = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).expect("few rules"),
        insns: program.as_ptr().addr() as u64,
        license: c"Apache".as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    let fd = bpf(BPF_PROG_LOAD, &load)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> std::io::Result<i32> {
    // SAFETY: the structure is what the command reads, its size is given, and what it points to outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    i32::try_from(result)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(std::io::Error::last_os_error)
}

/// The last rule that matches decides, so the program tests the last one first; no match means refused.
///
/// Registers: r2 type of device, r3 kind of access, r4 major, r5 minor, r0 the answer.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut out = vec![
        load_word(2, 0),
        and_immediate(2, 0xffff),
        load_word(3, 0),
        shift_right(3, 16),
        load_word(4, 4),
        load_word(5, 8),
    ];
    for rule in rules.iter().rev() {
        let block = rule_block(rule);
        let is_unconditional = !block.iter().any(|instruction| is_jump(*instruction));
        out.extend(block);
        // The kernel refuses a program with instructions that are never reached.
        if is_unconditional {
            return out;
        }
    }
    out.extend([move_immediate(0, 0), exit()]);
    out
}

fn rule_block(rule: &DeviceRule) -> Vec<Instruction> {
    let mut tests: Vec<Vec<Instruction>> = Vec::new();
    let kind = match rule.kind {
        DeviceKind::All => None,
        DeviceKind::Character => Some(BPF_DEVCG_DEV_CHAR),
        DeviceKind::Block => Some(BPF_DEVCG_DEV_BLOCK),
    };
    tests.extend(kind.map(|kind| vec![jump_if_other(2, kind)]));
    let access = [
        (rule.make_node, BPF_DEVCG_ACC_MKNOD),
        (rule.read, BPF_DEVCG_ACC_READ),
        (rule.write, BPF_DEVCG_ACC_WRITE),
    ];
    let mask = access
        .iter()
        .filter(|(wanted, _)| *wanted)
        .fold(0, |mask, (_, bit)| mask | bit);
    if mask != 7 {
        // An allowing rule must cover every access that is asked for; a denying one is met by any.
        tests.push(if rule.allow {
            vec![
                move_register(1, 3),
                and_immediate(1, !mask & 7),
                jump_if_other(1, 0),
            ]
        } else {
            vec![
                move_register(1, 3),
                and_immediate(1, mask),
                jump_if_equal(1, 0),
            ]
        });
    }
    tests.extend(rule.major.map(|major| vec![jump_if_other(4, major)]));
    tests.extend(rule.minor.map(|minor| vec![jump_if_other(5, minor)]));
    let mut block: Vec<Instruction> = tests.concat();
    block.extend([move_immediate(0, u32::from(rule.allow)), exit()]);
    let length = block.len();
    for (at, instruction) in block.iter_mut().enumerate() {
        if is_jump(*instruction) {
            let behind = u64::try_from(length - at - 1).expect("a block is short");
            *instruction |= behind << 16;
        }
    }
    block
}

const fn encode(
    code: u64,
    destination: u64,
    source: u64,
    offset: u64,
    immediate: u32,
) -> Instruction {
    code | destination << 8 | source << 12 | offset << 16 | (immediate as u64) << 32
}

/// `BPF_LDX` | `BPF_MEM` | `BPF_W` of the context in r1. Must come before r1 is used for something else.
fn load_word(destination: u64, offset: u64) -> Instruction {
    encode(0x61, destination, 1, offset, 0)
}

fn and_immediate(destination: u64, immediate: u32) -> Instruction {
    encode(0x54, destination, 0, 0, immediate)
}

fn shift_right(destination: u64, by: u32) -> Instruction {
    encode(0x74, destination, 0, 0, by)
}

fn move_immediate(destination: u64, immediate: u32) -> Instruction {
    encode(0xb4, destination, 0, 0, immediate)
}

fn move_register(destination: u64, source: u64) -> Instruction {
    encode(0xbc, destination, source, 0, 0)
}

/// `BPF_JNE` with an offset that is filled in later.
fn jump_if_other(register: u64, immediate: u32) -> Instruction {
    encode(0x55, register, 0, 0, immediate)
}

/// `BPF_JEQ` with an offset that is filled in later.
fn jump_if_equal(register: u64, immediate: u32) -> Instruction {
    encode(0x15, register, 0, 0, immediate)
}

fn is_jump(instruction: Instruction) -> bool {
    matches!(instruction & 0xff, 0x55 | 0x15)
}

fn exit() -> Instruction {
    encode(0x95, 0, 0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, text: &str, major: Option<u32>) -> DeviceRule {
        DeviceRule {
            allow,
            kind: DeviceKind::Character,
            major,
            minor: None,
            read: text.contains('r'),
            write: text.contains('w'),
            make_node: text.contains('m'),
        }
    }

    #[test]
    fn a_rule_prints_as_the_kernel_reads_it() {
        assert_eq!(rule(true, "rwm", Some(136)).to_string(), "c 136:* rwm");
        assert_eq!(rule(true, "m", None).to_string(), "c *:* m");
    }

    /// Runs a program as the kernel would, for the few instructions it uses.
    fn run(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> u64 {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0;
        loop {
            let instruction = program[at];
            let (to, from) = (
                (instruction >> 8 & 15) as usize,
                (instruction >> 12 & 15) as usize,
            );
            let (offset, immediate) = ((instruction >> 16 & 0xffff) as usize, instruction >> 32);
            at += 1;
            match instruction & 0xff {
                0x61 => registers[to] = u64::from(context[offset / 4]),
                0x54 => registers[to] &= immediate,
                0x74 => registers[to] >>= immediate,
                0xb4 => registers[to] = immediate,
                0xbc => registers[to] = registers[from],
                0x55 if registers[to] != immediate => at += offset,
                0x15 if registers[to] == immediate => at += offset,
                0x55 | 0x15 => {}
                0x95 => return registers[0],
                other => panic!("instruction {other:x}"),
            }
        }
    }

    #[test]
    fn nothing_follows_a_rule_that_matches_everything() {
        let all = DeviceRule {
            kind: DeviceKind::All,
            ..rule(true, "rwm", None)
        };
        let program = program(&[rule(false, "r", Some(1)), all]);
        assert_eq!(
            program
                .iter()
                .filter(|instruction| **instruction == exit())
                .count(),
            1
        );
        assert_eq!(
            run(&program, BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_ACC_READ, 1, 3),
            1
        );
    }

    #[test]
    fn the_last_matching_rule_decides_and_what_no_rule_allows_is_refused() {
        let rules = [
            rule(true, "m", None),
            rule(true, "rw", Some(1)),
            rule(false, "w", Some(5)),
        ];
        let program = program(&rules);
        let ask = |access, major| run(&program, BPF_DEVCG_DEV_CHAR, access, major, 3);
        assert_eq!(ask(BPF_DEVCG_ACC_MKNOD, 9), 1);
        assert_eq!(ask(BPF_DEVCG_ACC_READ, 9), 0);
        assert_eq!(ask(BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE, 1), 1);
        assert_eq!(
            ask(BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_MKNOD, 1),
            0,
            "one rule must cover all"
        );
        assert_eq!(ask(BPF_DEVCG_ACC_WRITE, 5), 0);
        assert_eq!(
            run(&program, BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_ACC_MKNOD, 9, 3),
            0
        );
    }
}
