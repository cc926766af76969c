//! `install.sh` as people run it, and the machine afterwards: as before.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::Value;

use crate::Test;
use crate::support::eventually;
use crate::support::images::{BUSYBOX, archives};
use crate::support::machine::Machine;
use crate::support::server::{combo, work_dir};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_node_is_installed_from_a_bundle_and_leaves_the_machine_as_it_was",
        from_bundle,
    ),
    (
        "a_changed_or_cut_bundle_is_refused_and_nothing_is_written",
        bad_bundle,
    ),
    (
        "a_machine_that_cannot_run_it_is_refused_before_anything_is_written",
        refusals,
    ),
    (
        "an_agent_keeps_its_settings_over_an_upgrade",
        agent_settings,
    ),
    (
        "the_memory_controller_is_switched_on_once_and_off_again",
        boot_words,
    ),
    ("openrc_gets_its_script", openrc),
];

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/install.sh");

/// The data folder is in the names of control groups, which machines of this kind share.
pub(crate) fn data_dir(name: &str) -> String {
    format!("/var/lib/combo-{name}-{}", std::process::id())
}

/// A bundle of the binary under test with one image.
pub(crate) fn bundle() -> &'static str {
    static BUNDLE: OnceLock<PathBuf> = OnceLock::new();
    let path = BUNDLE.get_or_init(|| {
        let path = work_dir().join("bundle.tar");
        let done = std::process::Command::new(combo())
            .args(["airgap", "bundle", "--image"])
            .arg(&archives()[0])
            .arg("--output")
            .arg(&path)
            .output()
            .expect("combo runs");
        assert!(done.status.success(), "{done:?}");
        path
    });
    path.to_str().expect("UTF-8")
}

pub(crate) fn install(arguments: &str) -> String {
    format!("sh {SCRIPT} {arguments}")
}

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"one"},"spec":{"terminationGracePeriodSeconds":0,
    "containers":[{"name":"main","image":"IMAGE","imagePullPolicy":"Never","command":["sleep","100000"]}]}}"#;

fn from_bundle() {
    let machine = Machine::start("bundle");
    let before = machine.snapshot();
    let flags = format!("server --data-dir {}", data_dir("bundle"));
    let variables = [
        ("INSTALL_COMBO_BUNDLE", bundle()),
        ("INSTALL_COMBO_SYMLINK", "force"),
        ("COMBO_NODE_NAME", "one"),
    ];
    machine.ok(&install(&flags), &variables);
    // The link, also where this machine has a kubectl of its own.
    let kubectl = |words: &str| machine.run(&format!("/usr/local/bin/kubectl {words}"), &[]);
    eventually("the node is Ready", || {
        let nodes = kubectl("get nodes one");
        String::from_utf8_lossy(&nodes.stdout)
            .contains(" Ready ")
            .then_some(())
    });
    eventually("the default service account", || {
        kubectl("get serviceaccount default")
            .status
            .success()
            .then_some(())
    });
    let pod = POD.replace("IMAGE", BUSYBOX);
    machine.ok(
        &format!("/usr/local/bin/kubectl create -f - <<'END'\n{pod}\nEND"),
        &[],
    );
    eventually("the pod runs", || {
        let pods = kubectl("get pod one");
        String::from_utf8_lossy(&pods.stdout)
            .contains("Running")
            .then_some(())
    });
    assert_eq!(machine.ok("cat /proc/sys/net/ipv4/ip_forward", &[]), "1\n");

    let status: Value = serde_json::from_str(&machine.ok("combo status -o json", &[])).unwrap();
    assert_eq!(status[0]["api"]["nodeReady"], true, "{status}");
    assert_eq!(status[0]["serviceState"], "active", "{status}");
    assert_eq!(status[0]["pods"], 1, "{status}");
    let process = status[0]["process"].clone();
    assert!(process.is_i64(), "{status}");

    let again = machine.ok(&install(""), &[("INSTALL_COMBO_BUNDLE", bundle())]);
    assert!(again.contains("nothing changed"), "{again}");
    machine.ok(
        &install(""),
        &[
            ("INSTALL_COMBO_BUNDLE", bundle()),
            ("INSTALL_COMBO_FORCE_RESTART", "true"),
        ],
    );
    let status = eventually("another server", || {
        let status: Value = serde_json::from_str(&machine.ok("combo status -o json", &[])).ok()?;
        (status[0]["api"]["nodeReady"] == true && status[0]["process"] != process).then_some(status)
    });
    assert_eq!(status[0]["pods"], 1, "{status}");
    assert_eq!(status[0]["api"]["node"], "one", "its variables are kept");

    let removed = machine.ok("combo uninstall", &[]);
    assert!(
        removed.contains("removed /usr/local/bin/combo\n"),
        "{removed}"
    );
    assert_same(&before, &machine.snapshot());
}

