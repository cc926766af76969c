//! Pulls from a registry that runs here and can misbehave.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cri::{ImageService, ImageSpec, PullAuth};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::test_archives::{OciImage, docker_archive, file, gzip, oci_image, store, tar_of};
use crate::{
    DefaultEndpoint, ErrorKind, ImageStore, LocalImageService, Proxies, PullSettings, Reference,
    Registries, StoreChange, pull,
};

/// Serves one repository's manifests and blobs over HTTP/1.1, one request a connection.
struct Registry {
    address: String,
    requests: Arc<AtomicUsize>,
    resumed: Arc<AtomicBool>,
}

#[derive(Clone, Default)]
struct Behaviour {
    contents: BTreeMap<String, Vec<u8>>,
    /// Basic credentials that every request must carry.
    basic: Option<String>,
    /// Ends the first answer to this path in the middle.
    cut: Option<String>,
    /// Answers other bytes for this path.
    forge: Option<String>,
}

const BEHIND_A_PROXY: &str = "http://far.invalid";

impl Registry {
    async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (requests, resumed) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let registry = Self {
            address,
            requests: Arc::clone(&requests),
            resumed: Arc::clone(&resumed),
        };
        env::spawn(async move {
            let behaviour = Arc::new(behaviour);
            let cut = Arc::new(AtomicBool::new(false));
            while let Ok((connection, _)) = listener.accept().await {
                requests.fetch_add(1, Ordering::SeqCst);
                env::spawn(answer(
                    connection,
                    Arc::clone(&behaviour),
                    Arc::clone(&cut),
                    Arc::clone(&resumed),
                ));
            }
        });
        registry
    }

    fn image(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.address)).unwrap()
    }
}

async fn answer(
    mut connection: TcpStream,
    behaviour: Arc<Behaviour>,
    cut: Arc<AtomicBool>,
    resumed: Arc<AtomicBool>,
) {
    let Some(request) = read_request(&mut connection).await else {
        return;
    };
    let path = request.split_whitespace().nth(1).unwrap();
    // Of a proxy's clients the whole URL stands there.
    let path = path.strip_prefix(BEHIND_A_PROXY).unwrap_or(path);
    let path = path.split('?').next().unwrap().to_owned();
    let (status, body) = behaviour.answer_to(&request, &path);
    if status.starts_with("206") {
        resumed.store(true, Ordering::SeqCst);
    }
    let challenge = "WWW-Authenticate: Basic realm=\"x\"\r\n";
    let extra = if status.starts_with("401") {
        challenge
    } else {
        ""
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\n{extra}Content-Length: {length}\r\n\r\n"
    );
    let ends_early = behaviour.cut.as_ref() == Some(&path) && !cut.swap(true, Ordering::SeqCst);
    let sent = if ends_early {
        &body[..length / 2]
    } else {
        &body
    };
    let _gone = connection.write_all(head.as_bytes()).await;
    let _gone = connection.write_all(sent).await;
}

async fn read_request(connection: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut buffer = [0; 1024];
        match connection.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
    }
    String::from_utf8(request).ok()
}

impl Behaviour {
    fn answer_to(&self, request: &str, path: &str) -> (&'static str, Vec<u8>) {
        let header = |name: &str| {
            let line = request
                .lines()
                .find(|line| line.to_lowercase().starts_with(name));
            line.and_then(|line| line.split_once(": "))
                .map(|(_, value)| value.to_owned())
        };
        let wanted = self.basic.as_ref().map(|basic| format!("Basic {basic}"));
        if wanted.is_some() && header("authorization: ") != wanted {
            return ("401 Unauthorized", Vec::new());
        }
        if path == "/v2/" {
            return ("200 OK", Vec::new());
        }
        let Some(content) = self.contents.get(path) else {
            let envelope = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#;
            return ("404 Not Found", envelope.to_vec());
        };
        let mut content = content.clone();
        if self.forge.as_deref() == Some(path) {
            content[0] ^= 1;
        }
        let range =
            header("range: bytes=").map(|range| range.trim_start_matches("bytes=").to_owned());
        match range.and_then(|range| range.trim_end_matches('-').parse::<usize>().ok()) {
            Some(offset) => ("206 Partial Content", content[offset..].to_vec()),
            None => ("200 OK", content),
        }
    }
}

fn image() -> OciImage {
    oci_image(
        &[
            tar_of(&[file("hello", "world")]),
            tar_of(&[file("more", "x")]),
        ],
        "amd64",
        gzip,
    )
}

