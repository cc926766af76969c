//! Volumes on the real file system; the tests run as root, as the node does.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use env::Clock;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::MountedVolume;
use crate::test_node::Node;

pub(crate) fn pod(source: Value) -> Pod {
    pod_with(source, json!({}))
}

fn pod_with(mut source: Value, security: Value) -> Pod {
    source["name"] = json!("v");
    let mount = json!([{"name": "v", "mountPath": "/v"}]);
    serde_json::from_value(json!({
        "metadata": {"name": "pod", "namespace": "ns", "uid": "uid-1", "labels": {"a": "b"}},
        "spec": {
            "serviceAccountName": "default", "volumes": [source], "securityContext": security,
            "containers": [{"name": "c", "volumeMounts": mount, "resources": {"limits": {"memory": "64Mi"}}}],
        },
    }))
    .unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn filesystem(path: &Path) -> String {
    let table = linux::mounts::table().unwrap();
    table
        .iter()
        .find(|entry| entry.mount_point == path)
        .map(|entry| entry.filesystem.clone())
        .unwrap_or_default()
}

#[tokio::test]
async fn an_empty_dir_is_open_to_all_and_lives_as_long_as_the_pod() {
    let node = Node::new();
    let volume = node.volume(json!({"emptyDir": {}})).await.unwrap();
    assert_eq!(
        volume.host_path,
        node.root
            .join("pods/uid-1/volumes/kubernetes.io~empty-dir/v")
    );
    assert_eq!((mode(&volume.host_path), volume.read_only), (0o777, false));
    fs::write(volume.host_path.join("kept"), "x").unwrap();
    fs::set_permissions(&volume.host_path, fs::Permissions::from_mode(0o700)).unwrap();
    node.volume(json!({"emptyDir": {}})).await.unwrap();
    assert_eq!(read(&volume.host_path.join("kept")), "x");
    assert_eq!(
        mode(&volume.host_path),
        0o700,
        "what a container changed is its own"
    );
    node.assert_torn_down().await;
}

#[tokio::test]
async fn an_empty_dir_in_memory_has_the_smallest_limit() {
    let node = Node::new();
    let volume = node
        .volume(json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}))
        .await
        .unwrap();
    assert_eq!(filesystem(&volume.host_path), "tmpfs");
    assert_eq!(mode(&volume.host_path), 0o777);
    let size = rustix::fs::statvfs(&volume.host_path).unwrap();
    assert_eq!(size.f_blocks * size.f_frsize, 1 << 20);
    node.volume(json!({"emptyDir": {"medium": "Memory"}}))
        .await
        .unwrap();
    node.assert_torn_down().await;
    let volume = node
        .volume(json!({"emptyDir": {"medium": "Memory"}}))
        .await
        .unwrap();
    let size = rustix::fs::statvfs(&volume.host_path).unwrap();
    assert_eq!(
        size.f_blocks * size.f_frsize,
        64 << 20,
        "the pod's own limit"
    );
    node.assert_torn_down().await;
}

#[tokio::test]
async fn a_group_owns_new_volumes_and_what_comes_into_them() {
    let node = Node::new();
    for medium in ["", "Memory"] {
        let pod = pod_with(
            json!({"emptyDir": {"medium": medium}}),
            json!({"fsGroup": 4000}),
        );
        let volume = node.volume_of(&pod).await.unwrap();
        let metadata = fs::metadata(&volume.host_path).unwrap();
        assert_eq!((mode(&volume.host_path), metadata.gid()), (0o2777, 4000));
        fs::create_dir(volume.host_path.join("d")).unwrap();
        assert_eq!(
            fs::metadata(volume.host_path.join("d")).unwrap().gid(),
            4000
        );
        node.assert_torn_down().await;
    }
}

