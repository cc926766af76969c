//! What is to be applied and what is to be taken away: a pure function of the files and their records.

use std::collections::{BTreeMap, BTreeSet};

use crate::folder::{FileState, Snapshot};
use crate::manifest::Manifest;
use crate::object_ref::{ObjectKey, ObjectRef};
use crate::record::{Made, Record};

/// One pass over the folder.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// In the order of their names.
    pub(crate) files: Vec<FilePlan>,
    /// Files that are gone, with what they made and nobody else says.
    pub(crate) gone: Vec<Gone>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct FilePlan {
    pub(crate) file: String,
    pub(crate) checksum: String,
    pub(crate) manifests: Vec<Manifest>,
    /// What it made and no longer says, once all that it says is there.
    pub(crate) prune: Vec<Made>,
    /// What is remembered before anything is made: what it made, and what it is about to make.
    pub(crate) before: Record,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Gone {
    pub(crate) file: String,
    pub(crate) prune: Vec<Made>,
}

/// `applied`: the checksums of what this process applied whole already.
pub(crate) fn plan(
    snapshot: &Snapshot,
    records: &BTreeMap<String, Record>,
    applied: &BTreeMap<String, String>,
) -> Plan {
    let claims = claims(snapshot, records);
    let is_claimed_by_another = |file: &str, object: &ObjectRef| {
        claims
            .get(&object.key())
            .is_some_and(|files| files.iter().any(|by| *by != file))
    };
    let mut plan = Plan::default();
    for (file, state) in &snapshot.files {
        let FileState::Good {
            checksum,
            manifests,
        } = state
        else {
            continue;
        };
        if applied.get(file) == Some(checksum) {
            continue;
        }
        let says: Vec<ObjectRef> = manifests
            .iter()
            .map(|manifest| ObjectRef::of(&manifest.object))
            .collect();
        let made = records.get(file).map_or(&[][..], |record| &record.made);
        let said: BTreeSet<ObjectKey> = says.iter().map(ObjectRef::key).collect();
        let is_said = |object: &ObjectRef| said.contains(&object.key());
        let prune = made
            .iter()
            .filter(|made| !is_said(&made.object) && !is_claimed_by_another(file, &made.object));
        plan.files.push(FilePlan {
            file: file.clone(),
            checksum: checksum.clone(),
            manifests: manifests.clone(),
            prune: prune.cloned().collect(),
            before: before(file, records.get(file), &says),
        });
    }
    if snapshot.is_whole {
        let gone = records.values().filter(|record| {
            snapshot.is_of(&record.file) && !snapshot.files.contains_key(&record.file)
        });
        plan.gone = gone
            .map(|record| Gone {
                file: record.file.clone(),
                prune: record
                    .made
                    .iter()
                    .filter(|made| !is_claimed_by_another(&record.file, &made.object))
                    .cloned()
                    .collect(),
            })
            .collect();
    }
    plan
}

type Claims<'a> = BTreeMap<ObjectKey, BTreeSet<&'a str>>;

/// What each file that is there wants to exist: a good one by its text, any other by what it made.
fn claims<'a>(snapshot: &'a Snapshot, records: &BTreeMap<String, Record>) -> Claims<'a> {
    let mut claims = Claims::new();
    let mut claim = |file: &'a str, object: &ObjectRef| {
        claims.entry(object.key()).or_default().insert(file);
    };
    for (file, state) in &snapshot.files {
        match state {
            FileState::Good { manifests, .. } => {
                for manifest in manifests {
                    claim(file, &ObjectRef::of(&manifest.object));
                }
            }
            FileState::Bad(_) | FileState::Skipped => {
                for made in records.get(file).map_or(&[][..], |record| &record.made) {
                    claim(file, &made.object);
                }
            }
        }
    }
    claims
}

fn before(file: &str, record: Option<&Record>, says: &[ObjectRef]) -> Record {
    let mut before = record.cloned().unwrap_or_else(|| Record {
        file: file.to_owned(),
        ..Record::default()
    });
    let known: BTreeSet<ObjectRef> = before.made.iter().map(|made| made.object.clone()).collect();
    for said in says {
        if !known.contains(said) {
            before.made.push(Made {
                object: said.clone(),
                uid: String::new(),
            });
        }
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;

    fn good(text: &str) -> FileState {
        FileState::Good {
            checksum: text.to_owned(),
            manifests: parse(text).expect("manifests"),
        }
    }

    fn config_map(name: &str) -> String {
        format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n")
    }

    fn snapshot<const N: usize>(files: [(&str, FileState); N]) -> Snapshot {
        Snapshot {
            files: files.map(|(file, state)| (file.to_owned(), state)).into(),
            owner: String::new(),
            is_whole: true,
            folders: Vec::new(),
        }
    }

    fn record(file: &str, names: &[&str]) -> (String, Record) {
        let text: String = names.iter().map(|name| config_map(name)).collect();
        let made = parse(&text).expect("manifests");
        let made = made.iter().map(|manifest| Made {
            object: ObjectRef::of(&manifest.object),
            uid: "u".to_owned(),
        });
        let record = Record {
            file: file.to_owned(),
            checksum: String::new(),
            made: made.collect(),
        };
        (file.to_owned(), record)
    }

    fn pruned(plan: &Plan) -> Vec<&str> {
        let files = plan.files.iter().flat_map(|file| &file.prune);
        let gone = plan.gone.iter().flat_map(|gone| &gone.prune);
        files
            .chain(gone)
            .map(|made| made.object.name.as_str())
            .collect()
    }

    #[test]
    fn what_a_file_no_longer_says_goes_unless_another_says_it() {
        let records = BTreeMap::from([record("a.yaml", &["a", "b", "c"])]);
        let files = snapshot([
            ("a.yaml", good(&config_map("a"))),
            ("b.yaml", good(&config_map("b"))),
        ]);
        let plan = plan(&files, &records, &BTreeMap::new());
        assert_eq!(pruned(&plan), ["c"]);
        assert_eq!(plan.files[1].before.made.len(), 1);
    }

    #[test]
    fn a_file_that_goes_takes_along_what_only_it_made() {
        let records = BTreeMap::from([record("a.yaml", &["a", "b"]), record("b.yaml", &["b"])]);
        let files = snapshot([("b.yaml", FileState::Bad("no".to_owned()))]);
        let plan = plan(&files, &records, &BTreeMap::new());
        assert_eq!(pruned(&plan), ["a"]);
    }

    #[test]
    fn bad_files_skipped_files_and_unread_folders_lose_nothing() {
        let records = BTreeMap::from([record("a.yaml", &["a"])]);
        for state in [FileState::Bad("no".to_owned()), FileState::Skipped] {
            let plan = plan(&snapshot([("a.yaml", state)]), &records, &BTreeMap::new());
            assert_eq!(plan, Plan::default());
        }
        let unread = Snapshot {
            is_whole: false,
            ..snapshot([])
        };
        assert_eq!(plan(&unread, &records, &BTreeMap::new()), Plan::default());
    }

    #[test]
    fn what_was_applied_is_not_applied_again() {
        let text = config_map("a");
        let applied = BTreeMap::from([("a.yaml".to_owned(), text.clone())]);
        let files = snapshot([("a.yaml", good(&text))]);
        assert_eq!(plan(&files, &BTreeMap::new(), &applied), Plan::default());
    }
}
