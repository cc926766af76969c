//! Lifecycle hooks: what runs after a container started and before it is stopped.

use std::time::Duration;

use cri::{ContainerId, RuntimeService};
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};

use crate::pods::facts::title;
use crate::probes::http::{self, Get};

/// Longest time an HTTP hook may take.
const HTTP_MAX: Duration = Duration::from_secs(30);

/// Runs a hook to its end. The error is for the pod's status; it may hold what the hook printed.
pub(crate) async fn run(
    runtime: &dyn RuntimeService,
    pod: &Pod,
    container: &Container,
    id: &ContainerId,
    pod_ip: &str,
    hook: &LifecycleHandler,
) -> Result<(), String> {
    let whose = || {
        format!(
            "for Container {:?} in Pod {:?} failed - error",
            container.name,
            title(pod)
        )
    };
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let fail = |error: String, output: &str| {
            let printed = format!("[{}]", command.join(" "));
            Err(format!(
                "Exec lifecycle hook ({printed}) {}: {error}, message: {output:?}",
                whose()
            ))
        };
        return match runtime.exec_sync(id, command.clone(), None).await {
            Ok(output) if output.exit_code == 0 => Ok(()),
            Ok(output) => {
                let text =
                    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
                fail(
                    format!(
                        "command '{}' exited with {}: {text}",
                        command.join(" "),
                        output.exit_code
                    ),
                    &text,
                )
            }
            Err(error) => fail(error.to_string(), ""),
        };
    }
    if let Some(action) = &hook.http_get {
        let path = action.path.clone().unwrap_or_default();
        let agent = format!("kube-lifecycle/{}", apimachinery::version::SHORT);
        let request = Get::new(action, container, pod_ip, &agent);
        let answer = match request {
            Ok(request) => env::timeout(HTTP_MAX, Box::pin(http::get(request)))
                .await
                .unwrap_or_else(|_| Err("context deadline exceeded".to_owned())),
            Err(error) => Err(error),
        };
        // Any answer is good: upstream looks only at whether there was one.
        return answer
            .map(drop)
            .map_err(|error| format!("HTTP lifecycle hook ({path}) {}: {error}", whose()));
    }
    if let Some(sleep) = &hook.sleep {
        env::sleep(Duration::from_secs(
            u64::try_from(sleep.seconds).unwrap_or(0),
        ))
        .await;
        return Ok(());
    }
    Err(
        "Cannot run handler: invalid handler: only exec, httpGet and sleep are supported"
            .to_owned(),
    )
}
