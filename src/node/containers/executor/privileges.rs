//! Raw system calls in the one order that works; see [`drop_privileges`].
#![allow(unsafe_code)]

use crate::capabilities::{CapabilitySet, ProcessCapabilities};
use crate::plan::ProcessPlan;
use crate::seccomp::Filter;
use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::RawFd;

/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// Bits that the kernel's interface has room for.
const CAPABILITY_BITS: u32 = 64;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Becomes what the plan says, all but the execve.
///
/// The order: join the user namespace; groups; give stdio to the user; bounding set; gid; keep capabilities over
/// the change of uid; uid; all capabilities again; without `no_new_privileges` the filter now, as loading it
/// needs `CAP_SYS_ADMIN`; final capabilities; ambient ones; with `no_new_privileges` the filter in [`execute`].
pub(super) fn drop_privileges(
    plan: &ProcessPlan,
    user_namespace: Option<RawFd>,
) -> Result<(), String> {
    if let Some(namespace) = user_namespace {
        // SAFETY: only enters a namespace; a wrong descriptor is an error.
        check(
            "join the user namespace",
            unsafe { libc::setns(namespace, libc::CLONE_NEWUSER) }.into(),
        )?;
    }
    let all = permitted()?;
    // Raw calls: the C library's wrappers signal every thread, and there is only this one.
    // SAFETY: the pointer and the length are those of one slice.
    let result =
        unsafe { libc::syscall(libc::SYS_setgroups, plan.groups.len(), plan.groups.as_ptr()) };
    check("set groups", result)?;
    give_stdio_to(plan.uid);
    if let Some(capabilities) = plan.capabilities {
        drop_bounding(capabilities.granted)?;
    }
    let (uid, gid) = (plan.uid, plan.gid);
    // SAFETY: numbers only.
    check("set the group", unsafe {
        libc::syscall(libc::SYS_setresgid, gid, gid, gid)
    })?;
    prctl("keep capabilities", libc::PR_SET_KEEPCAPS, 1, 0)?;
    // SAFETY: numbers only.
    check("set the user", unsafe {
        libc::syscall(libc::SYS_setresuid, uid, uid, uid)
    })?;
    set_capabilities(all, CapabilitySet::NONE)?;
    if plan.no_new_privileges {
        prctl("set no_new_privs", libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    } else if let Some(filter) = &plan.filter {
        load_filter(filter)?;
    }
    let keep = plan.capabilities.unwrap_or(ProcessCapabilities {
        granted: all,
        ambient: CapabilitySet::NONE,
    });
    // Another user than root keeps only ambient capabilities through execve. The others go now: else the
    // execve itself would look at the file with CAP_DAC_OVERRIDE. File capabilities need the bounding set only.
    let wanted = if uid == 0 { keep.granted } else { keep.ambient };
    let wanted = CapabilitySet(wanted.0 & all.0);
    let inheritable = CapabilitySet(keep.ambient.0 & all.0);
    set_capabilities(wanted, inheritable)?;
    raise_ambient(inheritable)
}

/// Tries the paths in order; returns the errno that matters when none could be run.
pub(super) fn execute(
    plan: &ProcessPlan,
    paths: &[CString],
    argv: &[CString],
    envp: &[CString],
) -> i32 {
    let pointers = |texts: &[CString]| -> Vec<*const c_char> {
        texts
            .iter()
            .map(|text| text.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (argv, envp) = (pointers(argv), pointers(envp));
    // As late as can be: from here on only execve, write and exit are called.
    if let Some(filter) = plan.filter.as_ref().filter(|_| plan.no_new_privileges)
        && load_filter(filter).is_err()
    {
        return libc::EPERM;
    }
    let mut result = libc::ENOENT;
    for path in paths {
        match execve(path, &argv, &envp) {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => result = libc::EACCES,
            errno => return errno,
        }
    }
    result
}

/// Writes the reason and ends. Must not return: libcontainer would run destructors with half-dropped privileges.
pub(super) fn report_and_exit(report: RawFd, message: &str, code: i32) -> ! {
    // SAFETY: the pointer and the length are those of one text; nobody is left to hear of a failed write.
    unsafe { libc::write(report, message.as_ptr().cast(), message.len()) };
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(code) }
}

fn execve(path: &CStr, argv: &[*const c_char], envp: &[*const c_char]) -> i32 {
    // SAFETY: both arrays end with a null pointer, and the texts they point to are alive in the caller.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}

/// So that the user can open /dev/stdout, /dev/stderr and its terminal again. Best effort: a stream may be a file
/// of somebody else's. /dev/null stays root's.
fn give_stdio_to(uid: u32) {
    for fd in 0..3 {
        // SAFETY: all zero bytes are a valid stat.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the structure is ours to be filled.
        let known = unsafe { libc::fstat(fd, &raw mut stat) } == 0;
        let is_null =
            stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == libc::makedev(1, 3);
        if known && !is_null {
            // SAFETY: numbers only.
            unsafe { libc::fchown(fd, uid, u32::MAX) };
        }
    }
}

fn drop_bounding(keep: CapabilitySet) -> Result<(), String> {
    for number in 0..CAPABILITY_BITS {
        // SAFETY: numbers only; fails for the first number that the kernel does not know.
        let known =
            unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(number), 0, 0, 0) };
        if known < 0 {
            break;
        }
        if keep.0 & (1 << number) == 0 {
            prctl(
                "drop a bounding capability",
                libc::PR_CAPBSET_DROP,
                number.into(),
                0,
            )?;
        }
    }
    Ok(())
}

fn raise_ambient(ambient: CapabilitySet) -> Result<(), String> {
    prctl(
        "clear ambient capabilities",
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL.cast_unsigned().into(),
        0,
    )?;
    let raise = libc::PR_CAP_AMBIENT_RAISE.cast_unsigned().into();
    for number in (0..CAPABILITY_BITS).filter(|number| ambient.0 & (1 << number) != 0) {
        prctl(
            "raise an ambient capability",
            libc::PR_CAP_AMBIENT,
            raise,
            number.into(),
        )?;
    }
    Ok(())
}

/// What the process has, which on a restricted host is less than what exists.
fn permitted() -> Result<CapabilitySet, String> {
    let header = CapabilityHeader {
        version: CAPABILITY_VERSION,
        pid: 0,
    };
    let mut data = [CapabilityData::default(); 2];
    // SAFETY: version 3 fills two structures.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) };
    check("read capabilities", result)?;
    Ok(CapabilitySet(
        u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32,
    ))
}

fn set_capabilities(wanted: CapabilitySet, inheritable: CapabilitySet) -> Result<(), String> {
    let header = CapabilityHeader {
        version: CAPABILITY_VERSION,
        pid: 0,
    };
    let half = |set: CapabilitySet, shift: u32| {
        u32::try_from(set.0 >> shift & 0xffff_ffff).expect("masked to 32 bits")
    };
    let data = [0, 32].map(|shift| CapabilityData {
        effective: half(wanted, shift),
        permitted: half(wanted, shift),
        inheritable: half(inheritable, shift),
    });
    // SAFETY: version 3 reads two structures.
    check("set capabilities", unsafe {
        libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr())
    })
}

