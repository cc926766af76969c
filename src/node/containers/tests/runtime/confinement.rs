//! What a process may do: users, capabilities, filters, devices, mounts, user namespaces, the host's binary.

use super::Test;
use super::support::{Node, Outcome, block_on, command, script};
use cri::{
    Capabilities, ContainerConfig, Error, IdMapping, Mount, MountPropagation, MountReadOnly,
    Privilege, RunAsUser, RuntimeService, SeccompProfile, UserNamespace,
};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

pub(crate) const TESTS: &[Test] = &[
    (
        "the_default_container_has_a_filter_and_fourteen_capabilities",
        defaults,
    ),
    (
        "a_user_without_new_privileges_has_no_capability_and_its_groups",
        users,
    ),
    (
        "added_dropped_and_ambient_capabilities_are_followed",
        capabilities,
    ),
    (
        "refused_calls_say_eperm_also_to_32_bit_programs",
        refused_calls,
    ),
    ("a_privileged_container_keeps_everything", privileged),
    (
        "a_profile_of_the_node_is_applied_and_a_broken_one_fails_the_create",
        localhost_profiles,
    ),
    (
        "an_exec_is_confined_like_the_first_process",
        exec_is_confined,
    ),
    ("devices_that_were_not_given_cannot_be_opened", devices),
    ("root_and_mounts_are_read_only_where_asked", read_only),
    (
        "masked_paths_are_hidden_and_sysctls_are_the_pods_own",
        masked_and_sysctls,
    ),
    (
        "root_of_a_user_namespace_is_not_the_hosts_root",
        user_namespaces,
    ),
    (
        "a_container_cannot_write_the_binary_that_runs_it",
        own_binary,
    ),
];

fn status() -> ContainerConfig {
    let mut config = command(&["cat", "/proc/self/status"]);
    config.security.seccomp = SeccompProfile::RuntimeDefault;
    config
}

fn fields(outcome: &Outcome, names: &[&str]) -> Vec<String> {
    names
        .iter()
        .map(|name| outcome.status_field(name))
        .collect()
}

fn defaults() {
    block_on(async {
        let node = Node::open("defaults").await;
        let sandbox = node.sandbox().await;
        let outcome = node.run(&sandbox, status()).await;
        let names = [
            "Seccomp",
            "CapEff",
            "CapPrm",
            "CapBnd",
            "CapInh",
            "CapAmb",
            "NoNewPrivs",
        ];
        let some = "00000000a80425fb";
        let none = "0000000000000000";
        assert_eq!(
            fields(&outcome, &names),
            ["2", some, some, some, none, none, "0"]
        );
        assert_eq!(fields(&outcome, &["SigBlk", "SigIgn"]), [none, none]);
        let listing = node.run(&sandbox, command(&["ls", "/proc/self/fd"])).await;
        assert_eq!(
            listing.lines,
            ["0", "1", "2", "3"],
            "3 is the directory itself"
        );
        node.close().await;
    });
}

fn users() {
    block_on(async {
        let node = Node::open("users").await;
        let sandbox = node.sandbox().await;
        let mut config = status();
        config.security.user = RunAsUser::Uid(1000);
        config.security.run_as_group = Some(2000);
        config.security.supplemental_groups = vec![3000, 4000];
        config.security.no_new_privileges = true;
        let outcome = node.run(&sandbox, config).await;
        let names = [
            "Uid",
            "Gid",
            "Groups",
            "NoNewPrivs",
            "Seccomp",
            "CapEff",
            "CapBnd",
        ];
        let wanted = [
            "1000 1000 1000 1000",
            "2000 2000 2000 2000",
            "50 2000 3000 4000",
            "1",
            "2",
            "0000000000000000",
            "00000000a80425fb",
        ];
        assert_eq!(fields(&outcome, &names), wanted);
        let mut named = script("id -u; id -g; echo $HOME; pwd; echo again >/dev/stderr");
        named.security.user = RunAsUser::Name("app".to_owned());
        named.working_dir = Some("/made/for/it".to_owned());
        let outcome = node.run(&sandbox, named).await;
        assert_eq!(outcome.code, 0);
        for line in ["1000", "/home/app", "/made/for/it", "again"] {
            assert!(
                outcome.lines.iter().any(|one| one == line),
                "{line}: {outcome:?}"
            );
        }
        let mut unknown = status();
        unknown.security.user = RunAsUser::Name("nobody-here".to_owned());
        let error = node
            .runtime
            .create_container(&sandbox, unknown)
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("no matching entries in passwd file"),
            "{error}"
        );
        node.close().await;
    });
}