fn assert_same(before: &str, after: &str) {
    let lines = |text| str::lines(text).collect::<BTreeSet<&str>>();
    let (before, after) = (lines(before), lines(after));
    let missing: Vec<_> = before.difference(&after).collect();
    let more: Vec<_> = after.difference(&before).collect();
    assert!(
        missing.is_empty() && more.is_empty(),
        "missing: {missing:#?}\nmore: {more:#?}"
    );
}

fn bad_bundle() {
    let machine = Machine::start("bad-bundle");
    let before = machine.snapshot();
    let whole = fs::read(bundle()).unwrap();
    let bad = machine.folder().join("bad.tar");
    let refusal = |bytes: &[u8]| {
        fs::write(&bad, bytes).unwrap();
        machine.fails(
            &install("server"),
            &[("INSTALL_COMBO_BUNDLE", bad.to_str().unwrap())],
        )
    };
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        bytes
    };
    let member_at = |name: &str| {
        let mut head = name.as_bytes().to_vec();
        head.resize(100, 0);
        whole
            .windows(head.len())
            .position(|window| window == head)
            .expect("a member")
            + 512
    };
    let (binary, script) = (member_at("combo"), member_at("install.sh"));
    assert!(
        refusal(&changed(512 + 20)).contains("contents.txt was changed: its seal does not fit")
    );
    assert!(
        refusal(&changed(binary + 100_000)).contains("the checksum of the binary does not fit")
    );
    assert!(refusal(&changed(script + 100)).contains("install.sh was changed: its sha256 is"));
    assert!(refusal(&changed(whole.len() - 50_000)).contains("images/busybox.tar was changed"));
    assert!(refusal(&whole[..whole.len() - 50_000]).contains("cut short in images/busybox.tar"));
    assert!(refusal(&whole[..binary - 600]).contains("is no bundle, or it is cut short"));
    assert!(refusal(b"something else").contains("is no bundle"));
    assert_same(&before, &machine.snapshot());
}

fn refusals() {
    let machine = Machine::start("refused");
    let before = machine.snapshot();
    let from_bundle = [("INSTALL_COMBO_BUNDLE", bundle())];
    let free = machine.ok(
        &format!(
            "{} check -o json -- server --data-dir {}",
            combo().display(),
            data_dir("x")
        ),
        &[],
    );
    let findings: Value = serde_json::from_str(&free).unwrap();
    assert!(
        findings
            .as_array()
            .unwrap()
            .iter()
            .all(|finding| finding["level"] != "error"),
        "{free}"
    );

    let busy = format!(
        "/bin/busybox nc -l -p 16443 & sleep 1; {}; code=$?; kill $!; exit $code",
        install("server --https-listen-port 16443")
    );
    let refused = machine.fails(&busy, &from_bundle);
    assert!(
        refused.contains("error: ports: port 16443 is taken by busybox\n  fix: stop it"),
        "{refused}"
    );

    let refused = machine.fails(&install("agent --server https://a:1"), &from_bundle);
    assert!(refused.contains("an agent needs COMBO_TOKEN"), "{refused}");
    let refused = machine.fails(&install("server"), &[]);
    assert!(
        refused.contains("there is nothing to install from"),
        "{refused}"
    );
    machine.program("uname", "#!/bin/sh\necho armv6l\n");
    let refused = machine.fails(&install("server"), &from_bundle);
    assert!(refused.contains("this processor is an armv6"), "{refused}");
    assert_same(&before, &machine.snapshot());
}

