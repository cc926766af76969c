//! Gets the image of a container: pulls are tasks that only ring the pod's bell when they end, failures back off per pod and image.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cri::{Image, ImageId, ImageService, ImageSpec};
use env::{Clock, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::events::{EventRecorder, Severity};
use crate::images::pull_secrets::Keyring;
use crate::pods::Inputs;
use crate::pods::facts::{ContainerKind, uid};
use crate::worker::{BackOff, go_duration};

/// Pulls at a time on one node.
const PULLS_MAX: usize = 4;
/// The reason of the Event that tells of an image which no registry was asked about.
const USED_AS_KEPT: &str = "RegistryUnavailable";
/// The cause of a failed pull is shown this long before the back-off is.
const TELL_FOR: Duration = Duration::from_secs(3);

/// Whose image is needed, and with whose credentials.
pub(crate) struct ImageNeed<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) kind: ContainerKind,
    pub(crate) container: &'a Container,
    pub(crate) keyring: Keyring,
    pub(crate) inputs: &'a Arc<Inputs>,
}

/// How an image stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ImageState {
    Ready(Box<Image>),
    /// A pull runs; the pod's bell rings when it ends.
    Pulling,
    /// Why there is none, in the words of `state.waiting`; a retry makes sense after `again_after`.
    Failed {
        reason: &'static str,
        message: String,
        again_after: Option<Duration>,
    },
}

pub(crate) struct ImagePuller {
    images: Arc<dyn ImageService>,
    events: EventRecorder,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    slots: Semaphore,
}

#[derive(Default)]
struct State {
    /// By pod UID and image.
    pulls: BTreeMap<(String, String), Pull>,
    back_offs: BTreeMap<String, BackOff>,
}

enum Pull {
    Running,
    Done(ImageId),
    Failed {
        /// The wall's name of this failure; how long ago it was is told by the monotonic clock.
        at: Timestamp,
        seen: Duration,
        reason: &'static str,
        message: String,
    },
}

impl ImagePuller {
    pub(crate) fn new(
        images: Arc<dyn ImageService>,
        events: EventRecorder,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let state = Mutex::new(State::default());
        Arc::new(Self {
            images,
            events,
            clock,
            state,
            slots: Semaphore::new(PULLS_MAX),
        })
    }

    /// The image of a container, or what stands in its way. Starts a pull when one is due.
    pub(crate) async fn ensure(self: &Arc<Self>, need: ImageNeed<'_>) -> ImageState {
        let named = need.container.image.clone().unwrap_or_default();
        let image = match with_default_tag(&named) {
            Ok(image) => image,
            Err(why) => {
                let message = format!("Failed to apply default image tag {named:?}: {why}");
                self.tell(&need, Severity::Warning, "InspectFailed", message.clone());
                return ImageState::Failed {
                    reason: "InvalidImageName",
                    message,
                    again_after: None,
                };
            }
        };
        let key = (uid(need.pod).to_owned(), image.clone());
        match self.finished(&key) {
            Some(Finished::Running) => return ImageState::Pulling,
            Some(Finished::Pulled(id)) => match self.images.image_status(&id.0).await {
                Ok(Some(found)) => return ImageState::Ready(Box::new(found)),
                Ok(None) => {}
                Err(error) => return inspect_failed(&image, &error),
            },
            Some(Finished::Failed {
                reason,
                message,
                left,
            }) => {
                return ImageState::Failed {
                    reason,
                    message,
                    again_after: Some(left),
                };
            }
            None => {}
        }
        let policy = need
            .container
            .image_pull_policy
            .as_deref()
            .unwrap_or("IfNotPresent");
        if policy != "Always" {
            match self.present(&need, &named, &image, policy).await {
                Present::Answer(state) => return state,
                Present::No => {}
            }
        }
        self.pull_or_back_off(need, key, image)
    }

    /// Forgets everything about a pod.
    pub(crate) fn forget(&self, pod_uid: &str) {
        let mut state = self.state.lock();
        state.pulls.retain(|(uid, _), _| uid != pod_uid);
        state.back_offs.remove(pod_uid);
    }

    async fn present(
        &self,
        need: &ImageNeed<'_>,
        named: &str,
        image: &str,
        policy: &str,
    ) -> Present {
        match self.images.image_status(image).await {
            Err(error) => Present::Answer(inspect_failed(image, &error)),
            Ok(Some(found)) => {
                let message = format!(
                    "Container image {named:?} already present on machine and can be accessed by the pod"
                );
                self.tell(need, Severity::Normal, "Pulled", message);
                Present::Answer(ImageState::Ready(Box::new(found)))
            }
            Ok(None) if policy == "Never" => {
                let message =
                    format!("Container image {named:?} is not present with pull policy of Never");
                self.tell(
                    need,
                    Severity::Warning,
                    "ErrImageNeverPull",
                    message.clone(),
                );
                let again_after = Some(crate::worker::BACK_OFF_FIRST);
                Present::Answer(ImageState::Failed {
                    reason: "ErrImageNeverPull",
                    message,
                    again_after,
                })
            }
            Ok(None) => Present::No,
        }
    }

