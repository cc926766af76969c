//! The plan of a container's first process, and its stop signal.

use super::ResolvedUser;
use crate::capabilities::ProcessCapabilities;
use crate::plan::{DEFAULT_PATH, ProcessPlan};
use crate::seccomp::Filter;
use cri::{ContainerConfig, ImageConfig};
use std::path::PathBuf;

/// Joins the pod's and the image's words on the command, its environment and its directory.
///
/// `None`: there is no command in either.
pub(crate) fn process_plan(
    config: &ContainerConfig,
    image: &ImageConfig,
    hostname: &str,
    user: &ResolvedUser,
    capabilities: Option<ProcessCapabilities>,
    filter: Option<Filter>,
) -> Option<ProcessPlan> {
    let args = arguments(config, image);
    if args.is_empty() {
        return None;
    }
    let image_dir = Some(image.working_dir.as_str()).filter(|directory| !directory.is_empty());
    let working_dir = config
        .working_dir
        .as_deref()
        .filter(|directory| !directory.is_empty());
    let mut absolute = PathBuf::from("/");
    absolute.push(working_dir.or(image_dir).unwrap_or("/"));
    Some(ProcessPlan {
        args,
        env: environment(config, image, hostname),
        working_dir: absolute,
        uid: user.uid,
        gid: user.gid,
        groups: user.groups.clone(),
        capabilities,
        no_new_privileges: config.security.no_new_privileges,
        filter,
    })
}

/// A command of the pod replaces the image's entrypoint and its cmd; arguments alone replace the cmd only.
fn arguments(config: &ContainerConfig, image: &ImageConfig) -> Vec<String> {
    let (command, args) = match (config.command.is_empty(), config.args.is_empty()) {
        (false, _) => (&config.command, &config.args),
        (true, false) => (&image.entrypoint, &config.args),
        (true, true) => (&image.entrypoint, &image.cmd),
    };
    command.iter().chain(args).cloned().collect()
}

fn environment(config: &ContainerConfig, image: &ImageConfig, hostname: &str) -> Vec<String> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    };
    set("PATH", DEFAULT_PATH);
    if config.tty {
        set("TERM", "xterm");
    }
    if !hostname.is_empty() {
        set("HOSTNAME", hostname);
    }
    for entry in &image.env {
        if let Some((name, value)) = entry.split_once('=') {
            set(name, value);
        }
    }
    for (name, value) in &config.env {
        set(name, value);
    }
    env.into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

/// The number of a signal by its name (with or without `SIG`, `SIGRTMIN+3` too) or number; `None` if unknown.
pub(crate) fn stop_signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = short.strip_prefix("RTMIN") {
        let above: i32 = if rest.is_empty() {
            0
        } else {
            rest.strip_prefix('+')?.parse().ok()?
        };
        return Some(34 + above).filter(|number| *number <= 64);
    }
    if let Some(rest) = short.strip_prefix("RTMAX") {
        let below: i32 = if rest.is_empty() {
            0
        } else {
            rest.strip_prefix('-')?.parse().ok()?
        };
        return Some(64 - below).filter(|number| *number >= 34);
    }
    let signal: nix::sys::signal::Signal = format!("SIG{short}").parse().ok()?;
    Some(signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pods_command_hides_the_images_and_arguments_alone_hide_its_cmd() {
        let texts = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        let image = ImageConfig {
            entrypoint: texts(&["e"]),
            cmd: texts(&["c"]),
            ..Default::default()
        };
        let with = |command: &[&str], args: &[&str]| {
            let config = ContainerConfig {
                command: texts(command),
                args: texts(args),
                ..Default::default()
            };
            arguments(&config, &image)
        };
        assert_eq!(with(&[], &[]), ["e", "c"]);
        assert_eq!(with(&[], &["a"]), ["e", "a"]);
        assert_eq!(with(&["x"], &[]), ["x"]);
        assert_eq!(with(&["x"], &["a"]), ["x", "a"]);
    }

    #[test]
    fn signals_have_names_numbers_and_real_time_offsets() {
        let numbers = ["SIGTERM", "term", "9", "SIGRTMIN+3", "RTMAX-1"].map(stop_signal_number);
        assert_eq!(numbers, [Some(15), Some(15), Some(9), Some(37), Some(63)]);
        assert_eq!(stop_signal_number("SIGNOPE"), None);
        assert_eq!(stop_signal_number("65"), None);
    }

    #[test]
    fn the_pods_environment_is_put_over_the_images() {
        let image = ImageConfig {
            env: vec!["A=1".into(), "PATH=/bin".into()],
            ..Default::default()
        };
        let config = ContainerConfig {
            env: vec![("A".into(), "2".into())],
            ..Default::default()
        };
        assert_eq!(
            environment(&config, &image, "host"),
            ["PATH=/bin", "HOSTNAME=host", "A=2"]
        );
    }
}