#[tokio::test]
async fn a_config_map_is_exchanged_as_a_whole() {
    let node = Node::new();
    node.api.put(
        "configmap/m",
        json!({"data": {"a": "1", "b": "2"}, "binaryData": {"bin": "/w=="}}),
    );
    let source = json!({"configMap": {"name": "m", "defaultMode": 256}});
    let volume = node.volume(source.clone()).await.unwrap();
    let at = |name: &str| volume.host_path.join(name);
    assert!(volume.read_only);
    assert_eq!(
        (read(&at("a")), mode(&at("a")), fs::read(at("bin")).unwrap()),
        ("1".to_owned(), 0o400, vec![0xff])
    );
    assert_eq!(fs::read_link(at("a")).unwrap(), Path::new("..data/a"));
    let first = fs::read_link(at("..data")).unwrap();
    assert!(
        first
            .to_str()
            .unwrap()
            .starts_with("..2023_11_14_22_13_20."),
        "{first:?}"
    );

    node.volume(source.clone()).await.unwrap();
    assert_eq!(
        fs::read_link(at("..data")).unwrap(),
        first,
        "the same content is not written again"
    );

    let held = fs::File::open(at("..data")).unwrap();
    node.api
        .put("configmap/m", json!({"data": {"a": "3", "new": "4"}}));
    node.volume(source).await.unwrap();
    assert_eq!(
        (read(&at("a")), read(&at("new"))),
        ("3".to_owned(), "4".to_owned())
    );
    assert!(!at("b").is_symlink() && !at("bin").is_symlink());
    assert_ne!(fs::read_link(at("..data")).unwrap(), first);
    assert!(!at(first.to_str().unwrap()).exists());
    drop(held);
    let mut names: Vec<_> = fs::read_dir(&volume.host_path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names.len(), 4, "{names:?}");
    node.assert_torn_down().await;
}

#[tokio::test]
async fn a_missing_object_holds_the_pod_unless_it_is_optional() {
    let node = Node::new();
    let error = node
        .volume(json!({"configMap": {"name": "m"}}))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "MountVolume.SetUp failed for volume \"v\" : configmap \"m\" not found"
    );
    let volume = node
        .volume(json!({"configMap": {"name": "m", "optional": true}}))
        .await
        .unwrap();
    assert!(!volume.host_path.join("a").exists());
    node.api.put("configmap/m", json!({"data": {"a": "1"}}));
    node.volume(json!({"configMap": {"name": "m", "optional": true}}))
        .await
        .unwrap();
    assert_eq!(read(&volume.host_path.join("a")), "1");
    node.assert_torn_down().await;
}

#[tokio::test]
async fn a_secret_lies_in_memory_and_its_group_can_read_it() {
    let node = Node::new();
    node.api
        .put("secret/s", json!({"data": {"key": "c2VjcmV0"}}));
    let items = json!([{"key": "key", "path": "deep/er/key", "mode": 256}]);
    let pod = pod_with(
        json!({"secret": {"secretName": "s", "items": items}}),
        json!({"fsGroup": 4000}),
    );
    let volume = node.volume_of(&pod).await.unwrap();
    assert_eq!(filesystem(&volume.host_path), "tmpfs");
    let file = volume.host_path.join("deep/er/key");
    assert_eq!(
        (read(&file), mode(&file), fs::metadata(&file).unwrap().gid()),
        ("secret".to_owned(), 0o440, 4000)
    );
    assert!(volume.host_path.join("deep").is_symlink());
    node.assert_torn_down().await;
}

#[tokio::test]
async fn projected_sources_share_a_volume() {
    let node = Node::new();
    node.api
        .put("configmap/root-ca", json!({"data": {"ca.crt": "CA"}}));
    node.api.put("secret/s", json!({"data": {"key": "MQ=="}}));
    let namespace = json!({"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}});
    let limit = json!({"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}});
    let source = json!({"projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "root-ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"secret": {"name": "s"}},
        {"downwardAPI": {"items": [namespace, limit]}},
    ]}});
    let volume = node.volume(source.clone()).await.unwrap();
    let at = |name: &str| volume.host_path.join(name);
    assert_eq!(
        (read(&at("token")), mode(&at("token"))),
        ("api-1".to_owned(), 0o644)
    );
    assert_eq!(
        (read(&at("ca.crt")), read(&at("key"))),
        ("CA".to_owned(), "1".to_owned())
    );
    assert_eq!(
        (read(&at("namespace")), read(&at("cpu"))),
        ("ns".to_owned(), "4".to_owned())
    );

    let refresh = node.volumes.next_refresh("uid-1").unwrap();
    let left = refresh.saturating_sub(node.clock.monotonic());
    assert_eq!(left.as_secs(), 2885);
    node.clock.advance(Duration::from_secs(2884));
    node.volume(source.clone()).await.unwrap();
    assert_eq!(read(&at("token")), "api-1");
    node.clock.advance(Duration::from_secs(2));
    node.volume(source.clone()).await.unwrap();
    assert_eq!(read(&at("token")), "api-2");
    // The clock was set: a server may believe none that was given out before.
    node.volumes.outdate_tokens();
    node.volume(source).await.unwrap();
    assert_eq!(read(&at("token")), "api-3");
    node.assert_torn_down().await;
    assert_eq!(node.volumes.next_refresh("uid-1"), None);
}

#[tokio::test]
async fn a_token_is_for_the_one_user_of_the_pod() {
    let node = Node::new();
    let source = json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "vault"}}]}});
    let pod = pod_with(source, json!({"runAsUser": 1000}));
    let volume = node.volume_of(&pod).await.unwrap();
    let metadata = fs::metadata(volume.host_path.join("t")).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (1000, 0o600));
    assert_eq!(read(&volume.host_path.join("t")), "vault-1");
    node.assert_torn_down().await;
}

