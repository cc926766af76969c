//! Pulls from other nodes that have an image, have not, or lie.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use cri::{ImageService, ImageSpec, SharedImages};
use tokio::sync::mpsc;

use crate::test_archives::{OciImage, file, gzip, oci_archive, oci_image, store, tar_of};
use crate::{
    ErrorKind, LocalImageService, Peer, Peers, Pieces, PullSettings, Reference, Registries, pull,
};

/// A node that answers with the images of a service; `forges` changes a byte of every layer.
struct Node {
    service: LocalImageService,
    forges: bool,
    asked: AtomicUsize,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Node")
    }
}

#[async_trait]
impl Peer for Node {
    fn name(&self) -> &'static str {
        "neighbour"
    }

    async fn get(&self, path: &str) -> io::Result<(u16, Pieces)> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let Some(found) = self.find(path).await else {
            return Ok((404, mpsc::channel(1).1));
        };
        let (sender, pieces) = mpsc::channel(1);
        env::spawn(async move {
            for piece in found.chunks(7) {
                let sent = sender.send(Ok(Bytes::copy_from_slice(piece))).await;
                if sent.is_err() {
                    return;
                }
            }
        });
        Ok((200, pieces))
    }
}

impl Node {
    async fn find(&self, path: &str) -> Option<Vec<u8>> {
        let (path, registry) = path.split_once("?ns=").unwrap();
        let path = path.strip_prefix("/v2/").unwrap();
        if let Some((repository, named)) = path.split_once("/manifests/") {
            let image = format!("{registry}/{repository}:{named}");
            let found = self.service.manifest(&image).await.unwrap()?;
            return Some(found.document);
        }
        let (_repository, digest) = path.split_once("/blobs/").unwrap();
        let mut found = self.service.content(digest).await.unwrap()?;
        let mut content = Vec::new();
        io::Read::read_to_end(&mut found.file, &mut content).unwrap();
        assert_eq!(content.len() as u64, found.size_bytes);
        if self.forges {
            content[0] ^= 1;
        }
        Some(content)
    }
}

#[derive(Debug)]
struct Nodes(Vec<Arc<Node>>);

impl Peers for Nodes {
    fn all(&self) -> Vec<Arc<dyn Peer>> {
        self.0.iter().map(|node| Arc::clone(node) as _).collect()
    }
}

fn image() -> OciImage {
    oci_image(&[tar_of(&[file("x", "shared")])], "amd64", gzip)
}

/// A node that has some images.
fn node(images: &[(&str, &OciImage)], forges: bool) -> (tempfile::TempDir, Arc<Node>) {
    let (directory, store) = store();
    if !images.is_empty() {
        let archive = oci_archive(images);
        store.import_stream("test", archive.as_slice()).unwrap();
    }
    let service = LocalImageService::new(Arc::new(store), settings(""));
    let node = Node {
        service,
        forges,
        asked: AtomicUsize::new(0),
    };
    (directory, Arc::new(node))
}

fn settings(registries: &str) -> PullSettings {
    PullSettings {
        registries: Registries::parse(registries).unwrap(),
        ..PullSettings::default()
    }
}

/// A node without images that has these for neighbours, and mirrors for the registry of the tests.
fn newcomer(neighbours: &[&Arc<Node>]) -> (tempfile::TempDir, LocalImageService) {
    let (directory, store) = store();
    let nodes = neighbours.iter().map(|node| Arc::clone(node)).collect();
    let settings = settings("mirrors: {\"127.0.0.1:1\": {}}");
    let service = LocalImageService::new(Arc::new(store), settings);
    (directory, service.with_peers(Arc::new(Nodes(nodes))))
}

fn spec(name: &str) -> ImageSpec {
    ImageSpec {
        reference: name.to_owned(),
        ..ImageSpec::default()
    }
}

#[tokio::test]
async fn the_first_neighbour_that_has_an_image_gives_it() {
    let image = image();
    let (_a, without) = node(&[], false);
    let (_b, with) = node(&[("127.0.0.1:1/a/b:1", &image)], false);
    let (_c, service) = newcomer(&[&without, &with]);
    let id = service.pull_image(&spec("127.0.0.1:1/a/b:1"), None).await;
    let found = service.image_status("127.0.0.1:1/a/b:1").await.unwrap();
    assert_eq!(found.unwrap().id, id.unwrap());
    assert_eq!(without.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn nobody_is_asked_for_what_only_a_registry_can_tell() {
    let image = image();
    let names = ["127.0.0.1:1/a:latest", "127.0.0.1:2/a:1"];
    let (_a, with) = node(&[(names[0], &image), (names[1], &image)], false);
    let (_b, service) = newcomer(&[&with]);
    for name in names {
        let failed = service.pull_image(&spec(name), None).await;
        assert!(matches!(failed, Err(cri::Error::RegistryUnavailable(_))));
    }
    assert_eq!(with.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_neighbour_that_lies_is_not_believed_and_the_next_one_is_asked() {
    let image = image();
    let name = "127.0.0.1:1/a:1";
    let (_a, lying) = node(&[(name, &image)], true);
    let (_b, service) = newcomer(&[&lying]);
    assert!(service.pull_image(&spec(name), None).await.is_err());
    assert!(service.list_images().await.unwrap().is_empty());
    let (_c, honest) = node(&[(name, &image)], false);
    let (_d, service) = newcomer(&[&lying, &honest]);
    service.pull_image(&spec(name), None).await.unwrap();
}

#[tokio::test]
async fn only_what_an_image_needs_is_given() {
    let image = image();
    let (_a, with) = node(&[("a.test/a:1", &image)], false);
    let stray = with.service.store().layout.put_blob(b"nobody's").unwrap();
    let given = with.service.content(stray.as_str()).await.unwrap();
    assert!(given.is_none());
    for other in ["sha256:../../etc/passwd", "", "sha256:0"] {
        assert!(with.service.content(other).await.unwrap().is_none());
    }
    let manifest = with.service.manifest("a.test/a:1").await.unwrap().unwrap();
    assert_eq!(manifest.digest, image.manifest.as_str());
    assert!(with.service.manifest("a.test/b:1").await.unwrap().is_none());
}

#[tokio::test]
async fn the_command_line_asks_registries_only() {
    let (_directory, store) = store();
    let wanted = Reference::parse("127.0.0.1:1/a:1").unwrap();
    let settings = settings("mirrors: {\"*\": {}}");
    let failed = pull(&Arc::new(store), &settings, &wanted, None).await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Network);
}
