//! Carries a plan out: remembers, applies, takes away, remembers.

use std::collections::BTreeMap;

use apimachinery::Object;
use k8s_openapi::api::core::v1::ConfigMap;
use kube_client::{Api, Client, ClientError, DeleteOptions, Patch, Propagation};
use serde_json::Value;

use crate::kinds::Kinds;
use crate::manifest::Manifest;
use crate::object_ref::ObjectRef;
use crate::plan::{FilePlan, Gone, Plan};
use crate::record::{LABEL, Made, NAMESPACE, Record, record_name};

/// The one field manager of all manifests.
pub(crate) const FIELD_MANAGER: &str = "combo-addons";
/// On an object that stays when its file goes or no longer says it.
const KEEP_ANNOTATION: &str = "combo.io/keep";

/// What came of one file.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) file: String,
    /// Of the text that is in force now; `None`: the file is gone, or not all of it is in force.
    pub(crate) checksum: Option<String>,
    pub(crate) news: News,
}

#[derive(Debug, PartialEq)]
pub(crate) enum News {
    /// All was there already.
    None,
    Applied {
        objects: usize,
        pruned: usize,
    },
    Removed {
        pruned: usize,
    },
    /// What the API does not take, one line each.
    Failed(Vec<String>),
}

pub(crate) struct Pass {
    client: Client,
    records: Api<ConfigMap>,
    kinds: Kinds,
}

impl Pass {
    pub(crate) fn new(client: &Client) -> Self {
        let client = client.with_field_manager(FIELD_MANAGER);
        Self {
            records: client.api(NAMESPACE),
            kinds: Kinds::new(client.clone()),
            client,
        }
    }

    /// All records, by file.
    pub(crate) async fn records(&self) -> Result<BTreeMap<String, Record>, ClientError> {
        let maps = self.records.list(LABEL, "").await?;
        let records = maps.iter().filter_map(Record::from_config_map);
        Ok(records
            .map(|record| (record.file.clone(), record))
            .collect())
    }

    pub(crate) async fn carry_out(
        &mut self,
        plan: &Plan,
        records: &BTreeMap<String, Record>,
    ) -> Vec<Outcome> {
        let mut work = Vec::new();
        for file in &plan.files {
            let mut failures = Vec::new();
            if records.get(&file.file) != Some(&file.before)
                && let Err(error) = self.remember(&file.before).await
            {
                failures.push(format!("what it makes cannot be remembered: {error}"));
            }
            work.push(Work {
                file,
                made: Vec::new(),
                failures,
            });
        }
        self.apply_all(&mut work).await;
        let mut outcomes = Vec::new();
        for work in work {
            let known = records.get(&work.file.file);
            outcomes.push(self.finish(work, known).await);
        }
        for gone in &plan.gone {
            outcomes.push(self.remove(gone).await);
        }
        outcomes
    }

