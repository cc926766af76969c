//! Archives, OCI layouts and lists beside the store, put there before and while a node runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cri::{ImageService, ImageSpec};

use crate::arrivals::Contents;
use crate::contents;
use crate::test_archives::{
    OciImage, docker_archive, file, gzip, oci_archive, oci_image, store, tar_of,
};
use crate::{ImageStore, LocalImageService, PullSettings, Reference};

const PATIENCE: Duration = Duration::from_secs(20);

fn image(content: &str) -> OciImage {
    oci_image(&[tar_of(&[file("x", content)])], "amd64", gzip)
}

fn names(images: &[&str]) -> Contents {
    let names = images.iter().map(|name| Reference::parse(name).unwrap());
    Contents::Named(names.collect())
}

fn spec(name: &str) -> ImageSpec {
    ImageSpec {
        reference: name.to_owned(),
        ..ImageSpec::default()
    }
}

fn service() -> (tempfile::TempDir, Arc<ImageStore>, Arc<LocalImageService>) {
    let (directory, store) = store();
    let store = Arc::new(store);
    let service = LocalImageService::new(Arc::clone(&store), PullSettings::default());
    (directory, store, Arc::new(service))
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    env::timeout(PATIENCE, work).await.expect("in time")
}

/// Unpacks an archive as a directory beside the store, the index first.
fn lay_out(archive: &[u8], folder: &Path) {
    let mut later = Vec::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = folder.join(entry.path().unwrap());
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if path.ends_with("index.json") {
            fs::write(path, content).unwrap();
        } else {
            later.push((path, content));
        }
    }
    for (path, content) in later {
        fs::write(path, content).unwrap();
    }
}

#[test]
fn what_an_archive_has_is_known_before_it_is_imported() {
    let (directory, _store) = store();
    let image = image("a");
    let digest = format!("docker.io/library/a@{}", image.manifest);
    let archive = oci_archive(&[("docker.io/library/a:1", &image)]);
    let path = directory.path().join("plain.tar");
    fs::write(&path, &archive).unwrap();
    assert_eq!(contents::of(&path), names(&["a:1", &digest]));
    let docker = docker_archive("b:1", &[tar_of(&[file("x", "y")])]);
    fs::write(&path, docker).unwrap();
    assert_eq!(contents::of(&path), names(&["b:1"]));
    fs::write(&path, gzip(&archive)).unwrap();
    assert_eq!(contents::of(&path), Contents::Unknown);
    fs::write(&path, &archive[..700]).unwrap();
    assert_eq!(contents::of(&path), Contents::Unknown);
    let folder = directory.path().join("folder");
    lay_out(&archive, &folder);
    assert_eq!(contents::of(&folder), names(&["a:1", &digest]));
}

#[tokio::test]
async fn a_pod_waits_for_the_archive_that_may_have_its_image_and_for_no_other() {
    let (_directory, store, service) = service();
    let wanted = "127.0.0.1:1/carried:1";
    let archive = docker_archive(wanted, &[tar_of(&[file("x", "y")])]);
    fs::write(store.root().join("slow.tar"), archive).unwrap();
    let expected = BTreeMap::from([("slow.tar".to_owned(), names(&[wanted]))]);
    service.arrivals.expect(expected);
    let other = spec("127.0.0.1:1/other:1");
    let failed = within(service.pull_image(&other, None)).await;
    assert!(
        matches!(failed, Err(cri::Error::RegistryUnavailable(_))),
        "{failed:?}"
    );
    let waiting = env::spawn({
        let service = Arc::clone(&service);
        async move { service.pull_image(&spec(wanted), None).await }
    });
    assert_eq!(service.arrivals.next().as_deref(), Some("slow.tar"));
    let arrivals = Arc::clone(&service.arrivals);
    env::spawn_blocking(move || store.import_air_gap_for("slow.tar", &arrivals).unwrap())
        .await
        .unwrap();
    // The image is there before its archive is done.
    within(waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn oci_layouts_are_imported_as_directories_also_while_a_node_runs() {
    let (_directory, store, service) = service();
    let (first, second) = (image("first"), image("second"));
    let layout = |name: &str, image: &OciImage| oci_archive(&[(name, image)]);
    lay_out(
        &layout("first.test/a:1", &first),
        &store.root().join("before"),
    );
    let (trigger, shutdown) = env::Shutdown::new();
    let keeping = env::spawn(Arc::clone(&service).keep_air_gap_imported(shutdown));
    within(service.pull_image(&spec("first.test/a:1"), None))
        .await
        .unwrap();
    lay_out(
        &layout("second.test/b:1", &second),
        &store.root().join("later"),
    );
    let mut watch = store.watch().unwrap();
    within(async {
        // Once it has been imported, it does not wait any more.
        while !store.air_gap_files().unwrap().archives.is_empty() {
            watch.changed().await.unwrap();
        }
    })
    .await;
    let found = store.status("second.test/b:1").unwrap().unwrap();
    assert!(found.pinned);
    trigger.trigger();
    within(keeping).await.unwrap().unwrap();
}

#[test]
fn a_damaged_layout_is_refused_and_links_are_not_followed() {
    let (directory, store) = store();
    let image = image("a");
    let archive = oci_archive(&[("a:1", &image)]);
    let folder = directory.path().join("changed");
    lay_out(&archive, &folder);
    let blob = folder
        .join("blobs/sha256")
        .join(image.blobs.keys().next().unwrap().hex());
    let mut content = fs::read(&blob).unwrap();
    content[3] ^= 1;
    fs::write(&blob, &content).unwrap();
    let told = store.import(&folder).unwrap_err().to_string();
    assert!(told.contains("content has digest"), "{told}");
    fs::remove_file(&blob).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &blob).unwrap();
    let told = store.import(&folder).unwrap_err().chain();
    assert!(told.contains("open ") && told.contains("changed"), "{told}");
    fs::remove_file(&blob).unwrap();
    assert!(store.import(&folder).is_err(), "a blob is missing");
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn an_archive_that_is_cut_short_or_changed_brings_nothing() {
    let (directory, store) = store();
    let image = image("a");
    let whole = oci_archive(&[("a:1", &image)]);
    let path = directory.path().join("bundle.tar");
    let layer = image.blobs.values().max_by_key(|content| content.len());
    let layer = layer.unwrap().as_slice();
    let at = whole.windows(layer.len()).position(|found| found == layer);
    let mut changed = whole.clone();
    changed[at.unwrap() + layer.len() / 2] ^= 1;
    let cuts = [0, 1, 511, 513, 1500, whole.len() / 2].map(|length| whole[..length].to_vec());
    for (number, damaged) in cuts.into_iter().chain([changed]).enumerate() {
        fs::write(&path, damaged).unwrap();
        let told = store.import(&path).unwrap_err().chain();
        assert!(told.contains("bundle.tar"), "{number}: {told}");
        assert!(store.list().unwrap().is_empty(), "{number}");
    }
    fs::write(&path, &whole).unwrap();
    store.import(&path).unwrap();
}