fn capabilities() {
    block_on(async {
        let node = Node::open("capabilities").await;
        let sandbox = node.sandbox().await;
        let run = async |uid: u32, add: &[&str], drop: &[&str], ambient: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let mut config = status();
            config.security.user = RunAsUser::Uid(uid);
            config.security.privilege = Privilege::Confined(Capabilities {
                add: names(add),
                drop: names(drop),
                add_ambient: names(ambient),
            });
            fields(
                &node.run(&sandbox, config).await,
                &["CapEff", "CapBnd", "CapAmb"],
            )
        };
        let none = "0000000000000000";
        assert_eq!(run(0, &[], &["ALL"], &[]).await, [none, none, none]);
        let bind = "0000000000000400";
        assert_eq!(
            run(0, &["NET_BIND_SERVICE"], &["ALL"], &[]).await,
            [bind, bind, none]
        );
        assert_eq!(
            run(1000, &[], &["ALL"], &["NET_BIND_SERVICE"]).await,
            [bind, bind, bind]
        );
        node.close().await;
    });
}

/// A 32-bit program of 16 instructions: `add_key` by `int 0x80`, exit code = -errno.
fn tiny_elf() -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    // mov eax, 286 (add_key); int 0x80; neg eax; mov ebx, eax; mov eax, 1 (exit); int 0x80
    let code: &[u8] = &[
        0xb8, 0x1e, 0x01, 0, 0, 0xcd, 0x80, 0xf7, 0xd8, 0x89, 0xc3, 0xb8, 1, 0, 0, 0, 0xcd, 0x80,
    ];
    let header = 52 + 32;
    let size = u32::try_from(header + code.len()).unwrap();
    let mut out = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |out: &mut Vec<u8>, value: u16| out.extend(value.to_le_bytes());
    half(&mut out, 2);
    half(&mut out, 3);
    for word in [1, BASE + 84, 52, 0, 0] {
        out.extend(word.to_le_bytes());
    }
    for value in [52u16, 32, 1, 40, 0, 0] {
        half(&mut out, value);
    }
    for word in [1, 0, BASE, BASE, size, size, 5, 0x1000] {
        out.extend(word.to_le_bytes());
    }
    out.extend(code);
    out
}