/// The image's documents under the paths of the distribution protocol.
fn contents(repository: &str, image: &OciImage) -> BTreeMap<String, Vec<u8>> {
    let mut contents = BTreeMap::new();
    for (digest, content) in &image.blobs {
        contents.insert(format!("/v2/{repository}/blobs/{digest}"), content.clone());
        contents.insert(
            format!("/v2/{repository}/manifests/{digest}"),
            content.clone(),
        );
    }
    contents.insert(
        format!("/v2/{repository}/manifests/1"),
        image.blobs[&image.manifest].clone(),
    );
    contents
}

fn largest_layer(repository: &str, image: &OciImage) -> String {
    let layer = gzip(&tar_of(&[file("hello", "world")]));
    let digest = crate::Digest::of(&layer);
    assert!(image.blobs.contains_key(&digest));
    format!("/v2/{repository}/blobs/{digest}")
}

fn shared_store() -> (tempfile::TempDir, Arc<ImageStore>) {
    let (directory, store) = store();
    (directory, Arc::new(store))
}

#[tokio::test]
async fn a_pulled_image_can_be_mounted_under_its_names() {
    let image = image();
    let registry = Registry::start(Behaviour {
        contents: contents("a/b", &image),
        ..Behaviour::default()
    })
    .await;
    let (_directory, store) = shared_store();
    let reference = registry.image("a/b:1");
    let id = pull(&store, &PullSettings::default(), &reference, None)
        .await
        .unwrap();
    let found = store.status(&reference.to_string()).unwrap().unwrap();
    assert_eq!(found.id, id);
    assert_eq!(
        found.repo_digests,
        [format!("{}/a/b@{}", registry.address, image.manifest)]
    );
    assert!(!found.pinned);
    let rootfs = store.prepare_rootfs(&id.0, "c").unwrap();
    assert_eq!(
        fs::read_to_string(rootfs.path.join("hello")).unwrap(),
        "world"
    );
    store.remove_rootfs("c").unwrap();

    let by_digest = registry.image(&format!("a/b@{}", image.manifest));
    let before = registry.requests.load(Ordering::SeqCst);
    assert_eq!(
        pull(&store, &PullSettings::default(), &by_digest, None)
            .await
            .unwrap(),
        id
    );
    assert!(
        registry.requests.load(Ordering::SeqCst) - before <= 2,
        "blobs are not loaded twice"
    );
}