fn agent_settings() {
    let machine = Machine::start("agent");
    let before = machine.snapshot();
    let source = ("INSTALL_COMBO_BUNDLE", bundle());
    let skip = ("INSTALL_COMBO_SKIP_START", "true");
    let secret = "K10ab::node:it's $x \"y\" `z` \\";
    let data = data_dir("agent");
    machine.ok(
        &install(""),
        &[
            source,
            skip,
            ("K3S_URL", "https://server:6443"),
            ("K3S_TOKEN", secret),
            ("HTTPS_PROXY", "http://p:1"),
            ("COMBO_DATA_DIR", &data),
        ],
    );
    let unit = machine.ok("cat /etc/systemd/system/combo-agent.service", &[]);
    assert!(
        unit.contains("\nExecStart=/usr/local/bin/combo agent\n"),
        "{unit}"
    );
    let read = ". /etc/systemd/system/combo-agent.service.env; printf '%s|%s|%s' \"$COMBO_URL\" \"$COMBO_TOKEN\" \"$HTTPS_PROXY\"";
    let kept = |proxy: &str| format!("https://server:6443|{secret}|{proxy}");
    assert_eq!(machine.ok(read, &[]), kept("http://p:1"));
    assert_eq!(
        machine.ok(
            "stat -c %a /etc/systemd/system/combo-agent.service.env",
            &[]
        ),
        "600\n"
    );
    machine.ok(&install("agent --node-label 'a=b c'"), &[source, skip]);
    machine.ok(&install(""), &[source, skip, ("HTTPS_PROXY", "")]);
    assert_eq!(
        machine.ok(read, &[]),
        kept(""),
        "an empty variable removes it"
    );
    let unit = machine.ok("cat /etc/systemd/system/combo-agent.service", &[]);
    assert!(
        unit.contains("combo agent --node-label \"a=b c\"\n"),
        "{unit}"
    );
    machine.ok("combo uninstall --yes", &[]);
    assert_same(&before, &machine.snapshot());
}

fn boot_words() {
    let machine = Machine::start("boot-words");
    let fake = machine.folder().join("controllers");
    fs::write(&fake, "cpu pids\n").unwrap();
    // On version 1 the controller is a mount of its own, on version 2 a word in a file.
    machine.ok(
        &format!(
            "umount /sys/fs/cgroup/memory 2>/dev/null || mount --bind {} /sys/fs/cgroup/cgroup.controllers
             mkdir -p /boot/firmware; echo 'console=tty1 rootwait' >/boot/firmware/cmdline.txt",
            fake.display()
        ),
        &[],
    );
    let before = machine.snapshot();
    let variables = [
        ("INSTALL_COMBO_BUNDLE", bundle()),
        ("INSTALL_COMBO_SKIP_START", "true"),
    ];
    let flags = format!("server -d {}", data_dir("words"));
    let done = machine.run(&install(&flags), &variables);
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(
        err.contains("warning: memory controller: the kernel counts no memory"),
        "{err}"
    );
    assert!(
        out.contains("switched on in /boot/firmware/cmdline.txt"),
        "{out}"
    );
    let again = machine.ok(&install(""), &variables);
    assert!(!again.contains("cmdline.txt"), "{again}");
    assert_eq!(
        machine.ok("cat /boot/firmware/cmdline.txt; ls /boot/firmware", &[]),
        "console=tty1 rootwait cgroup_memory=1 cgroup_enable=memory\ncmdline.txt\ncmdline.txt.before-combo\n"
    );
    machine.ok("combo uninstall", &[]);
    assert_same(&before, &machine.snapshot());
}

fn openrc() {
    let machine = Machine::start("openrc");
    machine.ok("printf '#!/bin/sh\\n' >/sbin/openrc-run; chmod 755 /sbin/openrc-run; mkdir -p /etc/runlevels/default", &[]);
    for name in ["rc-service", "rc-update"] {
        machine.program(name, "#!/bin/sh\n");
    }
    let before = machine.snapshot();
    let flags = format!("server --node-label \"it's=1\" -d {}", data_dir("openrc"));
    machine.ok(
        &install(&flags),
        &[
            ("INSTALL_COMBO_BUNDLE", bundle()),
            ("INSTALL_COMBO_SKIP_START", "true"),
            ("COMBO_NODE_NAME", "x"),
        ],
    );
    let program = "RC_SVCNAME=combo; . /etc/init.d/combo; eval \"set -- $command_args\"; echo \"$command|$3|$COMBO_NODE_NAME\"; readlink /etc/runlevels/default/combo";
    assert_eq!(
        machine.ok(program, &[]),
        "/usr/local/bin/combo|it's=1|x\n/etc/init.d/combo\n"
    );
    machine.ok("combo uninstall", &[]);
    assert_same(&before, &machine.snapshot());
}
