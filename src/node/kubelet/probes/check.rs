//! One look at a container: exec, HTTP, TCP or gRPC, with upstream's words for what was seen.

use std::time::Duration;

use cri::{ContainerId, RuntimeService};
use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::net::TcpStream;

use crate::probes::grpc;
use crate::probes::http::{self, BODY_BYTES_MAX, Get, describe, resolve_port};

/// What one look saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Success,
    /// Counts as success, with something to tell.
    Warning(String),
    Failure(String),
    /// The look itself failed; it counts for nothing.
    Unknown(String),
}

/// Looks once, within the probe's time limit.
pub(crate) async fn check(
    runtime: &dyn RuntimeService,
    container: &Container,
    id: &ContainerId,
    pod_ip: &str,
    probe: &Probe,
) -> Seen {
    let limit = timeout(probe);
    if let Some(exec) = &probe.exec {
        return check_exec(runtime, id, exec.command.clone().unwrap_or_default(), limit).await;
    }
    if let Some(action) = &probe.http_get {
        return match Get::new(action, container, pod_ip, &user_agent()) {
            Ok(request) => check_http(request, limit).await,
            Err(why) => Seen::Unknown(why),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action
            .host
            .clone()
            .filter(|host| !host.is_empty())
            .unwrap_or_else(|| pod_ip.to_owned());
        return match resolve_port(&action.port, container) {
            Ok(port) => check_tcp(&host, port, limit).await,
            Err(why) => Seen::Unknown(why),
        };
    }
    if let Some(action) = &probe.grpc {
        let port = u16::try_from(action.port).unwrap_or(0);
        return grpc::check(
            pod_ip,
            port,
            action.service.as_deref().unwrap_or_default(),
            limit,
        )
        .await;
    }
    Seen::Unknown(format!("missing probe handler for {}", container.name))
}

pub(crate) fn timeout(probe: &Probe) -> Duration {
    seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1))
}

pub(crate) fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.map_or(default, |value| u64::try_from(value).unwrap_or(0)))
}

async fn check_exec(
    runtime: &dyn RuntimeService,
    id: &ContainerId,
    command: Vec<String>,
    limit: Duration,
) -> Seen {
    match runtime.exec_sync(id, command, Some(limit)).await {
        Ok(output) => {
            let mut text = [output.stdout, output.stderr].concat();
            text.truncate(BODY_BYTES_MAX);
            let text = String::from_utf8_lossy(&text).into_owned();
            if output.exit_code == 0 {
                Seen::Success
            } else {
                Seen::Failure(text)
            }
        }
        Err(cri::Error::Timeout(text)) => Seen::Failure(format!("command timed out: {text}")),
        Err(error) => Seen::Unknown(error.to_string()),
    }
}

async fn check_http(request: Get, limit: Duration) -> Seen {
    let url = request.url();
    match env::timeout(limit, Box::pin(http::get(request))).await {
        Err(_) => Seen::Failure(format!(
            "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
        Ok(Err(why)) => Seen::Failure(why),
        Ok(Ok(answer)) if answer.redirects_away => Seen::Warning(format!(
            "Probe terminated redirects, Response body: {}",
            answer.body
        )),
        Ok(Ok(answer)) if (200..400).contains(&answer.code) => Seen::Success,
        Ok(Ok(answer)) => Seen::Failure(format!(
            "HTTP probe failed with statuscode: {}",
            answer.code
        )),
    }
}

async fn check_tcp(host: &str, port: u16, limit: Duration) -> Seen {
    let address = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    match env::timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Seen::Success,
        Ok(Err(error)) => Seen::Failure(format!("dial tcp {address}: {}", describe(&error))),
        Err(_) => Seen::Failure(format!("dial tcp {address}: i/o timeout")),
    }
}

/// What probes call themselves by.
pub(super) fn user_agent() -> String {
    format!("kube-probe/{}", apimachinery::version::SHORT)
}