#[tokio::test]
async fn an_index_leads_to_the_hosts_manifest() {
    let (ours, other) = (image(), oci_image(&[tar_of(&[])], "arm64", gzip));
    let entry = |image: &OciImage, architecture: &str| {
        serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": image.blobs[&image.manifest].len(),
            "digest": image.manifest.as_str(), "platform": {"os": "linux", "architecture": architecture}})
    };
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry(&other, "arm64"), entry(&ours, "amd64")]})
        .to_string();
    let mut contents = contents("a", &ours);
    contents.insert(
        String::from("/v2/a/manifests/multi"),
        index.clone().into_bytes(),
    );
    let registry = Registry::start(Behaviour {
        contents,
        ..Behaviour::default()
    })
    .await;
    let (_directory, store) = shared_store();
    pull(
        &store,
        &PullSettings::default(),
        &registry.image("a:multi"),
        None,
    )
    .await
    .unwrap();
    let digest = crate::Digest::of(index.as_bytes());
    assert!(
        store
            .status(&format!("{}/a@{digest}", registry.address))
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_broken_connection_is_resumed() {
    let image = image();
    let cut = largest_layer("a", &image);
    let behaviour = Behaviour {
        contents: contents("a", &image),
        cut: Some(cut),
        ..Behaviour::default()
    };
    let registry = Registry::start(behaviour).await;
    let (_directory, store) = shared_store();
    pull(
        &store,
        &PullSettings::default(),
        &registry.image("a:1"),
        None,
    )
    .await
    .unwrap();
    assert!(registry.resumed.load(Ordering::SeqCst));
}

#[tokio::test]
async fn forged_content_is_refused_and_leaves_nothing() {
    let image = image();
    let forge = largest_layer("a", &image);
    let behaviour = Behaviour {
        contents: contents("a", &image),
        forge: Some(forge),
        ..Behaviour::default()
    };
    let registry = Registry::start(behaviour).await;
    let (_directory, store) = shared_store();
    pull(
        &store,
        &PullSettings::default(),
        &registry.image("a:1"),
        None,
    )
    .await
    .unwrap_err();
    assert!(store.list().unwrap().is_empty());
    assert_eq!(
        fs::read_dir(store.root().join("blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(
        fs::read_dir(store.root().join("ingest")).unwrap().count(),
        0
    );
}

#[tokio::test]
async fn failures_have_kinds() {
    let image = image();
    let behaviour = Behaviour {
        contents: contents("a", &image),
        basic: Some(String::from("dTpw")),
        ..Behaviour::default()
    };
    let registry = Registry::start(behaviour).await;
    let (_directory, store) = shared_store();
    let settings = PullSettings::default();
    let auth = PullAuth {
        username: String::from("u"),
        password: String::from("p"),
        ..PullAuth::default()
    };
    let kind = |result: crate::Result<cri::ImageId>| result.unwrap_err().kind();
    assert_eq!(
        kind(pull(&store, &settings, &registry.image("a:1"), None).await),
        ErrorKind::Unauthorized
    );
    assert_eq!(
        kind(pull(&store, &settings, &registry.image("a:2"), Some(&auth)).await),
        ErrorKind::NotFound
    );
    let closed = Reference::parse("127.0.0.1:1/a").unwrap();
    assert_eq!(
        kind(pull(&store, &settings, &closed, None).await),
        ErrorKind::Network
    );
    pull(&store, &settings, &registry.image("a:1"), Some(&auth))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_mirror_serves_what_the_registry_cannot() {
    let image = image();
    let registry = Registry::start(Behaviour {
        contents: contents("hub/official/a", &image),
        ..Behaviour::default()
    })
    .await;
    let yaml = format!(
        "mirrors: {{gone.invalid: {{endpoint: [\"http://127.0.0.1:1\", \"http://{}/v2/hub\"], rewrite: {{\"^team/(.*)\": \"official/$1\"}}}}}}",
        registry.address
    );
    let settings = PullSettings {
        registries: Registries::parse(&yaml).unwrap(),
        default_endpoint: DefaultEndpoint::Disabled,
        ..PullSettings::default()
    };
    let (_directory, store) = shared_store();
    let reference = Reference::parse("gone.invalid/team/a:1").unwrap();
    pull(&store, &settings, &reference, None).await.unwrap();
    assert_eq!(
        store.list().unwrap()[0].repo_tags,
        ["gone.invalid/team/a:1"]
    );
}

#[tokio::test]
async fn a_registry_is_reached_through_a_proxy_unless_it_is_named() {
    let image = image();
    let proxy = Registry::start(Behaviour {
        contents: contents("hub/a", &image),
        ..Behaviour::default()
    })
    .await;
    let yaml = format!("mirrors: {{far.invalid: {{endpoint: [\"{BEHIND_A_PROXY}/v2/hub\"]}}}}");
    let with = |no_proxy: &str| PullSettings {
        registries: Registries::parse(&yaml).unwrap(),
        default_endpoint: DefaultEndpoint::Disabled,
        proxies: Arc::new(Proxies {
            http: Some(format!("http://{}", proxy.address)),
            https: None,
            no_proxy: no_proxy.to_owned(),
        }),
    };
    let (_directory, store) = shared_store();
    let reference = Reference::parse("far.invalid/a:1").unwrap();
    let straight = pull(&store, &with("other,.invalid"), &reference, None).await;
    straight.expect_err("nobody is there");
    assert_eq!(proxy.requests.load(Ordering::SeqCst), 0);
    pull(&store, &with("10.0.0.0/8,other"), &reference, None)
        .await
        .unwrap();
    assert!(proxy.requests.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn the_kubelet_gets_its_own_words() {
    let (_directory, store) = shared_store();
    let service = LocalImageService::new(store, PullSettings::default());
    let pull = |reference: &str| ImageSpec {
        reference: reference.to_owned(),
        ..ImageSpec::default()
    };
    assert_eq!(
        service
            .pull_image(&pull("Upper"), None)
            .await
            .unwrap_err()
            .reason(),
        "InvalidImageName"
    );
    assert_eq!(
        service
            .pull_image(&pull("127.0.0.1:1/a"), None)
            .await
            .unwrap_err()
            .reason(),
        "ErrImagePull"
    );
    assert_eq!(service.image_status("nothing").await.unwrap(), None);
    let missing = service
        .prepare_rootfs(
            &cri::ImageId(String::from("nothing")),
            &cri::ContainerId(String::from("c")),
        )
        .await;
    assert!(missing.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_running_server_notices_what_another_process_does() {
    let (directory, store) = shared_store();
    let mut watch = store.watch().unwrap();
    let archive = store.root().join("bundle.tar");
    // Written beside and renamed, as a careful copier does.
    let beside = directory.path().join("copying");
    fs::write(&beside, docker_archive("a:1", &[tar_of(&[file("x", "y")])])).unwrap();
    fs::rename(&beside, &archive).unwrap();
    let seen = env::timeout(Duration::from_secs(10), watch.changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(seen, StoreChange::AirGapFile(String::from("bundle.tar")));
    assert_eq!(store.air_gap_files().unwrap().archives, ["bundle.tar"]);
    store.import_air_gap("bundle.tar").unwrap();
    assert!(
        store.air_gap_files().unwrap().archives.is_empty(),
        "an unchanged archive is imported once"
    );
    let seen = env::timeout(Duration::from_secs(10), watch.changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(seen, StoreChange::Images);
    store.remove("a:1").unwrap();
    assert_eq!(
        store.air_gap_files().unwrap().archives,
        ["bundle.tar"],
        "its images are gone"
    );
}

#[test]
fn lists_and_unreadable_files_are_told_apart() {
    let (_directory, store) = store();
    fs::write(
        store.root().join("images.txt"),
        "nginx # web\n\n# none\nquay.io/a/b:1\n",
    )
    .unwrap();
    fs::write(store.root().join("bad.txt"), "UPPER").unwrap();
    fs::write(store.root().join("b.tar.xz"), "").unwrap();
    let files = store.air_gap_files().unwrap();
    let listed: Vec<String> = files.listed.iter().map(ToString::to_string).collect();
    assert_eq!(listed, ["docker.io/library/nginx:latest", "quay.io/a/b:1"]);
    let refused: Vec<&str> = files
        .refused
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(refused, ["b.tar.xz", "bad.txt"]);
}

#[tokio::test]
async fn a_pull_waits_for_the_archive_that_has_the_image() {
    let (_directory, store) = shared_store();
    let archive = docker_archive("127.0.0.1:1/only/here:1", &[tar_of(&[file("x", "y")])]);
    fs::write(store.root().join("bundle.tar"), archive).unwrap();
    fs::write(store.root().join("list.txt"), "127.0.0.1:1/unreachable:1").unwrap();
    let service = Arc::new(LocalImageService::new(
        Arc::clone(&store),
        PullSettings::default(),
    ));
    let (trigger, shutdown) = env::Shutdown::new();
    let keeping = env::spawn(Arc::clone(&service).keep_air_gap_imported(shutdown));
    let image = |name: &str| ImageSpec {
        reference: name.to_owned(),
        ..ImageSpec::default()
    };
    let pulled = service
        .pull_image(&image("127.0.0.1:1/only/here:1"), None)
        .await
        .unwrap();
    assert!(store.status(&pulled.0).unwrap().unwrap().pinned);
    assert!(
        service
            .pull_image(&image("127.0.0.1:1/nowhere:1"), None)
            .await
            .is_err()
    );

    // One that is put there later.
    let later = docker_archive("later:1", &[tar_of(&[file("z", "y")])]);
    let mut watch = store.watch().unwrap();
    fs::write(store.root().join("later.tar"), later).unwrap();
    while store.status("later:1").unwrap().is_none() {
        env::timeout(Duration::from_secs(10), watch.changed())
            .await
            .unwrap()
            .unwrap();
    }
    trigger.trigger();
    env::timeout(Duration::from_secs(10), keeping)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_changed_registries_file_counts_from_the_next_pull() {
    let image_of = image();
    let registry = Registry::start(Behaviour {
        contents: contents("a", &image_of),
        ..Behaviour::default()
    })
    .await;
    let (directory, store) = shared_store();
    let path = directory.path().join("registries.yaml");
    let service = Arc::new(LocalImageService::new(store, PullSettings::default()));
    let (_trigger, shutdown) = env::Shutdown::new();
    let following = Arc::clone(&service)
        .follow_registries(path.clone(), DefaultEndpoint::Disabled, shutdown)
        .unwrap();
    env::spawn(following);
    let wanted = ImageSpec {
        reference: String::from("gone.invalid/a:1"),
        ..ImageSpec::default()
    };
    fs::write(&path, "mirrors: [").unwrap();
    fs::write(
        &path,
        format!(
            "mirrors: {{gone.invalid: {{endpoint: [\"http://{}\"]}}}}",
            registry.address
        ),
    )
    .unwrap();
    env::timeout(Duration::from_secs(20), async {
        while service.pull_image(&wanted, None).await.is_err() {}
    })
    .await
    .unwrap();
}
