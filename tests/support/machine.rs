//! A machine that is this one and can be installed on: its own network and mounts, whatever is
//! written goes to a tmpfs, and a small systemd that runs one service.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::support::eventually;
use crate::support::server::work_dir;

/// Folders that an installation writes to, with what this machine has in them.
const OVERLAID: &[&str] = &["/etc", "/usr", "/opt", "/boot"];
const EMPTY: &[&str] = &["/run", "/var/lib"];
/// A link other than `lo`, as a machine with one network has it; nothing is behind it.
const ADDRESS: &str = "198.51.100.7/24";

/// Starts, stops and asks about services as `systemctl` does.
const SYSTEMCTL: &str = r#"#!/bin/sh
units=$(dirname "$0")/units
[ "$1" != --quiet ] || shift
command=$1; shift
for word; do case $word in -*) ;; *) unit=$word ;; esac; done
pid() { cat "$units/$unit.pid" 2>/dev/null; }
runs() { [ -n "$(pid)" ] && [ -d "/proc/$(pid)" ] && ! grep -q '^State:.Z' "/proc/$(pid)/status"; }
stop() { if runs; then kill "$(pid)"; while runs; do sleep 0.1; done; fi; rm -f "$units/$unit.pid"; }
file=/etc/systemd/system/${unit:-}.service
case $command in
    daemon-reload | reset-failed | disable) ;;
    is-active) if runs; then echo active; else echo inactive; exit 3; fi ;;
    stop) stop ;;
    start | restart)
        stop
        set -a
        for env in $(sed -n "s/^EnvironmentFile=-//; s/%N/$unit/p; t; /service.env$/p" "$file"); do [ ! -f "$env" ] || . "$env"; done
        set +a
        line=$(sed -n 's/^ExecStart=//p' "$file")
        eval "setsid $line >>$units/$unit.log 2>&1 </dev/null &"
        echo $! >"$units/$unit.pid"
        ;;
    *) echo "unknown: $command" >&2; exit 1 ;;
esac
"#;

pub(crate) struct Machine {
    /// Holds the namespaces.
    holder: Child,
    folder: PathBuf,
}

/// Mounts of other nodes' pods on this host: they would go in the middle of a test, when their nodes remove the folders below.
const LEAVE_NEIGHBOURS: &str = "
    cut -d ' ' -f 5 /proc/self/mountinfo | grep '/agent/containers/\\|/agent/kubelet/pods/\\|/run/sandboxes/\\|/run/binaries/' |
        tac | while read -r path; do umount -l \"$path\"; done
";

impl Machine {
    pub(crate) fn start(name: &str) -> Self {
        let uplink = format!(
            "ip link add uplink type veth peer name cable
            ip link set cable up; ip link set uplink up
            ip address add {ADDRESS} dev uplink; ip route add default dev uplink\n"
        );
        Self::connected(name, &uplink)
    }

    /// One that has no link but `lo`.
    pub(crate) fn with_only_loopback(name: &str) -> Self {
        Self::connected(name, "")
    }

    /// `links` is the script that connects it.
    fn connected(name: &str, links: &str) -> Self {
        let folder = work_dir().join(format!("machine-{name}"));
        fs::create_dir_all(folder.join("bin/units")).expect("a folder is made");
        let mut script = String::from("set -e\nip link set lo up\n");
        script.push_str(LEAVE_NEIGHBOURS);
        // No addresses that come and go by themselves.
        script.push_str("echo 1 >/proc/sys/net/ipv6/conf/default/addr_gen_mode\n");
        script.push_str(links);
        script.push_str("echo 0 >/proc/sys/net/ipv4/ip_forward\n");
        for (number, path) in OVERLAID.iter().enumerate() {
            let at = folder.join(number.to_string());
            let at = at.display();
            script.push_str(&format!("mkdir -p {at}/upper {at}/work\n"));
            script.push_str(&format!(
                "mount -t overlay overlay -o lowerdir={path},upperdir={at}/upper,workdir={at}/work {path}\n"
            ));
        }
        for path in EMPTY {
            script.push_str(&format!("mount -t tmpfs tmpfs {path}\n"));
        }
        script.push_str(&format!(
            "touch {}/ready\nexec sleep infinity\n",
            folder.display()
        ));
        let holder = Command::new("unshare")
            .args([
                "--mount",
                "--net",
                "--propagation",
                "private",
                "sh",
                "-c",
                &script,
            ])
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare of util-linux");
        let mut machine = Self { holder, folder };
        machine.program("systemctl", SYSTEMCTL);
        eventually("a machine", || {
            let ended = machine.holder.try_wait().expect("a child");
            assert!(ended.is_none(), "the machine ended: {ended:?}");
            machine.folder.join("ready").exists().then_some(())
        });
        machine
    }