fn refused_calls() {
    block_on(async {
        let node = Node::open("refused").await;
        let sandbox = node.sandbox().await;
        let directory = node.data_dir.join("elf");
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("call32");
        std::fs::write(&path, tiny_elf()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let run = async |seccomp: SeccompProfile, words: &[&str]| {
            let mut config = command(words);
            config.security.seccomp = seccomp;
            config.security.privilege = Privilege::Confined(Capabilities::default());
            config.mounts.push(Mount {
                host_path: directory.clone(),
                container_path: "/elf".into(),
                ..Default::default()
            });
            node.run(&sandbox, config).await
        };
        let unshare = run(SeccompProfile::RuntimeDefault, &["unshare", "-U", "true"]).await;
        assert!(
            unshare.lines.join("").contains("Operation not permitted"),
            "{unshare:?}"
        );
        let free = run(SeccompProfile::Unconfined, &["unshare", "-U", "true"]).await;
        assert_eq!(free.code, 0, "without the filter it is allowed: {free:?}");
        if cfg!(target_arch = "x86_64") {
            let refused = run(SeccompProfile::RuntimeDefault, &["/elf/call32"]).await;
            assert_eq!(refused.code, libc::EPERM);
            let free = run(SeccompProfile::Unconfined, &["/elf/call32"]).await;
            assert_ne!(free.code, libc::EPERM);
        }
        node.close().await;
    });
}

fn privileged() {
    block_on(async {
        let node = Node::open("privileged").await;
        let sandbox = node.sandbox().await;
        let mut config = status();
        config.security.privilege = Privilege::Privileged;
        let outcome = node.run(&sandbox, config).await;
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        let own = own
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .unwrap()
            .trim()
            .to_owned();
        assert_eq!(
            fields(&outcome, &["Seccomp", "CapEff"]),
            ["0".to_owned(), own]
        );
        let mut config =
            script("mount -t tmpfs none /tmp && hostname changed && test -e /dev/kmsg");
        config.security.privilege = Privilege::Privileged;
        assert_eq!(node.run(&sandbox, config).await.code, 0);
        node.close().await;
    });
}

fn localhost_profiles() {
    block_on(async {
        let node = Node::open("profiles").await;
        let sandbox = node.sandbox().await;
        let path = node.data_dir.join("profile.json");
        let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
        std::fs::write(&path, profile).unwrap();
        let mut config = script("mkdir /tmp/x");
        config.security.seccomp = SeccompProfile::Localhost(path.clone());
        let outcome = node.run(&sandbox, config.clone()).await;
        assert!(
            outcome.lines.join("").contains("No space left"),
            "{outcome:?}"
        );
        for text in ["{", r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#] {
            std::fs::write(&path, text).unwrap();
            let error = node
                .runtime
                .create_container(&sandbox, config.clone())
                .await
                .unwrap_err();
            assert!(
                matches!(&error, Error::CreateContainer(text) if text.contains("seccomp")),
                "{error}"
            );
        }
        node.close().await;
    });
}

fn exec_is_confined() {
    block_on(async {
        let node = Node::open("exec-confined").await;
        let sandbox = node.sandbox().await;
        let mut config = command(&["sleep", "1000"]);
        config.security.seccomp = SeccompProfile::RuntimeDefault;
        config.security.user = RunAsUser::Uid(1000);
        config.security.no_new_privileges = true;
        let id = node.start(&sandbox, config).await;
        let (code, text) = node.exec(&id, &["cat", "/proc/self/status"]).await;
        assert_eq!(code, 0);
        for line in [
            "Seccomp:\t2",
            "NoNewPrivs:\t1",
            "Uid:\t1000\t1000\t1000\t1000",
            "CapEff:\t0000000000000000",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert_eq!(
            node.sh(&id, "cat /proc/self/cgroup").await,
            node.sh(&id, "cat /proc/1/cgroup").await
        );
        node.close().await;
    });
}

fn devices() {
    block_on(async {
        let node = Node::open("devices").await;
        let sandbox = node.sandbox().await;
        let text = "mknod /tmp/kmsg c 1 11 && (cat </tmp/kmsg | head -c 0; true) && head -c 4 /dev/urandom >/dev/null && echo x >/dev/null";
        let outcome = node.run(&sandbox, script(text)).await;
        assert!(
            outcome.lines.join("").contains("Operation not permitted"),
            "{outcome:?}"
        );
        let mut given = script("test -c /dev/given && head -c 1 /dev/given >/dev/null");
        given.devices.push(cri::Device {
            host_path: "/dev/urandom".into(),
            container_path: "/dev/given".into(),
            permissions: "r".to_owned(),
        });
        assert_eq!(node.run(&sandbox, given).await.code, 0);
        node.close().await;
    });
}

fn read_only() {
    block_on(async {
        let node = Node::open("read-only").await;
        let sandbox = node.sandbox().await;
        let volume = node.data_dir.join("volume");
        std::fs::create_dir_all(&volume).unwrap();
        let mount = |container_path: &str, read_only| Mount {
            host_path: volume.clone(),
            container_path: container_path.into(),
            read_only,
            ..Default::default()
        };
        let text = "touch /x && echo root; touch /rw/a && echo rw; touch /ro/b && echo ro; touch /rro/c && echo rro; touch /dev/shm/d && echo shm";
        let mut config = script(text);
        config.security.read_only_root_filesystem = true;
        // A read-only root takes no mount points: they must be there.
        let id = node
            .runtime
            .create_container(&sandbox, config.clone())
            .await
            .unwrap();
        node.runtime.remove_container(&id).await.unwrap();
        config.mounts = vec![
            mount("/rw", MountReadOnly::No),
            mount("/ro", MountReadOnly::Yes),
            mount("/rro", MountReadOnly::Recursive),
        ];
        let outcome = node.run(&sandbox, config).await;
        let written: Vec<&String> = outcome
            .lines
            .iter()
            .filter(|line| !line.contains(' '))
            .collect();
        assert_eq!(written, ["rw", "shm"], "{outcome:?}");
        assert!(volume.join("a").exists());
        let mut shared = script("true");
        shared.mounts = vec![Mount {
            propagation: MountPropagation::HostToContainer,
            ..mount("/rw", MountReadOnly::No)
        }];
        assert_eq!(node.run(&sandbox, shared).await.code, 0);
        let mut missing = script("true");
        missing.mounts = vec![Mount {
            host_path: "/nonexistent".into(),
            ..mount("/rw", MountReadOnly::No)
        }];
        assert!(
            node.runtime
                .create_container(&sandbox, missing)
                .await
                .is_err()
        );
        node.close().await;
    });
}

fn masked_and_sysctls() {
    block_on(async {
        let node = Node::open("masked").await;
        let mut pod = node.pod();
        pod.sysctls.insert(
            "net.ipv4.ip_unprivileged_port_start".to_owned(),
            "0".to_owned(),
        );
        pod.sysctls
            .insert("kernel.shm_rmid_forced".to_owned(), "1".to_owned());
        let sandbox = node.runtime.run_pod_sandbox(pod).await.unwrap();
        let text = "head -c 1 /proc/kcore | wc -c; echo 1 >/proc/sys/kernel/domainname; \
            sysctl -n net.ipv4.ip_unprivileged_port_start; sysctl -n kernel.shm_rmid_forced; ls /sys/fs/cgroup | wc -l";
        let outcome = node.run(&sandbox, script(text)).await;
        let lines: Vec<&str> = outcome.lines.iter().map(String::as_str).collect();
        assert!(
            lines.contains(&"0") && lines.iter().filter(|line| **line == "1").count() >= 1,
            "{lines:?}"
        );
        assert!(
            lines
                .iter()
                .any(|line| line.contains("Read-only file system")),
            "{lines:?}"
        );
        node.close().await;
    });
}

fn user_namespaces() {
    block_on(async {
        let node = Node::open("userns").await;
        let mut pod = node.pod();
        let mapping = IdMapping {
            container_id: 0,
            host_id: 200_000,
            length: 65_536,
        };
        pod.namespaces.user = UserNamespace::Pod(mapping);
        let sandbox = node.runtime.run_pod_sandbox(pod).await.unwrap();
        let volume = node.data_dir.join("volume");
        std::fs::create_dir_all(&volume).unwrap();
        let mut config = script("touch /v/made; echo out >/dev/stdout; sleep 1000");
        config.security.seccomp = SeccompProfile::RuntimeDefault;
        config.mounts.push(Mount {
            host_path: volume.clone(),
            container_path: "/v".into(),
            idmap: true,
            ..Default::default()
        });
        let id = node.start(&sandbox, config).await;
        let map = node
            .sh(
                &id,
                "cat /proc/self/uid_map; id -u; ls -ln /bin/busybox; cat /proc/self/status",
            )
            .await;
        let words: Vec<&str> = map.split_whitespace().collect();
        assert_eq!(&words[..4], ["0", "200000", "65536", "0"], "{map}");
        for line in ["Seccomp:\t2", "CapEff:\t00000000a80425fb"] {
            assert!(map.contains(line), "{line}: {map}");
        }
        let pid = node
            .runtime
            .container_status(&id)
            .await
            .unwrap()
            .pid
            .unwrap();
        assert_eq!(
            std::fs::metadata(format!("/proc/{pid}")).unwrap().uid(),
            200_000
        );
        // A file that root inside makes in an id-mapped volume is root's outside.
        super::support::eventually(|| async { volume.join("made").exists().then_some(()) }).await;
        assert_eq!(volume.join("made").metadata().unwrap().uid(), 0);
        node.close().await;
    });
}

/// The container's program is a script whose interpreter is `/proc/self/exe`: the kernel runs our binary in the
/// container, and another process of it tries to write what that one runs from.
fn own_binary() {
    block_on(async {
        let node = Node::open("own-binary").await;
        let sandbox = node.sandbox().await;
        let text =
            "printf '#!/proc/self/exe\\n' >/evil; chmod 755 /evil; echo ready >/ready; sleep 1000";
        let mut config = script(text);
        config.security.seccomp = SeccompProfile::RuntimeDefault;
        let id = node.start(&sandbox, config).await;
        super::support::eventually(|| async {
            (node.sh(&id, "cat /ready").await == "ready").then_some(())
        })
        .await;
        let binary = std::env::current_exe().unwrap();
        let before = binary.metadata().unwrap().mtime();
        // The shim's descendant in the container before it runs /evil is our binary, too: look at every process.
        let attack = "/evil & i=0; while [ $i -lt 200 ]; do i=$((i+1)); for p in /proc/[0-9]*; do \
            case \"$(readlink $p/exe)\" in */busybox) ;; *) echo x 2>/dev/null >>$p/exe && echo WRITTEN $p;; esac; done; done; true";
        let output = node.sh(&id, attack).await;
        assert!(!output.contains("WRITTEN"), "{output}");
        assert_eq!(binary.metadata().unwrap().mtime(), before);
        let shim = node.data_dir.join("run/binaries");
        let mounted = std::fs::read_dir(shim)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        // While it runs the kernel says "text file busy"; afterwards only the mount protects it.
        let flags = rustix::fs::statvfs(&mounted).unwrap().f_flag;
        assert!(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY));
        let exe = std::fs::read_link(format!("/proc/{}/exe", node.shim_pid(&sandbox))).unwrap();
        assert_eq!(exe, mounted);
        node.close().await;
    });
}
