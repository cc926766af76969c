//! What the node itself remembers of its pods between two lives of the kubelet: how far each had come, tokens, claims.

use std::borrow::Cow;

use apimachinery::{from_json, to_json};
use env::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use sealed_files::Records;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use volumes::{Token, TokenRequest, TokenSource};

use crate::pods::facts::{containers, is_terminal, spec, uid};
use crate::worker::Observed;

const STATUS: &str = "status";
const TOKEN: &str = "token";
const CLAIM: &str = "claim";

/// The records of one node; without a place for them nothing is remembered.
#[derive(Clone, Debug)]
pub(crate) struct LastKnown(Option<Records>);

/// How far a pod had come.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    /// The boot of the machine in which the pod was here last.
    pub(crate) boot_id: String,
    pub(crate) status: PodStatus,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CourseOnDisk<'a> {
    #[serde(borrow)]
    boot_id: Cow<'a, str>,
    #[serde(borrow)]
    status: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
struct TokenOnDisk<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
    #[serde(borrow)]
    expires: Cow<'a, str>,
}

impl LastKnown {
    pub(crate) fn new(records: Option<Records>) -> Self {
        Self(records)
    }

    /// Reads the disk, on a thread for that.
    pub(crate) async fn course(&self, pod_uid: &str) -> Option<Course> {
        let bytes = self.get(name(&[STATUS, pod_uid])).await?;
        let course: CourseOnDisk<'_> = serde_json::from_slice(&bytes).ok()?;
        Some(Course {
            boot_id: course.boot_id.into_owned(),
            status: from_json(course.status.get().as_bytes()).ok()?,
        })
    }

    /// Durable when it returns; a disk that does not take it is told in the log, and no reason to stop.
    pub(crate) async fn keep_course(&self, pod_uid: &str, boot_id: &str, status: &[u8]) {
        let (Some(records), Some(bytes)) = (&self.0, encode_course(boot_id, status)) else {
            return;
        };
        if let Err(error) = records.put(&name(&[STATUS, pod_uid]), bytes).await {
            tracing::error!(pod_uid, %error, "how far a pod has come is not durable");
        }
    }

    /// Durable some seconds later.
    pub(crate) fn keep_course_later(&self, pod_uid: &str, boot_id: &str, status: &[u8]) {
        if let (Some(records), Some(bytes)) = (&self.0, encode_course(boot_id, status)) {
            records.put_later(&name(&[STATUS, pod_uid]), || Some(bytes));
        }
    }

    pub(crate) async fn token(&self, request: &TokenRequest) -> Option<Token> {
        let bytes = self.get(token_name(request)).await?;
        let token: TokenOnDisk<'_> = serde_json::from_slice(&bytes).ok()?;
        Some(Token {
            expires: Timestamp::parse(&token.expires)?,
            token: token.token.into_owned(),
            source: TokenSource::Remembered,
        })
    }

    pub(crate) fn keep_token(&self, request: &TokenRequest, token: &Token) {
        let Some(records) = &self.0 else { return };
        let on_disk = TokenOnDisk {
            token: token.token.as_str().into(),
            expires: token.expires.to_seconds_string().into(),
        };
        let bytes = serde_json::to_vec(&on_disk).ok();
        records.put_soon(&token_name(request), || bytes);
    }

    /// An object that pods refer to and that is read, not watched. `None`: not remembered; `Some(None)`: there was none.
    pub(crate) async fn object<T: DeserializeOwned>(
        &self,
        kind: &str,
        namespace: &str,
        object: &str,
    ) -> Option<Option<T>> {
        let bytes = self.get(name(&[CLAIM, kind, namespace, object])).await?;
        if bytes == b"null" {
            return Some(None);
        }
        from_json(&bytes).ok().map(Some)
    }

    pub(crate) fn keep_object<T: Serialize>(
        &self,
        (kind, namespace, object): (&str, &str, &str),
        found: Option<&T>,
    ) {
        let Some(records) = &self.0 else { return };
        let bytes = found.map_or(Ok(b"null".to_vec()), to_json).ok();
        records.put_later(&name(&[CLAIM, kind, namespace, object]), || bytes);
    }