#[tokio::test]
async fn a_host_path_is_what_the_pod_expects() {
    let node = Node::new();
    let path = |name: &str| node.root.join("host").join(name).display().to_string();
    fs::create_dir(node.root.join("host")).unwrap();
    fs::write(path("file"), "x").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    let table = [
        ("file", "File", true),
        ("file", "Directory", false),
        ("none", "Directory", false),
        ("none", "File", false),
        ("made/deep", "DirectoryOrCreate", true),
        ("made/file", "FileOrCreate", true),
        ("no/parent", "FileOrCreate", false),
        ("socket", "Socket", true),
        ("file", "Socket", false),
        ("file", "", true),
        ("new", "", true),
        ("file", "Odd", false),
    ];
    for (name, kind, fits) in table {
        let source = json!({"hostPath": {"path": path(name), "type": kind}});
        assert_eq!(node.volume(source).await.is_ok(), fits, "{name} as {kind}");
    }
    assert!(Path::new(&path("made/deep")).is_dir() && Path::new(&path("made/file")).is_file());
    assert!(
        node.volume(json!({"hostPath": {"path": "/dev/null", "type": "CharDevice"}}))
            .await
            .is_ok()
    );
    assert!(
        node.volume(json!({"hostPath": {"path": "/dev/null", "type": "BlockDevice"}}))
            .await
            .is_err()
    );
    node.assert_torn_down().await;
    assert_eq!(read(Path::new(&path("file"))), "x", "the node's files stay");
}

