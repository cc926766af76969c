//! Nodes, with the pods on them and what these ask for.

use apimachinery::{Object, Quantity};
use serde_json::Value;

use super::Subject;
use super::text::{Text, list, or_none, text};
use crate::times::{age, long};

pub(super) fn describe(subject: &Subject, out: &mut Text) {
    let (object, spec, status) = (
        &subject.object,
        &subject.object["spec"],
        &subject.object["status"],
    );
    out.field(0, "Name", text(&object["metadata"]["name"]));
    out.field(0, "Roles", or_none(roles(object)));
    out.labels(object);
    out.field(
        0,
        "CreationTimestamp",
        long(&text(&object["metadata"]["creationTimestamp"])),
    );
    taints(spec, out);
    out.field(
        0,
        "Unschedulable",
        (spec["unschedulable"] == true).to_string(),
    );
    conditions(status, out);
    let addresses: Vec<String> = list(&status["addresses"])
        .iter()
        .map(|address| format!("{}:\t{}", text(&address["type"]), text(&address["address"])))
        .collect();
    out.block(0, "Addresses", &addresses);
    out.block(0, "Capacity", &amounts(&status["capacity"]));
    out.block(0, "Allocatable", &amounts(&status["allocatable"]));
    system_info(&status["nodeInfo"], out);
    out.field_if(0, "PodCIDR", text(&spec["podCIDR"]));
    let ranges: Vec<String> = list(&spec["podCIDRs"]).iter().map(text).collect();
    out.field_if(0, "PodCIDRs", ranges.join(","));
    out.field_if(0, "ProviderID", text(&spec["providerID"]));
    pods(subject, out);
}

fn roles(object: &Value) -> String {
    let labels = object["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten();
    let roles = labels.filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"));
    roles.collect::<Vec<_>>().join(",")
}

fn taints(spec: &Value, out: &mut Text) {
    let taints: Vec<String> = list(&spec["taints"])
        .iter()
        .map(|taint| match text(&taint["value"]) {
            empty if empty.is_empty() => {
                format!("{}:{}", text(&taint["key"]), text(&taint["effect"]))
            }
            value => format!("{}={value}:{}", text(&taint["key"]), text(&taint["effect"])),
        })
        .collect();
    match taints.split_first() {
        None => out.field(0, "Taints", "<none>"),
        Some((first, rest)) => {
            out.field(0, "Taints", first);
            for taint in rest {
                out.line(0, format!("\t{taint}"));
            }
        }
    }
}

fn conditions(status: &Value, out: &mut Text) {
    let conditions = list(&status["conditions"]);
    if conditions.is_empty() {
        return;
    }
    out.line(0, "Conditions:");
    out.line(
        1,
        "Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage",
    );
    out.line(
        1,
        "----\t------\t-----------------\t------------------\t------\t-------",
    );
    for condition in conditions {
        let cell = |field: &str| text(&condition[field]);
        out.line(
            1,
            format!(
                "{} \t{} \t{} \t{} \t{} \t{}",
                cell("type"),
                cell("status"),
                long(&cell("lastHeartbeatTime")),
                long(&cell("lastTransitionTime")),
                cell("reason"),
                cell("message")
            ),
        );
    }
}

fn amounts(amounts: &Value) -> Vec<String> {
    let amounts = amounts.as_object().into_iter().flatten();
    amounts
        .map(|(key, value)| format!("{key}:\t{}", text(value)))
        .collect()
}

fn system_info(info: &Value, out: &mut Text) {
    const FIELDS: [(&str, &str); 9] = [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
    ];
    out.line(0, "System Info:");
    for (name, field) in FIELDS {
        out.field(1, name, text(&info[field]));
    }
}

/// The four amounts that pods ask for most, in the order in which they are shown.
const ASKED: [(&str, &str); 4] = [
    ("cpu", "requests"),
    ("cpu", "limits"),
    ("memory", "requests"),
    ("memory", "limits"),
];

fn pods(subject: &Subject, out: &mut Text) {
    let allocatable = &subject.object["status"]["allocatable"];
    let running: Vec<&Object> = subject
        .related
        .iter()
        .filter(|pod| {
            !matches!(
                pod.text_at(&["status", "phase"]).as_str(),
                "Succeeded" | "Failed"
            )
        })
        .collect();
    out.line(
        0,
        format!("Non-terminated Pods:\t({} in total)", running.len()),
    );
    out.line(
        1,
        "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge",
    );
    out.line(
        1,
        "---------\t----\t\t------------\t----------\t---------------\t-------------\t---",
    );
    let mut totals = [Quantity::from_units(0); ASKED.len()];
    for pod in running {
        let mut cells = Vec::new();
        for (index, (resource, kind)) in ASKED.iter().enumerate() {
            let asked = asked(pod, resource, kind);
            totals[index] = totals[index].saturating_add(asked);
            cells.push(share(asked, &allocatable[*resource], resource));
        }
        let age = age(pod.metadata_text("creationTimestamp"), subject.now);
        out.line(
            1,
            format!(
                "{}\t{}\t\t{}\t{age}",
                pod.namespace(),
                pod.name(),
                cells.join("\t")
            ),
        );
    }
    out.line(0, "Allocated resources:");
    out.line(
        1,
        "(Total limits may be over 100 percent, i.e., overcommitted.)",
    );
    out.line(1, "Resource\tRequests\tLimits");
    out.line(1, "--------\t--------\t------");
    for (first, resource) in [(0, "cpu"), (2, "memory")] {
        let of = |index: usize| share(totals[index], &allocatable[resource], resource);
        out.line(1, format!("{resource}\t{}\t{}", of(first), of(first + 1)));
    }
}

/// What all containers of a pod ask for together.
fn asked(pod: &Object, resource: &str, kind: &str) -> Quantity {
    let containers = pod
        .at(&["spec", "containers"])
        .map(list)
        .unwrap_or_default();
    containers
        .iter()
        .fold(Quantity::from_units(0), |sum, container| {
            let amount = container["resources"][kind][resource]
                .as_str()
                .and_then(|text| Quantity::parse(text).ok());
            amount.map_or(sum, |amount| sum.saturating_add(amount))
        })
}

fn share(amount: Quantity, of: &Value, resource: &str) -> String {
    let whole = of
        .as_str()
        .and_then(|text| Quantity::parse(text).ok())
        .map_or(0, Quantity::millis);
    let percent = if whole == 0 {
        0
    } else {
        i128::from(amount.millis()) * 100 / i128::from(whole)
    };
    let text = match (resource, amount.millis()) {
        (_, 0) => "0".to_owned(),
        ("cpu", millis) if millis % 1000 == 0 => (millis / 1000).to_string(),
        ("cpu", millis) => format!("{millis}m"),
        _ => bytes(amount.units()),
    };
    format!("{text} ({percent}%)")
}

fn bytes(bytes: i64) -> String {
    for (unit, size) in [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)] {
        if bytes % size == 0 {
            return format!("{}{unit}", bytes / size);
        }
    }
    bytes.to_string()
}
