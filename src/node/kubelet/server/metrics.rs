//! Metrics in Prometheus' text form: the kubelet's own few, and resources of node and pods for the metrics server.

use std::fmt::Write;

use cri::{ContainerState, PodSandboxStats};

use crate::kubelet::Kubelet;
use crate::probes::{ProbeKind, ProbeResult};
use crate::server::stats::cpu_of_node;
use crate::worker::Phase;

type Value = fn(&PodSandboxStats) -> String;
type ContainerValue = fn(&cri::ContainerStats) -> String;

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _written = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value:?}"))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        let _written = writeln!(self.0, "{name}{labels} {value}");
    }
}

/// `/metrics`.
pub(crate) fn own(kubelet: &Kubelet) -> String {
    let services = &kubelet.services;
    let pods = services.pods_table.all();
    let running = pods
        .iter()
        .filter(|pod| {
            pod.view
                .lock()
                .phase
                .is_some_and(|phase| phase < Phase::Terminated)
        })
        .count();
    let mut text = Text(String::new());
    text.family(
        "kubelet_node_name",
        "gauge",
        "[ALPHA] The node's name. The count is always 1.",
    );
    text.sample(
        "kubelet_node_name",
        &[("node", &services.config.node_name)],
        1,
    );
    text.family(
        "kubelet_running_pods",
        "gauge",
        "[ALPHA] Number of pods that have a running pod sandbox",
    );
    text.sample("kubelet_running_pods", &[], running);
    text.family(
        "kubelet_desired_pods",
        "gauge",
        "[ALPHA] The number of pods the kubelet is being instructed to run.",
    );
    text.sample("kubelet_desired_pods", &[("static", "")], pods.len());
    text.family(
        "kubernetes_build_info",
        "gauge",
        "[ALPHA] A metric with a constant '1' value.",
    );
    text.sample(
        "kubernetes_build_info",
        &[("git_version", &services.config.kubelet_version)],
        1,
    );
    text.0
}

// tidy: allow(function-length): one line a metric
/// `/metrics/resource`.
pub(crate) async fn resources(kubelet: &Kubelet) -> Result<String, String> {
    let services = &kubelet.services;
    let sandboxes = services
        .runtime
        .list_pod_sandboxes()
        .await
        .map_err(|error| error.to_string())?;
    let all = services
        .runtime
        .list_pod_sandbox_stats()
        .await
        .map_err(|error| error.to_string())?;
    let mut text = Text(String::new());
    text.family(
        "node_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
    );
    text.sample(
        "node_cpu_usage_seconds_total",
        &[],
        seconds(cpu_of_node().unwrap_or(0)),
    );
    text.family(
        "node_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the node in bytes",
    );
    let memory = linux::system::memory_info().map_or(0, |memory| {
        memory.total_bytes.saturating_sub(memory.available_bytes)
    });
    text.sample("node_memory_working_set_bytes", &[], memory);
    let of_pod: [(&str, &str, &str, Value); 2] = [
        (
            "pod_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
            |stats| seconds(stats.cpu.usage_core_nanoseconds),
        ),
        (
            "pod_memory_working_set_bytes",
            "gauge",
            "[STABLE] Current working set of the pod in bytes",
            |stats| stats.memory.working_set_bytes.to_string(),
        ),
    ];
    for (name, kind, help, value) in of_pod {
        text.family(name, kind, help);
        for stats in &all {
            let Some(sandbox) = sandboxes.iter().find(|sandbox| sandbox.id == stats.id) else {
                continue;
            };
            text.sample(
                name,
                &[
                    ("namespace", &sandbox.pod.namespace),
                    ("pod", &sandbox.pod.name),
                ],
                value(stats),
            );
        }
    }
    let of_container: [(&str, &str, &str, ContainerValue); 2] = [
        (
            "container_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
            |stats| seconds(stats.cpu.usage_core_nanoseconds),
        ),
        (
            "container_memory_working_set_bytes",
            "gauge",
            "[STABLE] Current working set of the container in bytes",
            |stats| stats.memory.working_set_bytes.to_string(),
        ),
    ];
    for (name, kind, help, value) in of_container {
        text.family(name, kind, help);
        for stats in &all {
            let Some(sandbox) = sandboxes.iter().find(|sandbox| sandbox.id == stats.id) else {
                continue;
            };
            for container in &stats.containers {
                let labels = [
                    ("container", container.name.as_str()),
                    ("namespace", &sandbox.pod.namespace),
                    ("pod", &sandbox.pod.name),
                ];
                text.sample(name, &labels, value(container));
            }
        }
    }
    text.family(
        "scrape_error",
        "gauge",
        "[ALPHA] 1 if there was an error while getting container metrics, 0 otherwise",
    );
    text.sample("scrape_error", &[], 0);
    Ok(text.0)
}

/// `/metrics/probes`: the standing results.
pub(crate) async fn probes(kubelet: &Kubelet) -> Result<String, String> {
    let mut text = Text(String::new());
    text.family(
        "prober_probe_result",
        "gauge",
        "[ALPHA] Standing result of a probe: 1 for success, 0 for failure",
    );
    let containers = kubelet
        .services
        .runtime
        .list_containers(&cri::ContainerFilter::default())
        .await
        .map_err(|error| error.to_string())?;
    for container in containers
        .iter()
        .filter(|container| matches!(container.state, ContainerState::Running { .. }))
    {
        let Some(pod) = kubelet.services.pods_table.get(&container.pod_uid) else {
            continue;
        };
        let key = pod.inputs.wanted().object.index.key.clone();
        for kind in ProbeKind::ALL {
            let Some(result) = pod.inputs.probe(&container.id, kind) else {
                continue;
            };
            let labels = [
                ("probe_type", kind.title()),
                ("container", &container.name),
                ("pod", &key.name),
                ("namespace", &key.namespace),
            ];
            text.sample(
                "prober_probe_result",
                &labels,
                u8::from(result == ProbeResult::Success),
            );
        }
    }
    Ok(text.0)
}

fn seconds(nanoseconds: u64) -> String {
    format!(
        "{}.{:09}",
        nanoseconds / 1_000_000_000,
        nanoseconds % 1_000_000_000
    )
}