    /// The pod is gone for good.
    pub(crate) fn forget_pod(&self, pod_uid: &str) {
        let Some(records) = &self.0 else { return };
        records.remove(&name(&[STATUS, pod_uid]));
        for token in records.names(&name(&[TOKEN, pod_uid, ""])) {
            records.remove(&token);
        }
    }

    /// Pods that something is remembered of.
    pub(crate) fn pods(&self) -> Vec<String> {
        let Some(records) = &self.0 else {
            return Vec::new();
        };
        let prefix = name(&[STATUS, ""]);
        let names = records.names(&prefix);
        names
            .iter()
            .filter_map(|name| Some(name.strip_prefix(&prefix)?.to_owned()))
            .collect()
    }

    async fn get(&self, name: String) -> Option<Vec<u8>> {
        let records = self.0.clone()?;
        let read = env::spawn_blocking(move || records.get(&name));
        // A panic in it is a mistake there; the pod begins without a memory.
        read.await.ok().flatten()
    }
}

/// Parts of a name never hold a line break: they are names and selectors.
fn name(parts: &[&str]) -> String {
    parts.join("\n")
}

fn token_name(request: &TokenRequest) -> String {
    let audience = request.audience.as_deref().unwrap_or_default();
    let life = request.expiration_seconds.to_string();
    name(&[
        TOKEN,
        &request.pod_uid,
        &request.service_account,
        &life,
        audience,
    ])
}

fn encode_course(boot_id: &str, status: &[u8]) -> Option<Vec<u8>> {
    let status = serde_json::from_slice(status).ok()?;
    let boot_id = boot_id.into();
    serde_json::to_vec(&CourseOnDisk { boot_id, status }).ok()
}

/// The API's status of a pod, or the node's where that is further: the server may not have heard the last of it.
pub(crate) fn newest_status(api: Option<PodStatus>, known: Option<&Course>) -> Option<PodStatus> {
    let Some(known) = known.map(|course| &course.status) else {
        return api;
    };
    let Some(api) = api else {
        return Some(known.clone());
    };
    if progress(known) <= progress(&api) {
        return Some(api);
    }
    Some(PodStatus {
        phase: known.phase.clone(),
        reason: known.reason.clone(),
        message: known.message.clone(),
        start_time: known.start_time.clone().or(api.start_time),
        container_statuses: known.container_statuses.clone(),
        init_container_statuses: known.init_container_statuses.clone(),
        ephemeral_container_statuses: known.ephemeral_container_statuses.clone(),
        ..api
    })
}

/// Grows as a pod goes on; never shrinks.
fn progress(status: &PodStatus) -> (bool, i64, usize, usize) {
    let count = |counts: &dyn Fn(&ContainerStatus) -> bool| {
        statuses(status).filter(|status| counts(status)).count()
    };
    (
        is_terminal(status.phase.as_deref()),
        statuses(status)
            .map(|status| i64::from(status.restart_count))
            .sum(),
        count(&|status| status.container_id.is_some()),
        count(&|status| {
            let state = status.state.as_ref();
            state.is_some_and(|state| state.terminated.is_some())
        }),
    )
}

fn statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let lists = [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ];
    lists.into_iter().flatten().flatten()
}

/// Whether a pod that runs only once has run already, in an earlier boot of the machine, and left nothing: it ends as it was.
pub(crate) fn has_run_before(
    pod: &Pod,
    observed: &Observed,
    known: Option<&Course>,
    boot_id: &str,
) -> bool {
    let runs_once = spec(pod).restart_policy.as_deref() == Some("Never")
        && containers(pod)
            .iter()
            .all(|container| container.restart_policy.is_none());
    let is_trace_left = !observed.containers.is_empty() || !observed.sandboxes.is_empty();
    if !runs_once || is_trace_left {
        return false;
    }
    let had_container = pod
        .status
        .as_ref()
        .is_some_and(|status| statuses(status).any(|status| status.container_id.is_some()));
    // The course is durable before the first container of such a pod begins.
    had_container || known.is_some_and(|course| course.boot_id != boot_id)
}

/// Which pods' records nobody needs any more.
pub(crate) fn strangers(remembered: Vec<String>, pods: &[Pod]) -> Vec<String> {
    let is_stranger = |known: &String| pods.iter().all(|pod| uid(pod) != known);
    remembered.into_iter().filter(is_stranger).collect()
}
