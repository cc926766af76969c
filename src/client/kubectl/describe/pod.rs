//! Pods.

use super::Subject;
use super::pod_template::{containers, placement, volumes};
use super::text::{Text, controller, list, or_none, text, text_or_none};
use crate::times::long;

pub(super) fn describe(subject: &Subject, out: &mut Text) {
    let (object, spec, status) = (
        &subject.object,
        &subject.object["spec"],
        &subject.object["status"],
    );
    out.field(0, "Name", text(&object["metadata"]["name"]));
    out.field(0, "Namespace", text(&object["metadata"]["namespace"]));
    out.field(
        0,
        "Priority",
        spec["priority"].as_i64().unwrap_or(0).to_string(),
    );
    out.field_if(0, "Priority Class Name", text(&spec["priorityClassName"]));
    out.field_if(0, "Runtime Class Name", text(&spec["runtimeClassName"]));
    out.field_if(0, "Service Account", text(&spec["serviceAccountName"]));
    let node = match text(&spec["nodeName"]) {
        empty if empty.is_empty() => "<none>".to_owned(),
        node => format!("{node}/{}", text(&status["hostIP"])),
    };
    out.field(0, "Node", node);
    let started = text(&status["startTime"]);
    out.field_if(
        0,
        "Start Time",
        if started.is_empty() {
            started
        } else {
            long(&started)
        },
    );
    out.labels(object);
    let deleted = text(&object["metadata"]["deletionTimestamp"]);
    if deleted.is_empty() {
        out.field(0, "Status", text(&status["phase"]));
    } else {
        out.field(
            0,
            "Status",
            format!("Terminating (since {})", long(&deleted)),
        );
        let grace = text(&object["metadata"]["deletionGracePeriodSeconds"]);
        out.field(0, "Termination Grace Period", format!("{grace}s"));
    }
    out.field_if(0, "Reason", text(&status["reason"]));
    out.field_if(0, "Message", text(&status["message"]));
    if spec["securityContext"]["seccompProfile"].is_object() {
        out.field(
            0,
            "SeccompProfile",
            text(&spec["securityContext"]["seccompProfile"]["type"]),
        );
    }
    rest(subject, out);
}

/// Addresses, containers, conditions, volumes and where it may run.
fn rest(subject: &Subject, out: &mut Text) {
    let (object, spec, status) = (
        &subject.object,
        &subject.object["spec"],
        &subject.object["status"],
    );
    out.field(0, "IP", text(&status["podIP"]));
    addresses(subject, out);
    out.field_if(0, "Controlled By", controller(object));
    out.field_if(0, "NominatedNodeName", text(&status["nominatedNodeName"]));
    containers(
        "Init Containers",
        &spec["initContainers"],
        Some(&status["initContainerStatuses"]),
        0,
        out,
    );
    containers(
        "Containers",
        &spec["containers"],
        Some(&status["containerStatuses"]),
        0,
        out,
    );
    let ephemeral = Some(&status["ephemeralContainerStatuses"]);
    containers(
        "Ephemeral Containers",
        &spec["ephemeralContainers"],
        ephemeral,
        0,
        out,
    );
    out.conditions(&status["conditions"]);
    volumes(&spec["volumes"], 0, out);
    out.field(0, "QoS Class", text_or_none(&status["qosClass"]));
    placement(spec, 0, out);
}

fn addresses(subject: &Subject, out: &mut Text) {
    let addresses = list(&subject.object["status"]["podIPs"]);
    if addresses.is_empty() {
        return out.field(0, "IPs", or_none(String::new()));
    }
    out.line(0, "IPs:");
    for address in addresses {
        out.field(1, "IP", text(&address["ip"]));
    }
}
