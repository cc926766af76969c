//! The last mile of a process: the only code that gives privileges up, run by libcontainer in the new root.
//!
//! libcontainer is told nothing of users, capabilities or filters. [`LastMile::validate`] runs as root before the
//! container counts as created, so its errors are errors of create; [`LastMile::exec`] runs after start, never
//! returns, and tells through a pipe why it failed.

mod privileges;

use crate::plan::ProcessPlan;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;

/// The longest /etc/passwd that is searched for a home directory, in bytes.
const PASSWD_BYTES_MAX: u64 = 1 << 20;

/// The exit code of a shell for "found, but cannot run".
const CANNOT_RUN: i32 = 126;
/// The exit code of a shell for "not found".
const NOT_FOUND: i32 = 127;

/// libcontainer's executor of one process. Descriptors are numbers: they cross forks, and belong to the worker.
#[derive(Debug, Clone)]
pub(crate) struct LastMile {
    pub(crate) plan: Rc<ProcessPlan>,
    /// For an exec into a pod with a user namespace: libcontainer does not join it.
    pub(crate) user_namespace: Option<RawFd>,
    /// Whether the working directory may be made (by the first process only).
    pub(crate) role: Role,
    /// Close-on-exec pipe: end of file says that execve is done, text says why not.
    pub(crate) report: RawFd,
}

/// Which process of the container this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    First,
    Exec,
}

impl Executor for LastMile {
    fn exec(&self, _spec: &Spec) -> Result<(), ExecutorError> {
        let failure = self.drop_privileges_and_execute();
        privileges::report_and_exit(self.report, &failure.message, failure.code)
    }

    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        self.enter_working_directory()
            .and_then(|()| self.check_command())
            .map_err(ExecutorValidationError::ArgValidationError)
    }

    /// libcontainer's environment is a map without order and with root's HOME; ours goes to execve as it is.
    fn setup_envs(
        &self,
        _environment: HashMap<String, String>,
    ) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

/// Why a program did not run.
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) code: i32,
}

impl LastMile {
    fn enter_working_directory(&self) -> Result<(), String> {
        let directory = &self.plan.working_dir;
        if self.role == Role::First && !directory.is_dir() {
            std::fs::create_dir_all(directory)
                .map_err(|error| format!("mkdir {}: {error}", directory.display()))?;
        }
        std::env::set_current_dir(directory).map_err(|error| {
            format!(
                "chdir to cwd ({:?}) set in config.json failed: {error}",
                directory.display().to_string()
            )
        })
    }

    fn check_command(&self) -> Result<(), String> {
        let Some(command) = self.plan.args.first() else {
            return Err("no command specified".to_owned());
        };
        let candidates = self.plan.candidates();
        let runs = |path: &&std::path::PathBuf| {
            path.metadata()
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        if candidates.iter().find(runs).is_some() {
            return Ok(());
        }
        if !command.contains('/') {
            return Err(format!(
                "exec: {command:?}: executable file not found in $PATH"
            ));
        }
        match Path::new(command).metadata() {
            Err(_) => Err(format!(
                "exec: {command:?}: stat {command}: no such file or directory"
            )),
            Ok(found) if found.is_dir() => Err(format!("exec: {command:?}: is a directory")),
            Ok(_) => Err(format!("exec: {command:?}: permission denied")),
        }
    }

    /// Returns only when it failed.
    fn drop_privileges_and_execute(&self) -> Failure {
        let prepared = self.arguments().and_then(|arguments| {
            privileges::drop_privileges(&self.plan, self.user_namespace)?;
            Ok(arguments)
        });
        match prepared {
            Ok((paths, argv, envp)) => {
                let errno = privileges::execute(&self.plan, &paths, &argv, &envp);
                let command = self.plan.args.first().map_or("", String::as_str);
                let code = if errno == libc::ENOENT {
                    NOT_FOUND
                } else {
                    CANNOT_RUN
                };
                let error = std::io::Error::from_raw_os_error(errno);
                Failure {
                    message: format!("exec {command}: {}", reason(&error)),
                    code,
                }
            }
            Err(message) => Failure {
                message,
                code: CANNOT_RUN,
            },
        }
    }

    fn arguments(&self) -> Result<(Vec<CString>, Vec<CString>, Vec<CString>), String> {
        let mut env = self.plan.env.clone();
        if !env.iter().any(|entry| entry.starts_with("HOME=")) {
            env.push(format!("HOME={}", home_of(self.plan.uid)));
        }
        let c_strings = |texts: &[String]| -> Result<Vec<CString>, String> {
            let made = texts.iter().map(|text| CString::new(text.as_bytes()));
            made.collect::<Result<_, _>>()
                .map_err(|_| "NUL in an argument".to_owned())
        };
        let paths = self.plan.candidates();
        let paths = paths
            .iter()
            .map(|path| CString::new(path.as_os_str().as_bytes()));
        let paths = paths
            .collect::<Result<_, _>>()
            .map_err(|_| "NUL in PATH".to_owned())?;
        Ok((paths, c_strings(&self.plan.args)?, c_strings(&env)?))
    }
}

/// The kernel's words for an error, as runc shows them: without Rust's "(os error N)".
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let short = text
        .split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned();
    match error.raw_os_error() {
        Some(libc::ENOENT) => "no such file or directory".to_owned(),
        Some(libc::EACCES) => "permission denied".to_owned(),
        Some(libc::ENOEXEC) => "exec format error".to_owned(),
        _ => short,
    }
}

/// From the container's own /etc/passwd; the process is in its root already, so no symlink leads out.
fn home_of(uid: u32) -> String {
    let is_small = std::fs::metadata("/etc/passwd")
        .is_ok_and(|found| found.is_file() && found.len() <= PASSWD_BYTES_MAX);
    let text = if is_small {
        std::fs::read_to_string("/etc/passwd").unwrap_or_default()
    } else {
        String::new()
    };
    let home = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.len() > 5 && fields[2].parse() == Ok(uid)).then(|| fields[5].to_owned())
    });
    home.filter(|home| !home.is_empty())
        .unwrap_or_else(|| "/".to_owned())
}