    /// What the last pull came to. A success is told once, a failure for a while: then the next question may pull again.
    fn finished(&self, key: &(String, String)) -> Option<Finished> {
        let mut state = self.state.lock();
        match state.pulls.get_mut(key)? {
            Pull::Running => Some(Finished::Running),
            Pull::Done(id) => {
                let id = id.clone();
                state.pulls.remove(key);
                Some(Finished::Pulled(id))
            }
            Pull::Failed {
                seen,
                reason,
                message,
                ..
            } => {
                let shown = self.clock.monotonic().saturating_sub(*seen);
                let left = TELL_FOR.checked_sub(shown).filter(|left| !left.is_zero())?;
                Some(Finished::Failed {
                    reason,
                    message: message.clone(),
                    left,
                })
            }
        }
    }

    fn pull_or_back_off(
        self: &Arc<Self>,
        need: ImageNeed<'_>,
        key: (String, String),
        image: String,
    ) -> ImageState {
        let now = self.clock.monotonic();
        let waiting = {
            let mut state = self.state.lock();
            let State { pulls, back_offs } = &mut *state;
            let waiting = match pulls.get(&key) {
                Some(Pull::Failed {
                    at,
                    reason,
                    message,
                    ..
                }) => {
                    let back_off = back_offs.get_mut(&key.0);
                    let wait = back_off.and_then(|back_off| back_off.wait(&image, *at, now));
                    wait.map(|(_, left)| (left, format!("{reason}: {message}")))
                }
                _ => None,
            };
            if waiting.is_none() {
                state.pulls.insert(key.clone(), Pull::Running);
            }
            waiting
        };
        if let Some((left, last)) = waiting {
            let text = format!("Back-off pulling image {image:?}");
            self.tell(&need, Severity::Normal, "BackOff", text.clone());
            return ImageState::Failed {
                reason: "ImagePullBackOff",
                message: format!("{text}: {last}"),
                again_after: Some(left),
            };
        }
        self.tell(
            &need,
            Severity::Normal,
            "Pulling",
            format!("Pulling image {image:?}"),
        );
        let pull = Arc::clone(self).pull(
            need.pod.clone(),
            need.kind,
            need.container.name.clone(),
            need.keyring,
            key,
            image,
        );
        let inputs = Arc::clone(need.inputs);
        env::spawn(async move {
            pull.await;
            inputs.poke();
        });
        ImageState::Pulling
    }

    async fn pull(
        self: Arc<Self>,
        pod: Pod,
        kind: ContainerKind,
        container: String,
        keyring: Keyring,
        key: (String, String),
        image: String,
    ) {
        let asked = self.clock.monotonic();
        let _slot = self
            .slots
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let began = self.clock.monotonic();
        let result = self.pull_with(&image, &pod, &keyring).await;
        let now = self.clock.monotonic();
        let about = (kind, container.as_str());
        let outcome = match result {
            Ok(id) => {
                let size = match self.images.image_status(&id.0).await {
                    Ok(Some(found)) => found.size_bytes,
                    _ => 0,
                };
                let span = |since: Duration| {
                    go_duration(Duration::from_millis(
                        now.saturating_sub(since)
                            .as_millis()
                            .try_into()
                            .unwrap_or(u64::MAX),
                    ))
                };
                let text = format!(
                    "Successfully pulled image {image:?} in {} ({} including waiting). Image size: {size} bytes.",
                    span(began),
                    span(asked)
                );
                self.events
                    .container(&pod, about, Severity::Normal, "Pulled", text);
                Pull::Done(id)
            }
            Err(error) => self.not_pulled(&pod, about, &key, error).await,
        };
        let mut state = self.state.lock();
        // A pod that was forgotten meanwhile has no entry any more.
        if let Some(entry) = state.pulls.get_mut(&key) {
            *entry = outcome;
        }
    }

