//! `/containerLogs`: a log as it is, or as it grows.

use cri::{ContainerEventKind, ContainerState, ContainerStatus};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{mpsc, watch};

use crate::kubelet::Kubelet;
use crate::logs::{LogOptions, read_log};
use crate::pods::facts::{find_container, name};
use crate::server::answer::{Answer, stream, text};
use crate::server::pods::NotThere;
use crate::server::route::ContainerPath;

/// Chunks that wait for a slow client.
const CHUNKS_MAX: usize = 4;

pub(crate) async fn container_logs(
    kubelet: &Kubelet,
    path: &ContainerPath,
    query: &[(String, String)],
) -> Answer {
    let options = match LogOptions::parse(query, kubelet.services.clock.now()) {
        Ok(options) => options,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    match open(kubelet, path, &options).await {
        Err((status, why)) => text(status, why),
        Ok(container) => {
            let (out, chunks) = mpsc::channel(CHUNKS_MAX);
            let alive = liveness(kubelet, &container);
            env::spawn(async move {
                if let Err(error) = read_log(&container.log_path, options, alive, out).await {
                    tracing::debug!(%error, log = %container.log_path.display(), "a log is not read to its end");
                }
            });
            stream(chunks)
        }
    }
}

/// The container whose log is wanted; it has been started, and its log is there.
async fn open(
    kubelet: &Kubelet,
    path: &ContainerPath,
    options: &LogOptions,
) -> Result<ContainerStatus, NotThere> {
    let (_, pod) = kubelet.find_pod(&path.pod)?;
    if find_container(&pod, &path.container).is_none() {
        return Err((
            StatusCode::NOT_FOUND,
            format!(
                "container {:?} not found in pod {:?}",
                path.container, path.pod.name
            ),
        ));
    }
    let observed = kubelet.observe(&pod).await?;
    let mut all = observed.all_of(&path.container);
    if options.previous {
        let previous = match all.next() {
            // A container that waits to be restarted is itself the one that ran before.
            Some(newest)
                if matches!(newest.state, ContainerState::Exited { .. })
                    && waits(&pod, &path.container) =>
            {
                Some(newest)
            }
            _ => all.next(),
        };
        return previous.cloned().ok_or_else(|| {
            let why = format!(
                "previous terminated container {:?} in pod {:?} not found",
                path.container, path.pod.name
            );
            (StatusCode::BAD_REQUEST, why)
        });
    }
    let newest = all
        .find(|container| !matches!(container.state, ContainerState::Created))
        .cloned();
    newest.ok_or_else(|| (StatusCode::BAD_REQUEST, waiting_text(&pod, &path.container)))
}

fn status_of<'a>(
    pod: &'a Pod,
    container: &str,
) -> Option<&'a k8s_openapi::api::core::v1::ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    lists
        .into_iter()
        .flatten()
        .flatten()
        .find(|status| status.name == container)
}

fn waits(pod: &Pod, container: &str) -> bool {
    status_of(pod, container)
        .and_then(|status| status.state.as_ref())
        .is_some_and(|state| state.waiting.is_some())
}

fn waiting_text(pod: &Pod, container: &str) -> String {
    let state = status_of(pod, container)
        .and_then(|status| status.state.clone())
        .unwrap_or_default();
    let reason = state
        .waiting
        .and_then(|waiting| waiting.reason)
        .unwrap_or_default();
    match reason.as_str() {
        "ErrImagePull" => format!(
            "container {container:?} in pod {:?} is waiting to start: image can't be pulled",
            name(pod)
        ),
        "ImagePullBackOff" => format!(
            "container {container:?} in pod {:?} is waiting to start: trying and failing to pull image",
            name(pod)
        ),
        "" => format!(
            "container {container:?} in pod {:?} is not available",
            name(pod)
        ),
        reason => format!(
            "container {container:?} in pod {:?} is waiting to start: {reason}",
            name(pod)
        ),
    }
}

/// Turns false when the container ends.
fn liveness(kubelet: &Kubelet, container: &ContainerStatus) -> watch::Receiver<bool> {
    let mut events = kubelet.services.runtime.events();
    let (alive, liveness) =
        watch::channel(matches!(container.state, ContainerState::Running { .. }));
    let (runtime, id) = (kubelet.services.runtime.clone(), container.id.clone());
    env::spawn(async move {
        loop {
            // It may have ended between the look and the subscription, or while events were lost.
            let runs = runtime
                .container_status(&id)
                .await
                .is_ok_and(|status| matches!(status.state, ContainerState::Running { .. }));
            if !runs {
                alive.send_replace(false);
                return;
            }
            loop {
                let event = tokio::select! {
                    biased;
                    () = alive.closed() => return,
                    event = events.recv() => event,
                };
                match event {
                    Ok(event)
                        if event.container.as_ref() == Some(&id)
                            && !matches!(
                                event.kind,
                                ContainerEventKind::Started | ContainerEventKind::Created
                            ) =>
                    {
                        break;
                    }
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        }
    });
    liveness
}
