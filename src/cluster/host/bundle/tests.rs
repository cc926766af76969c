//! Bundles as people pass them on: whole, cut and changed.

use super::*;

struct Made {
    folder: tempfile::TempDir,
    path: PathBuf,
}

fn made() -> Made {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut binary = b"\x7fELF".to_vec();
    binary.resize(700, 7);
    binary[18..20].copy_from_slice(&Architecture::Arm64.elf_machine());
    fs::write(at("program"), &binary).unwrap();
    fs::write(at("a.tar"), [1; 512]).unwrap();
    fs::write(at("b.tar.zst"), [2; 9]).unwrap();
    let bundle = Bundle {
        version: "0.1.0".to_owned(),
        architecture: Architecture::Arm64,
        binary: at("program"),
        script: "#!/bin/sh\n".to_owned(),
        images: vec![at("a.tar"), at("b.tar.zst")],
    };
    let path = at("bundle.tar");
    bundle.write(&path).unwrap();
    Made { folder, path }
}

fn refusal(path: &Path) -> String {
    Bundle::verify(path).expect_err("refused").to_string()
}

#[test]
fn a_bundle_is_read_back_and_a_tar_that_others_read() {
    let made = made();
    let contents = Bundle::verify(&made.path).unwrap();
    let names: Vec<&str> = contents
        .members
        .iter()
        .map(|member| member.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["combo", "install.sh", "images/a.tar", "images/b.tar.zst"]
    );
    let mut tar = tar::Archive::new(File::open(&made.path).unwrap());
    let entries = tar.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.path().unwrap().into_owned(), entry.size())
    });
    let entries: Vec<(PathBuf, u64)> = entries.skip(1).collect();
    let expected = contents
        .members
        .iter()
        .map(|member| (PathBuf::from(&member.name), member.size_bytes));
    assert_eq!(entries, expected.collect::<Vec<_>>());
}

#[test]
fn every_changed_byte_is_refused() {
    let made = made();
    let whole = fs::read(&made.path).unwrap();
    let changed = made.folder.path().join("changed.tar");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&changed, &bytes).unwrap();
        assert!(Bundle::verify(&changed).is_err(), "byte {at}");
    }
}

#[test]
fn every_cut_is_refused() {
    let made = made();
    let whole = fs::read(&made.path).unwrap();
    let cut = made.folder.path().join("cut.tar");
    for length in 0..whole.len() {
        fs::write(&cut, &whole[..length]).unwrap();
        assert!(Bundle::verify(&cut).is_err(), "{length} bytes");
    }
    fs::write(&cut, [whole.as_slice(), &[0]].concat()).unwrap();
    assert!(refusal(&cut).ends_with("something follows its end"));
}

#[test]
fn a_refusal_names_the_member_and_why() {
    let made = made();
    let whole = fs::read(&made.path).unwrap();
    let image = whole
        .windows(5)
        .rposition(|window| window == [2; 5])
        .unwrap();
    let other = made.folder.path().join("other.tar");
    let mut bytes = whole.clone();
    bytes[image] = 3;
    fs::write(&other, &bytes).unwrap();
    assert!(refusal(&other).contains("images/b.tar.zst was changed: its sha256 is"));
    fs::write(&other, &whole[..image]).unwrap();
    assert!(refusal(&other).ends_with("it is cut short in images/b.tar.zst"));
    fs::write(&other, "no bundle at all").unwrap();
    assert!(refusal(&other).ends_with("it is cut short in contents.txt"));
}

#[test]
fn images_are_loaded_whole_or_not_at_all() {
    let made = made();
    let images = made.folder.path().join("images");
    let loaded = Bundle::load_images(&made.path, &images).unwrap();
    assert_eq!(loaded, [images.join("a.tar"), images.join("b.tar.zst")]);
    assert_eq!(fs::read(images.join("b.tar.zst")).unwrap(), [2; 9]);
    let mut bytes = fs::read(&made.path).unwrap();
    let last = bytes
        .windows(5)
        .rposition(|window| window == [2; 5])
        .unwrap();
    bytes[last] = 3;
    let (bad, elsewhere) = (
        made.folder.path().join("bad.tar"),
        made.folder.path().join("none"),
    );
    fs::write(&bad, bytes).unwrap();
    Bundle::load_images(&bad, &elsewhere).expect_err("refused");
    assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0);
}

#[test]
fn a_list_that_names_other_places_is_refused() {
    for name in [
        "images/../../etc/passwd",
        "images/a/b.tar",
        "images/.hidden",
        "/etc/passwd",
        "images/",
    ] {
        let contents = BundleContents {
            version: "1".to_owned(),
            architecture: Architecture::Amd64,
            members: vec![BundleMember {
                name: name.to_owned(),
                size_bytes: 0,
                sha256: String::new(),
            }],
        };
        assert!(
            BundleContents::parse(&contents.to_text()).is_err(),
            "{name}"
        );
    }
}

#[test]
fn a_binary_of_another_processor_is_refused() {
    let made = made();
    let bundle = Bundle {
        version: "1".to_owned(),
        architecture: Architecture::Amd64,
        binary: made.folder.path().join("program"),
        script: String::new(),
        images: Vec::new(),
    };
    let error = bundle.write(&made.path).expect_err("refused").to_string();
    assert!(error.contains("is no program for amd64"), "{error}");
}