fn load_filter(filter: &Filter) -> Result<(), String> {
    let low = |packed: u64, shift: u32, mask: u64| packed >> shift & mask;
    let program: Vec<libc::sock_filter> = filter
        .program
        .iter()
        .map(|packed| libc::sock_filter {
            code: u16::try_from(low(*packed, 48, 0xffff)).expect("masked"),
            jt: u8::try_from(low(*packed, 40, 0xff)).expect("masked"),
            jf: u8::try_from(low(*packed, 32, 0xff)).expect("masked"),
            k: u32::try_from(low(*packed, 0, 0xffff_ffff)).expect("masked"),
        })
        .collect();
    let described = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| "the filter is too long".to_owned())?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `len` instructions from a live vector and writes none.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            filter.flags,
            &raw const described,
        )
    };
    check("load the seccomp filter", result)
}

fn prctl(
    what: &str,
    option: i32,
    first: libc::c_ulong,
    second: libc::c_ulong,
) -> Result<(), String> {
    // SAFETY: the options used here take numbers only.
    check(
        what,
        unsafe { libc::prctl(option, first, second, 0, 0) }.into(),
    )
}

fn check(what: &str, result: libc::c_long) -> Result<(), String> {
    if result < 0 {
        Err(format!("{what}: {}", io::Error::last_os_error()))
    } else {
        Ok(())
    }
}
