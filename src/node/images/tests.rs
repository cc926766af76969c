//! The store through its public face, with archives built here.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::test_archives::*;
use crate::{Digest, Error, ErrorKind, ImageStore, Refusal, UnpackLimits};

fn import(store: &ImageStore, archive: &[u8]) -> crate::Result<Vec<crate::ImportedImage>> {
    store.import_stream("test", archive)
}

/// The directory of the only unpacked layer.
fn only_layer(store: &ImageStore) -> PathBuf {
    let mut layers = fs::read_dir(store.root().join("layers")).unwrap();
    let layer = layers.next().unwrap().unwrap().path().join("fs");
    assert!(layers.next().is_none());
    layer
}

fn unpack(members: &[Member]) -> crate::Result<(tempfile::TempDir, PathBuf)> {
    let (directory, store) = store();
    import(&store, &docker_archive("a:1", &[tar_of(members)]))?;
    let layer = only_layer(&store);
    Ok((directory, layer))
}

fn refusal(members: &[Member]) -> Refusal {
    match unpack(members) {
        Err(Error::Refused { refusal, .. }) => refusal,
        other => panic!(
            "expected a refusal, got {:?}",
            other.map(|(_, layer)| layer)
        ),
    }
}

#[test]
fn every_form_of_archive_gives_the_same_image() {
    let layer = tar_of(&[file("hello", "world")]);
    let image = oci_image(std::slice::from_ref(&layer), "amd64", gzip);
    let zstd = |plain: &[u8]| zstd::encode_all(plain, 1).unwrap();
    for archive in [
        docker_archive("nginx", std::slice::from_ref(&layer)),
        oci_archive(&[("docker.io/library/nginx:latest", &image)]),
        oci_archive(&[(
            "nginx",
            &oci_image(std::slice::from_ref(&layer), "amd64", |plain| {
                zstd::encode_all(plain, 1).unwrap()
            }),
        )]),
        gzip(&oci_archive(&[("nginx:latest", &image)])),
        zstd(&docker_archive("nginx", std::slice::from_ref(&layer))),
    ] {
        let (_directory, store) = store();
        let imported = import(&store, &archive).unwrap();
        assert_eq!(imported[0].tags, ["docker.io/library/nginx:latest"]);
        let found = store.status("nginx").unwrap().unwrap();
        assert_eq!(
            found.id.0,
            Digest::of(&config_of(std::slice::from_ref(&layer), "amd64")).to_string()
        );
        assert!(found.pinned);
        assert_eq!(found.config.cmd, ["/bin/sh"]);
        assert_eq!(found.config.volumes, ["/data"]);
        assert_eq!(
            fs::read_to_string(only_layer(&store).join("hello")).unwrap(),
            "world"
        );
    }
}

#[test]
fn what_is_exported_is_imported_elsewhere_as_it_was() {
    let (_directory, from) = store();
    let shared = tar_of(&[file("base", "1")]);
    let one = oci_image(
        &[shared.clone(), tar_of(&[file("one", "1")])],
        "amd64",
        gzip,
    );
    import(&from, &oci_archive(&[("one:1", &one)])).unwrap();
    import(&from, &docker_archive("two:1", &[shared])).unwrap();
    from.tag(
        "one:1",
        &crate::Reference::parse("other.example/one:2").unwrap(),
    )
    .unwrap();
    let names = [
        "one:1".to_owned(),
        "two:1".to_owned(),
        "other.example/one:2".to_owned(),
    ];
    let mut archive = Vec::new();
    from.export(&names, &mut archive).unwrap();
    let mut again = Vec::new();
    from.export(&names, &mut again).unwrap();
    assert_eq!(archive, again);

    let (_directory, to) = store();
    import(&to, &archive).unwrap();
    let known = |store: &ImageStore| -> Vec<_> {
        let images = store.list().unwrap().into_iter();
        images.map(|image| (image.id, image.repo_tags)).collect()
    };
    assert_eq!(known(&to), known(&from));
    assert!(from.export(&["none".to_owned()], Vec::new()).is_err());
}