    /// What a failed pull comes to.
    async fn not_pulled(
        &self,
        pod: &Pod,
        about: (ContainerKind, &str),
        key: &(String, String),
        error: cri::Error,
    ) -> Pull {
        let (pod_uid, image) = key;
        if let cri::Error::RegistryUnavailable(why) = &error
            && let Some(kept) = self.kept(image).await
        {
            let text = format!(
                "Image {image:?} is used as this machine has it, which may be an older one: no registry answers: {why}"
            );
            self.events
                .container(pod, about, Severity::Warning, USED_AS_KEPT, text);
            return Pull::Done(kept);
        }
        let text = format!("Failed to pull image {image:?}: {error}");
        self.events
            .container(pod, about, Severity::Warning, "Failed", text);
        let (reason, message) = pull_error(&error);
        let (at, seen) = (self.clock.now(), self.clock.monotonic());
        let mut state = self.state.lock();
        let back_off = state.back_offs.entry(pod_uid.clone()).or_default();
        back_off.started_again(image, seen);
        // The wait begins with the failure, not when the pod asks next.
        let _begun = back_off.wait(image, at, seen);
        Pull::Failed {
            at,
            seen,
            reason,
            message,
        }
    }

    /// The image as this machine has it: a site that is cut off runs what it has, also where a registry should be asked first.
    async fn kept(&self, image: &str) -> Option<ImageId> {
        let found = self.images.image_status(image).await;
        found.ok().flatten().map(|found| found.id)
    }

    /// Tries every credential that fits; without any, anonymously.
    async fn pull_with(&self, image: &str, pod: &Pod, keyring: &Keyring) -> cri::Result<ImageId> {
        let annotations = pod.metadata.annotations.clone().unwrap_or_default();
        let spec = ImageSpec {
            reference: image.to_owned(),
            annotations,
        };
        let credentials = keyring.for_image(image);
        let mut last = None;
        for auth in &credentials {
            match self.images.pull_image(&spec, Some(auth)).await {
                Ok(id) => return Ok(id),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error),
            None => self.images.pull_image(&spec, None).await,
        }
    }

    fn tell(&self, need: &ImageNeed<'_>, severity: Severity, reason: &str, message: String) {
        self.events.container(
            need.pod,
            (need.kind, &need.container.name),
            severity,
            reason,
            message,
        );
    }
}

enum Present {
    Answer(ImageState),
    No,
}

enum Finished {
    Running,
    Pulled(ImageId),
    Failed {
        reason: &'static str,
        message: String,
        left: Duration,
    },
}

fn inspect_failed(image: &str, error: &cri::Error) -> ImageState {
    let message = format!("Failed to inspect image {image:?}: {error}");
    ImageState::Failed {
        reason: "ImageInspectError",
        message,
        again_after: Some(crate::worker::BACK_OFF_FIRST),
    }
}

fn pull_error(error: &cri::Error) -> (&'static str, String) {
    match error {
        cri::Error::InvalidImageName { .. } => ("InvalidImageName", error.to_string()),
        _ => ("ErrImagePull", error.to_string()),
    }
}

/// Adds `:latest` to a reference without tag and digest; the error says why the reference does not parse.
pub(crate) fn with_default_tag(image: &str) -> Result<String, String> {
    let invalid = || format!("couldn't parse image name {image:?}: invalid reference format");
    let (without_digest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    let last_slash = without_digest.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match without_digest[last_slash..].rfind(':') {
        Some(colon) => (
            &without_digest[..last_slash + colon],
            Some(&without_digest[last_slash + colon + 1..]),
        ),
        None => (without_digest, None),
    };
    let is_tag = |tag: &str| {
        !tag.is_empty()
            && tag.len() <= 128
            && tag
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    if path.is_empty() || path.ends_with('/') || tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(invalid());
    }
    let (host, name) = path
        .split_once('/')
        .filter(|(host, _)| host.contains(['.', ':']) || *host == "localhost")
        .unwrap_or(("", path));
    let is_name = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.-".contains(c))
            && !part.starts_with(['.', '_', '-'])
            && !part.ends_with(['.', '_', '-'])
    };
    if name.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!(
            "couldn't parse image name {image:?}: invalid reference format: repository name ({name}) must be lowercase"
        ));
    }
    if !name.split('/').all(is_name) || host.contains(char::is_whitespace) {
        return Err(invalid());
    }
    if digest.is_some_and(|digest| !digest.contains(':')) {
        return Err(invalid());
    }
    Ok(if digest.is_none() && tag.is_none() {
        format!("{image}:latest")
    } else {
        image.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_without_tag_and_digest_means_latest_and_a_bad_one_is_refused() {
        assert_eq!(with_default_tag("busybox").unwrap(), "busybox:latest");
        assert_eq!(
            with_default_tag("r.example:5000/a/b").unwrap(),
            "r.example:5000/a/b:latest"
        );
        let pinned = format!("a@sha256:{}", "0".repeat(64));
        assert_eq!(with_default_tag(&pinned).unwrap(), pinned);
        for bad in ["", "Upper/case", "a//b", "a:!", "a b", "/x"] {
            assert!(with_default_tag(bad).is_err(), "{bad:?}");
        }
    }
}