#[tokio::test]
async fn a_bound_claim_leads_to_a_directory_of_the_node() {
    let node = Node::new();
    let data = node.root.join("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    fs::write(data.join("sub/f"), "x").unwrap();
    symlink("/etc/passwd", data.join("link")).unwrap();
    let passwd = mode(Path::new("/etc/passwd"));
    let claim = |phase: &str| json!({"metadata": {"uid": "c1"}, "spec": {"volumeName": "pv"}, "status": {"phase": phase}});
    node.api.put(
        "pv/pv",
        json!({"spec": {"local": {"path": data}, "claimRef": {"uid": "c1"}}}),
    );
    node.api.put("pvc/claim", claim("Pending"));
    let source = json!({"persistentVolumeClaim": {"claimName": "claim"}});
    assert!(
        node.volume(source.clone())
            .await
            .unwrap_err()
            .to_string()
            .contains("PVC is not bound")
    );
    node.api.put("pvc/claim", claim("Bound"));
    let pod = pod_with(
        source,
        json!({"fsGroup": 4000, "fsGroupChangePolicy": "OnRootMismatch"}),
    );
    let volume = node.volume_of(&pod).await.unwrap();
    assert_eq!(volume.host_path, data);
    let file = fs::metadata(data.join("sub/f")).unwrap();
    assert_eq!((file.gid(), file.mode() & 0o777), (4000, 0o664));
    assert_eq!(
        (mode(&data) & 0o2770, mode(&data.join("sub")) & 0o2770),
        (0o2770, 0o2770)
    );
    assert_eq!(
        mode(Path::new("/etc/passwd")),
        passwd,
        "links are not followed"
    );

    std::os::unix::fs::chown(data.join("sub/f"), None, Some(5)).unwrap();
    node.volume_of(&pod).await.unwrap();
    assert_eq!(
        fs::metadata(data.join("sub/f")).unwrap().gid(),
        5,
        "the root fits, so nothing is changed"
    );
    node.assert_torn_down().await;
    assert!(data.join("sub/f").exists());
}

#[tokio::test]
async fn what_this_node_cannot_do_is_refused_by_name() {
    let node = Node::new();
    node.api.put(
        "pv/pv",
        json!({"spec": {"csi": {"driver": "d", "volumeHandle": "h"}, "claimRef": {"uid": "c1"}}}),
    );
    node.api.put(
        "pvc/claim",
        json!({"metadata": {"uid": "c1"}, "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}}),
    );
    let bundle = json!({"clusterTrustBundle": {"name": "b", "path": "p"}});
    for (source, reason) in [
        (
            json!({"nfs": {"server": "s", "path": "/"}}),
            "nfs volumes are not supported by this node",
        ),
        (
            json!({"csi": {"driver": "d"}}),
            "csi volumes are not supported by this node",
        ),
        (
            json!({"persistentVolumeClaim": {"claimName": "claim"}}),
            "persistent volumes other than hostPath and local",
        ),
        (
            json!({"persistentVolumeClaim": {"claimName": "none"}}),
            "persistentvolumeclaim \"none\" not found",
        ),
        (
            json!({"projected": {"sources": [bundle]}}),
            "clusterTrustBundle projections are not supported by this node",
        ),
        (
            json!({"emptyDir": {"medium": "HugePages-2Mi"}}),
            "emptyDir volumes of medium HugePages-2Mi are not supported",
        ),
    ] {
        let error = node.volume(source).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    node.assert_torn_down().await;
}

#[tokio::test]
async fn a_volume_that_no_container_mounts_is_left_alone() {
    let node = Node::new();
    let mut pod = pod(json!({"secret": {"secretName": "missing"}}));
    pod.spec.as_mut().unwrap().containers[0].volume_mounts = None;
    assert!(node.volumes.set_up(&pod).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_sub_path_stays_in_its_volume() {
    let node = Node::new();
    let volume = node.volume(json!({"emptyDir": {}})).await.unwrap();
    let outside = node.root.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::set_permissions(&volume.host_path, fs::Permissions::from_mode(0o770)).unwrap();
    symlink(&outside, volume.host_path.join("absolute")).unwrap();
    symlink("../../../../../outside", volume.host_path.join("relative")).unwrap();
    symlink("real", volume.host_path.join("inside")).unwrap();
    fs::create_dir(volume.host_path.join("real")).unwrap();
    let bind = async |index: usize, path: &str| {
        node.volumes
            .sub_path("uid-1", "c", index, &volume, Path::new(path))
            .await
    };
    for path in [
        "absolute",
        "absolute/new",
        "relative",
        "../x",
        "/etc",
        "inside/../../x",
    ] {
        assert!(bind(0, path).await.is_err(), "{path}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);

    let made = bind(1, "a/b").await.unwrap();
    assert_eq!(mode(&volume.host_path.join("a/b")), 0o770, "as the volume");
    fs::write(made.join("f"), "x").unwrap();
    assert_eq!(read(&volume.host_path.join("a/b/f")), "x");
    // Whoever exchanges names in the volume later changes nothing.
    fs::rename(volume.host_path.join("a"), volume.host_path.join("moved")).unwrap();
    symlink(&outside, volume.host_path.join("a")).unwrap();
    assert_eq!(read(&made.join("f")), "x");
    assert!(bind(1, "a/b").await.is_err());

    let inside = bind(2, "inside").await.unwrap();
    fs::write(inside.join("g"), "y").unwrap();
    assert_eq!(read(&volume.host_path.join("real/g")), "y");
    node.assert_torn_down().await;
}

#[tokio::test]
async fn a_sub_path_of_a_file_keeps_its_content_until_the_container_starts_again() {
    let node = Node::new();
    node.api.put("configmap/m", json!({"data": {"a": "1"}}));
    let source = json!({"configMap": {"name": "m"}});
    let volume = node.volume(source.clone()).await.unwrap();
    let bind = async || {
        node.volumes
            .sub_path("uid-1", "c", 0, &volume, Path::new("a"))
            .await
            .unwrap()
    };
    let bound = bind().await;
    assert_eq!(read(&bound), "1");
    node.api.put("configmap/m", json!({"data": {"a": "2"}}));
    node.volume(source).await.unwrap();
    assert_eq!(read(&bound), "1");
    assert_eq!(read(&bind().await), "2");
    node.assert_torn_down().await;
}

#[tokio::test]
async fn another_kubelet_takes_down_what_this_one_made() {
    let node = Node::new();
    node.api.put("secret/s", json!({"data": {"key": "MQ=="}}));
    let volume = node
        .volume(json!({"secret": {"secretName": "s"}}))
        .await
        .unwrap();
    node.volumes
        .sub_path("uid-1", "c", 0, &volume, Path::new("key"))
        .await
        .unwrap();
    let restarted = Node::open(&node.root, &node.api, &node.store, &node.clock);
    assert_eq!(restarted.existing().unwrap(), ["uid-1"]);
    restarted.tear_down("uid-1").await.unwrap();
    node.assert_torn_down().await;
}

#[tokio::test]
async fn tearing_down_never_reaches_through_a_mount() {
    let node = Node::new();
    let precious = node.root.join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("f"), "x").unwrap();
    let volume = node
        .volume(json!({"hostPath": {"path": precious}}))
        .await
        .unwrap();
    node.volumes
        .sub_path("uid-1", "c", 0, &volume, Path::new("."))
        .await
        .unwrap();
    let empty = node.volume(json!({"emptyDir": {}})).await.unwrap();
    symlink(&precious, empty.host_path.join("link")).unwrap();
    node.assert_torn_down().await;
    assert_eq!(read(&precious.join("f")), "x");
}

#[tokio::test]
async fn names_from_outside_cannot_name_other_places() {
    let node = Node::new();
    for uid in ["", ".", "..", "a/b"] {
        assert!(node.volumes.tear_down(uid).await.is_err(), "{uid:?}");
    }
    let volume = MountedVolume {
        host_path: node.root.clone(),
        ..MountedVolume::default()
    };
    assert!(
        node.volumes
            .sub_path("uid-1", "../c", 0, &volume, Path::new("a"))
            .await
            .is_err()
    );
}

/// A docker-archive of one layer with one file, as `docker save` writes it.
fn archive() -> Vec<u8> {
    let tar = |files: &[(&str, &[u8])]| {
        let mut bytes = Vec::new();
        for (name, content) in files {
            let mut head = [0u8; 512];
            head[..name.len()].copy_from_slice(name.as_bytes());
            head[100..107].copy_from_slice(b"0000644");
            head[108..115].copy_from_slice(b"0000000");
            head[116..123].copy_from_slice(b"0000000");
            head[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
            head[136..147].copy_from_slice(b"00000000000");
            head[156] = b'0';
            head[148..156].copy_from_slice(b"        ");
            let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
            head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            bytes.extend_from_slice(&head);
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    };
    let layer = tar(&[("data", b"from the image")]);
    let architecture = images::Platform::host().architecture;
    let diff_id = images::Digest::of(&layer).to_string();
    let config = json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
    let manifest = json!([{"Config": "config.json", "RepoTags": ["i:1"], "Layers": ["layer.tar"]}]);
    tar(&[
        ("config.json", config.to_string().as_bytes()),
        ("layer.tar", &layer),
        ("manifest.json", manifest.to_string().as_bytes()),
    ])
}

#[tokio::test]
async fn an_image_is_a_read_only_volume_and_keeps_its_layers() {
    let node = Node::new();
    let imported = node
        .store
        .import_stream("test", archive().as_slice())
        .unwrap();
    node.api.put("image/i:1", json!(imported[0].id.0));
    let volume = node
        .volume(json!({"image": {"reference": "i:1"}}))
        .await
        .unwrap();
    assert!(volume.read_only);
    assert_eq!(read(&volume.host_path.join("data")), "from the image");
    assert!(fs::write(volume.host_path.join("x"), "").is_err());
    let bound = node
        .volumes
        .sub_path("uid-1", "c", 0, &volume, Path::new("data"))
        .await
        .unwrap();
    assert_eq!(read(&bound), "from the image");
    node.store.remove("i:1").unwrap();
    assert_eq!(
        fs::read_dir(node.store.root().join("layers"))
            .unwrap()
            .count(),
        1
    );
    node.assert_torn_down().await;
    assert_eq!(
        fs::read_dir(node.store.root().join("layers"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn many_volumes_of_many_pods_do_not_disturb_each_other() {
    let node = Arc::new(Node::new());
    let volumes: Vec<Value> = (0..50)
        .map(|number| {
            node.api.put(
                &format!("configmap/m{number}"),
                json!({"data": {"a": number.to_string()}}),
            );
            json!({"name": format!("v{number}"), "configMap": {"name": format!("m{number}")}})
        })
        .collect();
    let mounts: Vec<Value> = (0..50)
        .map(|n| json!({"name": format!("v{n}"), "mountPath": format!("/v{n}")}))
        .collect();
    let mut running = Vec::new();
    for pod in 0..5 {
        let node = Arc::clone(&node);
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": format!("uid-{pod}")},
            "spec": {"volumes": volumes, "containers": [{"name": "c", "volumeMounts": mounts}]},
        }))
        .unwrap();
        running.push(env::spawn(async move {
            let (once, again) = tokio::join!(node.volumes.set_up(&pod), node.volumes.set_up(&pod));
            assert_eq!(once.unwrap(), again.unwrap());
            let mounted = node.volumes.set_up(&pod).await.unwrap();
            for number in 0..50 {
                let file = mounted[&format!("v{number}")].host_path.join("a");
                assert_eq!(read(&file), number.to_string());
            }
            node.volumes
                .tear_down(pod.metadata.uid.as_deref().unwrap())
                .await
                .unwrap();
        }));
    }
    for task in running {
        task.await.unwrap();
    }
    assert!(node.volumes.existing().unwrap().is_empty());
}