#[test]
fn a_changed_byte_or_a_missing_layer_is_found() {
    let (_directory, store) = store();
    let image = oci_image(&[tar_of(&[file("a", "1")])], "amd64", gzip);
    import(&store, &oci_archive(&[("a:1", &image)])).unwrap();
    assert_eq!(store.verify("a:1").unwrap(), Vec::<String>::new());
    let blobs = fs::read_dir(store.root().join("blobs/sha256")).unwrap();
    let blobs: Vec<PathBuf> = blobs.map(|blob| blob.unwrap().path()).collect();
    let mut content = fs::read(&blobs[0]).unwrap();
    content[0] ^= 1;
    fs::write(&blobs[0], content).unwrap();
    fs::remove_file(&blobs[1]).unwrap();
    let layer = only_layer(&store);
    fs::remove_dir_all(layer.parent().unwrap()).unwrap();
    let wrong = store.verify("a:1").unwrap();
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    assert!(store.verify("none").is_err());
}

#[test]
fn several_images_of_one_archive_share_their_layers() {
    let (_directory, store) = store();
    let base = tar_of(&[file("base", "1")]);
    let one = oci_image(&[base.clone(), tar_of(&[file("one", "1")])], "amd64", gzip);
    let two = oci_image(&[base, tar_of(&[file("two", "2")])], "amd64", gzip);
    import(&store, &oci_archive(&[("one:1", &one), ("two:1", &two)])).unwrap();
    assert_eq!(store.list().unwrap().len(), 2);
    assert_eq!(
        fs::read_dir(store.root().join("layers")).unwrap().count(),
        3
    );
    assert!(
        store
            .status(&format!("one@{}", one.manifest))
            .unwrap()
            .is_some()
    );

    store.remove("one:1").unwrap();
    assert!(store.status("one:1").unwrap().is_none());
    assert_eq!(
        fs::read_dir(store.root().join("layers")).unwrap().count(),
        2
    );
    store.remove("two:1").unwrap();
    assert_eq!(
        fs::read_dir(store.root().join("layers")).unwrap().count(),
        0
    );
    assert_eq!(
        fs::read_dir(store.root().join("blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
    store.remove("two:1").unwrap();
}

#[test]
fn of_several_platforms_the_hosts_is_taken() {
    let (_directory, store) = store();
    let ours = oci_image(&[tar_of(&[file("ours", "1")])], "amd64", gzip);
    let other = oci_image(&[tar_of(&[file("other", "1")])], "arm64", gzip);
    import(&store, &oci_archive(&[("a:1", &other), ("a:1", &ours)])).unwrap();
    assert!(only_layer(&store).join("ours").exists());
    let error = import(&store, &oci_archive(&[("b:1", &other)])).unwrap_err();
    assert!(
        error.to_string().contains("holds no image for this node"),
        "{error}"
    );
}

#[test]
fn content_that_is_not_what_its_name_says_is_refused() {
    let (_directory, store) = store();
    let layer = tar_of(&[file("a", "1")]);
    let mut image = oci_image(std::slice::from_ref(&layer), "amd64", gzip);
    let blob = Digest::of(&gzip(&layer));
    image.blobs.insert(blob, gzip(&tar_of(&[file("a", "2")])));
    assert!(matches!(
        import(&store, &oci_archive(&[("a:1", &image)])),
        Err(Error::DigestMismatch { .. })
    ));

    let mut archive = docker_archive("a:1", &[layer]);
    let at = archive
        .windows(6)
        .position(|bytes| bytes == b"\x31\0\0\0\0\0")
        .unwrap();
    archive[at] = b'9';
    assert!(import(&store, &archive).is_err());
    assert!(store.list().unwrap().is_empty());
    assert_eq!(
        fs::read_dir(store.root().join("ingest")).unwrap().count(),
        0
    );
    assert_eq!(
        fs::read_dir(store.root().join("blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn broken_archives_are_refused_with_a_reason() {
    let (_directory, store) = store();
    for (archive, reason) in [
        (b"BZh91AY&SY".to_vec(), "bzip2"),
        (b"\xfd7zXZ\0\0".to_vec(), "xz"),
        (
            tar_of(&[file("a", "b")]),
            "neither a docker-archive nor an OCI layout",
        ),
        (tar_of(&[file("manifest.json", "[{}]")]), "not readable"),
        (
            tar_of(&[file("a", "b").claiming(1 << 20)]),
            "ends in the middle",
        ),
        (docker_archive("UPPER:1", &[tar_of(&[])]), "lowercase"),
        (vec![b'x'; 4096], "damaged"),
        (Vec::new(), "neither"),
    ] {
        let error = import(&store, &archive).unwrap_err();
        assert!(
            error.chain().contains(reason),
            "{} should say {reason}",
            error.chain()
        );
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    }
}

#[test]
fn hostile_layers_are_refused() {
    let long = "a/".repeat(2500) + "b";
    let table: Vec<(Vec<Member>, Refusal)> = vec![
        (vec![file("../escape", "x")], Refusal::PathEscapes),
        (vec![file("a/../../escape", "x")], Refusal::PathEscapes),
        (
            vec![hard_link("link", "../../../etc/passwd")],
            Refusal::PathEscapes,
        ),
        (
            vec![hard_link("link", "/etc/passwd")],
            Refusal::HardLinkTarget,
        ),
        (
            vec![symlink("host", "/etc"), hard_link("link", "host/passwd")],
            Refusal::HardLinkTarget,
        ),
        (
            vec![symlink("etc", "/etc"), hard_link("link", "etc/passwd")],
            Refusal::TooManyLinks,
        ),
        (
            vec![file("a", "x"), hard_link("a", "a")],
            Refusal::HardLinkTarget,
        ),
        (
            vec![directory("d", 0o755), hard_link("l", "d")],
            Refusal::HardLinkTarget,
        ),
        (
            vec![file("f", "x"), file("f/g", "x")],
            Refusal::ParentNotDirectory,
        ),
        (
            vec![symlink("a", "b"), symlink("b", "a"), file("a/x", "x")],
            Refusal::TooManyLinks,
        ),
        (vec![file(".wh.", "")], Refusal::Whiteout),
        (vec![file(".wh...", "")], Refusal::Whiteout),
        (vec![file("d/.wh..", "")], Refusal::Whiteout),
        (vec![file(".wh.d/x", "")], Refusal::Whiteout),
        (vec![device("hide", b'3', (0, 0))], Refusal::WhiteoutDevice),
        (
            vec![directory("d", 0o755).pax("SCHILY.xattr.trusted.overlay.redirect", b"/etc")],
            Refusal::OverlayAttribute,
        ),
        (
            vec![directory("d", 0o755).pax("SCHILY.xattr.user.overlay.opaque", b"y")],
            Refusal::OverlayAttribute,
        ),
        (
            vec![file("sparse", "").pax("GNU.sparse.major", b"1")],
            Refusal::Sparse,
        ),
        (
            vec![member("sparse", b'S').claiming(1 << 40)],
            Refusal::Sparse,
        ),
        (vec![member("odd", b'V')], Refusal::Kind),
        (
            vec![file("huge", "").claiming(1 << 40)],
            Refusal::TooManyBytes,
        ),
        (
            vec![file("x", "").pax("path", long.as_bytes())],
            Refusal::PathTooLong,
        ),
        (
            vec![file("x", "").pax("path", "n".repeat(256).as_bytes())],
            Refusal::PathTooLong,
        ),
        (
            vec![file("x", "").pax("path", b"a\0b")],
            Refusal::PathMalformed,
        ),
        (
            vec![file("x", "").pax("path", &vec![b'a'; 2 << 20])],
            Refusal::ExtensionTooLong,
        ),
        (vec![file("x", "").pax("size", b"-1")], Refusal::Header),
        (
            vec![file("x", "").pax("uid", b"4294967295")],
            Refusal::Owner,
        ),
        (
            vec![symlink("root", "/"), symlink("x", "")],
            Refusal::PathMalformed,
        ),
        (vec![file("../.", "")], Refusal::PathEscapes),
        (vec![symlink("./", "/etc")], Refusal::RootNotDirectory),
        (
            (0..1001)
                .map(|number| file(&format!("f{number}"), ""))
                .collect(),
            Refusal::TooManyEntries,
        ),
    ];
    for (number, (members, expected)) in table.iter().enumerate() {
        assert_eq!(refusal(members), *expected, "row {number}");
    }
}

#[test]
fn links_inside_the_image_are_followed_inside_the_image() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().display().to_string();
    let (_directory, layer) = unpack(&[
        symlink("up", "../../../../../../../../../.."),
        file("up/from-up", "1"),
        symlink("absolute", &target),
        file("absolute/file", "2"),
        symlink("lib", "usr/lib"),
        file("lib/libc.so", "3"),
    ])
    .unwrap();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(layer.join("from-up").exists());
    assert_eq!(
        fs::read_to_string(layer.join(target.trim_start_matches('/')).join("file")).unwrap(),
        "2"
    );
    assert_eq!(
        fs::read_to_string(layer.join("usr/lib/libc.so")).unwrap(),
        "3"
    );
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let (_directory, store) = store();
    let image = oci_image(
        &[tar_of(&[file("zeros", "").content(vec![0; 17 << 20])])],
        "amd64",
        gzip,
    );
    let error = import(&store, &oci_archive(&[("a:1", &image)])).unwrap_err();
    assert!(
        error.chain().contains("more bytes than allowed"),
        "{}",
        error.chain()
    );
}

#[test]
fn metadata_arrives_as_the_layer_says() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (_directory, layer) = unpack(&[
        directory("./", 0o711),
        directory("d", 0o1777).owner(7),
        file("d/suid", "x")
            .mode(0o4755)
            .owner(1000)
            .pax("SCHILY.xattr.security.capability", &capability),
        file("d/late", "x")
            .pax("mtime", b"1600000000.5")
            .pax("SCHILY.xattr.trusted.other", b"x"),
        hard_link("d/again", "d/suid"),
        device("null", b'3', (1, 3)).mode(0o666),
        device("pipe", b'6', (0, 0)),
        file("twice", "first"),
        file("twice", "second"),
        directory("gone", 0o755),
        file("gone/x", "x"),
        file("gone", "a file now"),
        file(&format!("{}/deep", "n".repeat(120)), "long name"),
    ])
    .unwrap();
    let stat = |path: &str| fs::symlink_metadata(layer.join(path)).unwrap();
    assert_eq!(stat("").mode() & 0o7777, 0o711);
    assert_eq!(
        (
            stat("d").mode() & 0o7777,
            stat("d").uid(),
            stat("d").mtime()
        ),
        (0o1777, 7, 1_700_000_000)
    );
    assert_eq!(
        (
            stat("d/suid").mode() & 0o7777,
            stat("d/suid").uid(),
            stat("d/suid").nlink()
        ),
        (0o4755, 1000, 2)
    );
    assert_eq!(
        (stat("d/late").mtime(), stat("d/late").mtime_nsec()),
        (1_600_000_000, 500_000_000)
    );
    assert!(
        stat("null").file_type().is_char_device()
            && stat("null").rdev() == rustix::fs::makedev(1, 3)
    );
    assert!(stat("pipe").file_type().is_fifo());
    assert_eq!(fs::read_to_string(layer.join("twice")).unwrap(), "second");
    assert_eq!(
        fs::read_to_string(layer.join("gone")).unwrap(),
        "a file now"
    );
    assert_eq!(
        fs::read_to_string(layer.join("n".repeat(120)).join("deep")).unwrap(),
        "long name"
    );
    let mut value = [0; 32];
    assert_eq!(
        rustix::fs::lgetxattr(layer.join("d/suid"), "security.capability", &mut value).unwrap(),
        capability.len()
    );
    assert!(rustix::fs::lgetxattr(layer.join("d/late"), "trusted.other", &mut value).is_err());
}

#[test]
fn a_root_filesystem_shows_the_layers_together() {
    let (_directory, store) = store();
    let lower = tar_of(&[
        directory("./", 0o755),
        directory("etc", 0o750).owner(5),
        file("etc/kept", "kept"),
        file("etc/removed", "x"),
        directory("opaque", 0o755),
        file("opaque/old", "x"),
        directory("again", 0o755),
        file("again/old", "x"),
    ]);
    let upper = tar_of(&[
        file("etc/.wh.removed", ""),
        file("etc/added", "added"),
        file("opaque/.wh..wh..opq", ""),
        file("opaque/new", "x"),
        file(".wh.again", ""),
        directory("again", 0o755),
        file("again/new", "x"),
        file(".wh..wh.plnk/1", ""),
    ]);
    import(
        &store,
        &oci_archive(&[("a:1", &oci_image(&[lower, upper], "amd64", gzip))]),
    )
    .unwrap();
    let rootfs = store.prepare_rootfs("a:1", "container").unwrap();
    assert_eq!(store.prepare_rootfs("a:1", "container").unwrap(), rootfs);
    let names = |path: &str| {
        let mut names: Vec<String> = fs::read_dir(rootfs.path.join(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(""), ["again", "etc", "opaque"]);
    assert_eq!(names("etc"), ["added", "kept"]);
    assert_eq!(names("opaque"), ["new"]);
    assert_eq!(names("again"), ["new"]);
    let etc = fs::metadata(rootfs.path.join("etc")).unwrap();
    assert_eq!(
        (etc.mode() & 0o7777, etc.uid()),
        (0o750, 5),
        "an implied directory looks like the one below"
    );

    fs::write(rootfs.path.join("etc/kept"), "changed").unwrap();
    assert!(store.rootfs_usage("container").unwrap().used_bytes > 0);
    store.remove("a:1").unwrap();
    assert_eq!(
        fs::read_dir(store.root().join("layers")).unwrap().count(),
        2,
        "a container uses them"
    );
    store.remove_rootfs("container").unwrap();
    store.remove_rootfs("container").unwrap();
    assert!(!rootfs.path.exists());
    assert_eq!(
        fs::read_dir(store.root().join("layers")).unwrap().count(),
        0
    );
}

#[test]
fn more_layers_than_one_page_of_options_holds_can_be_mounted() {
    let (_directory, store) = store();
    let layers: Vec<Vec<u8>> = (0..150)
        .map(|number| tar_of(&[file(&format!("f{number}"), "x")]))
        .collect();
    import(&store, &docker_archive("many:1", &layers)).unwrap();
    let rootfs = store.prepare_rootfs("many:1", "c").unwrap();
    assert_eq!(fs::read_dir(&rootfs.path).unwrap().count(), 150);
    store.remove_rootfs("c").unwrap();
}

#[test]
fn an_image_volume_is_read_only() {
    let (directory, store) = store();
    import(
        &store,
        &docker_archive("v:1", &[tar_of(&[file("data", "x")])]),
    )
    .unwrap();
    let target = directory.path().join("volume");
    fs::create_dir(&target).unwrap();
    store.mount_volume("v:1", &target).unwrap();
    store.mount_volume("v:1", &target).unwrap();
    assert_eq!(fs::read_to_string(target.join("data")).unwrap(), "x");
    assert!(fs::write(target.join("new"), "x").is_err());
    store.unmount_volume(&target).unwrap();
    store.unmount_volume(&target).unwrap();
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
}

#[test]
fn a_lost_layer_is_unpacked_again() {
    let (_directory, store) = store();
    import(
        &store,
        &docker_archive("a:1", &[tar_of(&[file("data", "x")])]),
    )
    .unwrap();
    fs::remove_dir_all(only_layer(&store).parent().unwrap()).unwrap();
    let rootfs = store.prepare_rootfs("a:1", "c").unwrap();
    assert!(rootfs.path.join("data").exists());
    store.remove_rootfs("c").unwrap();
}

#[test]
fn another_process_sees_what_was_imported() {
    let (directory, store) = store();
    assert!(store.list().unwrap().is_empty());
    let other = ImageStore::open_for(directory.path(), amd64(), UnpackLimits::default()).unwrap();
    import(
        &other,
        &docker_archive("a:1", &[tar_of(&[file("data", "x")])]),
    )
    .unwrap();
    assert!(store.status("a:1").unwrap().is_some());
    other.remove("a:1").unwrap();
    assert!(store.status("a:1").unwrap().is_none());
}

#[test]
fn container_ids_cannot_name_other_places() {
    let (_directory, store) = store();
    for id in ["", ".", "..", "../x", "a/b", "a\0"] {
        assert_eq!(
            store.remove_rootfs(id).unwrap_err().kind(),
            ErrorKind::Invalid
        );
    }
}

#[test]
fn the_stores_content_is_hidden_from_other_users() {
    let (_directory, store) = store();
    for name in ["layers", "blobs", "ingest"] {
        let mode = fs::metadata(Path::new(store.root()).join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
}

#[test]
fn no_damaged_archive_reaches_outside_its_directory() {
    use crate::unpack::{OpaqueMark, Unpacker};
    use std::os::fd::AsFd;
    let rng = env::SeededRng::shared(7);
    let honest = tar_of(&[
        directory("d", 0o755),
        file("d/f", "content").pax("SCHILY.xattr.user.a", b"b"),
        symlink("up", "../.."),
        file("up/x", "x"),
        hard_link("d/again", "d/f"),
        file("d/.wh.gone", ""),
        file("d/.wh..wh..opq", ""),
        device("null", b'3', (1, 3)),
        file(&format!("{}/long", "n".repeat(120)), "x"),
    ]);
    let outside = tempfile::tempdir().unwrap();
    for round in 0..400 {
        let mut archive = honest.clone();
        for _ in 0..=rng.below(6) {
            let at = usize::try_from(rng.below(archive.len() as u64)).unwrap();
            archive[at] = *b"/.\0x70S~\xff"
                .get(usize::try_from(rng.below(9)).unwrap())
                .unwrap();
            refresh_checksum(&mut archive, at);
        }
        if rng.below(4) == 0 {
            archive.truncate(usize::try_from(rng.below(archive.len() as u64)).unwrap());
        }
        let root = outside.path().join("inside");
        fs::create_dir(&root).unwrap();
        let opened = fs::File::open(&root).unwrap();
        let limits = UnpackLimits {
            bytes_max: 1 << 20,
            entries_max: 100,
        };
        let _refused_or_not =
            Unpacker::new(opened.as_fd(), &[], OpaqueMark::Trusted, limits).run(archive.as_slice());
        let names: Vec<_> = fs::read_dir(outside.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["inside"], "round {round}");
        fs::remove_dir_all(&root).unwrap();
    }
}

/// Makes the header around a changed byte valid again, so that more than its checksum is tried.
fn refresh_checksum(archive: &mut [u8], at: usize) {
    let start = at / 512 * 512;
    let Some(block) = archive.get_mut(start..start + 512) else {
        return;
    };
    if &block[257..262] == b"ustar" {
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
}