    /// What others need goes first, whichever file it is in.
    async fn apply_all(&mut self, work: &mut [Work<'_>]) {
        let mut steps: Vec<(crate::object_ref::Order, usize, &Manifest)> = Vec::new();
        for (index, work) in work.iter().enumerate() {
            // What could not be remembered could never be taken away.
            if work.failures.is_empty() {
                let manifests = work.file.manifests.iter();
                steps
                    .extend(manifests.map(|manifest| {
                        (ObjectRef::of(&manifest.object).order(), index, manifest)
                    }));
            }
        }
        steps.sort_by_key(|(order, index, _)| (*order, *index));
        for (_, index, manifest) in steps {
            match self.apply(manifest).await {
                Ok(made) => work[index].made.push(made),
                Err(why) => {
                    let object = ObjectRef::of(&manifest.object);
                    let line = manifest.line;
                    work[index]
                        .failures
                        .push(format!("line {line}: {object}: {why}"));
                }
            }
        }
    }

    async fn apply(&mut self, manifest: &Manifest) -> Result<Made, String> {
        let object = ObjectRef::of(&manifest.object);
        let place = self
            .kinds
            .place(&object.api_version, &object.kind)
            .await
            .map_err(|error| error.to_string())?;
        let place = place.ok_or_else(|| {
            format!(
                "the API serves no {} of {}",
                object.kind, object.api_version
            )
        })?;
        let namespace = match (place.is_namespaced, object.namespace.as_str()) {
            (false, "") => "",
            (false, _) => {
                return Err("its kind has no namespaces; leave metadata.namespace out".to_owned());
            }
            (true, "") => "default",
            (true, namespace) => namespace,
        };
        let api = self.client.dynamic(place.resource, namespace);
        let patch = Patch::ForceApply(to_apply(&manifest.object));
        let applied = api
            .patch(&object.name, &patch)
            .await
            .map_err(|error| error.to_string())?;
        let uid = applied.uid().to_owned();
        Ok(Made { object, uid })
    }

    /// A file that is wholly in force takes away what it said before; one that is not loses nothing.
    async fn finish(&mut self, work: Work<'_>, known: Option<&Record>) -> Outcome {
        let file = work.file;
        let outcome = |checksum: Option<String>, news| Outcome {
            file: file.file.clone(),
            checksum,
            news,
        };
        let mut failures = work.failures;
        let mut record = Record {
            file: file.file.clone(),
            checksum: file.checksum.clone(),
            made: work.made,
        };
        if !failures.is_empty() {
            return outcome(None, News::Failed(failures));
        }
        let mut pruned = 0;
        for made in &file.prune {
            match self.prune(made).await {
                Ok(Pruned::Gone) => pruned += 1,
                Ok(Pruned::Kept) => {}
                Err(error) => {
                    failures.push(format!("{} cannot be removed: {error}", made.object));
                    record.made.push(made.clone());
                }
            }
        }
        let objects = file.manifests.len();
        let is_news = known.is_none_or(|known| known.checksum != record.checksum);
        if known != Some(&record)
            && let Err(error) = self.remember(&record).await
        {
            failures.push(format!("what it made cannot be remembered: {error}"));
        }
        if !failures.is_empty() {
            return outcome(None, News::Failed(failures));
        }
        let news = if is_news {
            News::Applied { objects, pruned }
        } else {
            News::None
        };
        outcome(Some(file.checksum.clone()), news)
    }

    async fn remove(&mut self, gone: &Gone) -> Outcome {
        let mut failures = Vec::new();
        let mut pruned = 0;
        // What was made last goes first: objects before their kinds and namespaces.
        let mut made: Vec<&Made> = gone.prune.iter().collect();
        made.sort_by_key(|made| std::cmp::Reverse(made.object.order()));
        for made in made {
            match self.prune(made).await {
                Ok(Pruned::Gone) => pruned += 1,
                Ok(Pruned::Kept) => {}
                Err(error) => failures.push(format!("{} cannot be removed: {error}", made.object)),
            }
        }
        if failures.is_empty() {
            let name = record_name(&gone.file);
            if let Err(error) = self.records.delete(&name, &DeleteOptions::default()).await {
                failures.push(format!("its record cannot be removed: {error}"));
            }
        }
        Outcome {
            file: gone.file.clone(),
            checksum: None,
            news: if failures.is_empty() {
                News::Removed { pruned }
            } else {
                News::Failed(failures)
            },
        }
    }

    async fn prune(&mut self, made: &Made) -> Result<Pruned, ClientError> {
        let object = &made.object;
        let Some(place) = self.kinds.place(&object.api_version, &object.kind).await? else {
            // Its kind is gone, and with it all objects of the kind.
            return Ok(Pruned::Gone);
        };
        let namespace = match (place.is_namespaced, object.namespace.as_str()) {
            (false, _) => "",
            (true, "") => "default",
            (true, namespace) => namespace,
        };
        let api = self.client.dynamic(place.resource, namespace);
        let found = match api.get(&object.name).await {
            Ok(found) => found,
            Err(error) if error.is_not_found() => return Ok(Pruned::Gone),
            Err(error) => return Err(error),
        };
        let is_other = !made.uid.is_empty() && found.uid() != made.uid;
        if is_other || keeps(&found) {
            return Ok(Pruned::Kept);
        }
        let options = DeleteOptions {
            propagation: Some(Propagation::Background),
            ..DeleteOptions::only(found.uid())
        };
        match api.delete(&object.name, &options).await {
            Ok(_) => Ok(Pruned::Gone),
            Err(error) if error.is_not_found() => Ok(Pruned::Gone),
            Err(error) => Err(error),
        }
    }

    async fn remember(&self, record: &Record) -> Result<(), ClientError> {
        let map = record.to_config_map();
        let value = serde_json::to_value(&map).expect("a ConfigMap can be written as JSON");
        let name = record_name(&record.file);
        self.records
            .patch(&name, &Patch::ForceApply(value))
            .await
            .map(|_| ())
    }
}

struct Work<'a> {
    file: &'a FilePlan,
    made: Vec<Made>,
    failures: Vec<String>,
}

enum Pruned {
    Gone,
    /// Somebody wants it, or it is another object by now.
    Kept,
}

fn keeps(object: &Object) -> bool {
    let annotation = object
        .0
        .get("metadata")
        .and_then(|metadata| metadata.get("annotations"))
        .and_then(|annotations| annotations.get(KEEP_ANNOTATION));
    annotation.and_then(Value::as_str) == Some("true")
}

/// An object that somebody took from a cluster carries what only the server may write.
fn to_apply(object: &Object) -> Value {
    let mut value = object.clone().into_value();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in [
            "managedFields",
            "resourceVersion",
            "uid",
            "creationTimestamp",
            "selfLink",
        ] {
            metadata.remove(field);
        }
    }
    value
}