    /// Puts a program before all others of its name.
    pub(crate) fn program(&self, name: &str, text: &str) {
        let path = self.folder.join("bin").join(name);
        fs::write(&path, text).expect("a program is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A command inside; variables of this process that concern Combo are not passed on.
    pub(crate) fn run(&self, script: &str, variables: &[(&str, &str)]) -> Output {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("nsenter");
        command
            .args([
                "-t",
                &self.holder.id().to_string(),
                "--mount",
                "--net",
                "sh",
                "-c",
                script,
            ])
            .env_clear()
            .env(
                "PATH",
                format!("{}:{path}", self.folder.join("bin").display()),
            )
            .envs(variables.iter().copied())
            .stdin(Stdio::null());
        command.output().expect("nsenter of util-linux")
    }

    /// What a command that must succeed prints.
    pub(crate) fn ok(&self, script: &str, variables: &[(&str, &str)]) -> String {
        let done = self.run(script, variables);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&done.stdout), text(&done.stderr));
        assert!(
            done.status.success(),
            "{script}: {}\n{out}{err}\n{}",
            done.status,
            self.logs()
        );
        out
    }

    /// Why a command that must fail did.
    pub(crate) fn fails(&self, script: &str, variables: &[(&str, &str)]) -> String {
        let done = self.run(script, variables);
        assert!(!done.status.success(), "{script} succeeded: {done:?}");
        String::from_utf8_lossy(&done.stderr).into_owned()
    }

    /// Everything about it that an installation may change.
    pub(crate) fn snapshot(&self) -> String {
        let script = "
            ip -o link; ip -o address; ip route show table all; ip -6 route show table all; nft list ruleset
            cut -d ' ' -f 4- /proc/self/mountinfo
            grep -rs . /proc/sys/net/core /proc/sys/net/ipv4 /proc/sys/net/ipv6 | grep -v 'stable_secret\\|/route/flush' | sort
            find /etc /usr/local /usr/bin /usr/sbin /opt /boot /run /var/lib -xdev ! -type d -printf '%p %m %U %s %l\\n' -o -type d -printf '%p %m %U\\n' | sort
            cat /boot/firmware/cmdline.txt 2>/dev/null";
        self.ok(&format!("{script} || true"), &[])
    }

    fn logs(&self) -> String {
        let units = self.folder.join("bin/units");
        let entries = fs::read_dir(units).into_iter().flatten().flatten();
        let logs = entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "log"));
        logs.filter_map(|entry| fs::read_to_string(entry.path()).ok())
            .collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A test that failed may have left a server.
        let units = self.folder.join("bin/units");
        for entry in fs::read_dir(units).into_iter().flatten().flatten() {
            let is_pid = entry.path().extension().is_some_and(|end| end == "pid");
            if let Some(service) = entry.path().file_stem().filter(|_| is_pid) {
                let service = service.to_string_lossy().into_owned();
                self.run(
                    &format!("systemctl stop {service}; combo uninstall --yes"),
                    &[],
                );
            }
        }
        self.holder.kill().expect("it can be killed");
        self.holder.wait().expect("a child");
    }
}
