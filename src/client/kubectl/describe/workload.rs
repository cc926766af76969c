//! Deployments, replica sets, daemon sets, stateful sets and jobs.

use apimachinery::Object;
use env::Timestamp;
use serde_json::Value;

use super::Subject;
use super::pod_template::template;
use super::text::{Text, controller, list, or_none, pairs, text, text_or_none};
use crate::times::{human, long};
use crate::workloads::selector_text;

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn selector(object: &Value) -> String {
    or_none(selector_text(&object["spec"]["selector"]).unwrap_or_default())
}

fn created(object: &Value) -> String {
    long(&text(&object["metadata"]["creationTimestamp"]))
}

pub(super) fn deployment(subject: &Subject, out: &mut Text) {
    let (object, spec, status) = (
        &subject.object,
        &subject.object["spec"],
        &subject.object["status"],
    );
    out.field(0, "Name", text(&object["metadata"]["name"]));
    out.field(0, "Namespace", text(&object["metadata"]["namespace"]));
    out.field(0, "CreationTimestamp", created(object));
    out.labels(object);
    out.field(0, "Selector", selector(object));
    out.field(
        0,
        "Replicas",
        format!(
            "{} desired | {} updated | {} total | {} available | {} unavailable",
            number(&spec["replicas"]),
            number(&status["updatedReplicas"]),
            number(&status["replicas"]),
            number(&status["availableReplicas"]),
            number(&status["unavailableReplicas"])
        ),
    );
    out.field(0, "StrategyType", text(&spec["strategy"]["type"]));
    out.field(
        0,
        "MinReadySeconds",
        number(&spec["minReadySeconds"]).to_string(),
    );
    let rolling = &spec["strategy"]["rollingUpdate"];
    if rolling.is_object() {
        let surge = text(&rolling["maxSurge"]);
        let strategy = format!(
            "{} max unavailable, {surge} max surge",
            text(&rolling["maxUnavailable"])
        );
        out.field(0, "RollingUpdateStrategy", strategy);
    }
    template(&spec["template"], out);
    reasons(&status["conditions"], out);
    replica_sets(subject, out);
}

/// Conditions with what they were set for.
fn reasons(conditions: &Value, out: &mut Text) {
    if list(conditions).is_empty() {
        return;
    }
    out.line(0, "Conditions:");
    out.line(1, "Type\tStatus\tReason");
    out.line(1, "----\t------\t------");
    for condition in list(conditions) {
        let cell = |field: &str| text(&condition[field]);
        out.line(
            1,
            format!("{} \t{}\t{}", cell("type"), cell("status"), cell("reason")),
        );
    }
}

const REVISION: &str = "deployment.kubernetes.io/revision";

fn replica_sets(subject: &Subject, out: &mut Text) {
    let uid = &subject.object["metadata"]["uid"];
    let revision = subject.object["metadata"]["annotations"][REVISION]
        .as_str()
        .unwrap_or_default();
    let owned = subject.related.iter().filter(|set| {
        set.owner_references()
            .iter()
            .any(|owner| uid == owner.uid.as_str())
    });
    let line = |set: &Object| {
        let replicas = |path: &[&str]| set.at(path).and_then(Value::as_i64).unwrap_or(0);
        let (created, wanted) = (
            replicas(&["status", "replicas"]),
            replicas(&["spec", "replicas"]),
        );
        format!("{} ({created}/{wanted} replicas created)", set.name())
    };
    let (new, old): (Vec<&Object>, Vec<&Object>) =
        owned.partition(|set| set.annotation(REVISION) == Some(revision));
    let lines =
        |sets: Vec<&Object>| or_none(sets.into_iter().map(line).collect::<Vec<_>>().join(", "));
    out.field(0, "OldReplicaSets", lines(old));
    out.field(0, "NewReplicaSet", lines(new));
}

fn pods_status(subject: &Subject, out: &mut Text) {
    let uid = &subject.object["metadata"]["uid"];
    let owned: Vec<String> = subject
        .related
        .iter()
        .filter(|pod| {
            pod.owner_references()
                .iter()
                .any(|owner| uid == owner.uid.as_str())
        })
        .map(|pod| pod.text_at(&["status", "phase"]))
        .collect();
    let count = |phase: &str| owned.iter().filter(|found| *found == phase).count();
    out.field(
        0,
        "Pods Status",
        format!(
            "{} Running / {} Waiting / {} Succeeded / {} Failed",
            count("Running"),
            count("Pending"),
            count("Succeeded"),
            count("Failed")
        ),
    );
}

pub(super) fn replica_set(subject: &Subject, out: &mut Text) {
    let (object, spec, status) = (
        &subject.object,
        &subject.object["spec"],
        &subject.object["status"],
    );
    out.field(0, "Name", text(&object["metadata"]["name"]));
    out.field(0, "Namespace", text(&object["metadata"]["namespace"]));
    out.field(0, "Selector", selector(object));
    out.labels(object);
    out.field_if(0, "Controlled By", controller(object));
    let replicas = format!(
        "{} current / {} desired",
        number(&status["replicas"]),
        number(&spec["replicas"])
    );
    out.field(0, "Replicas", replicas);
    pods_status(subject, out);
    template(&spec["template"], out);
    reasons(&status["conditions"], out);
}

pub(super) fn daemon_set(subject: &Subject, out: &mut Text) {
    let (object, status) = (&subject.object, &subject.object["status"]);
    out.field(0, "Name", text(&object["metadata"]["name"]));
    out.field(0, "Namespace", text(&object["metadata"]["namespace"]));
    out.field(0, "Selector", selector(object));
    out.field(
        0,
        "Node-Selector",
        or_none(pairs(&object["spec"]["template"]["spec"]["nodeSelector"], "=").join(",")),
    );
    out.labels(object);
    for (name, field) in [
        (
            "Desired Number of Nodes Scheduled",
            "desiredNumberScheduled",
        ),
        (
            "Current Number of Nodes Scheduled",
            "currentNumberScheduled",
        ),
        (
            "Number of Nodes Scheduled with Up-to-date Pods",
            "updatedNumberScheduled",
        ),
        (
            "Number of Nodes Scheduled with Available Pods",
            "numberAvailable",
        ),
        ("Number of Nodes Misscheduled", "numberMisscheduled"),
    ] {
        out.line(0, format!("{name}: {}", number(&status[field])));
    }
    pods_status(subject, out);
    template(&object["spec"]["template"], out);
}

pub(super) fn stateful_set(subject: &Subject, out: &mut Text) {
    let (object, spec, status) = (
        &subject.object,
        &subject.object["spec"],
        &subject.object["status"],
    );
    out.field(0, "Name", text(&object["metadata"]["name"]));
    out.field(0, "Namespace", text(&object["metadata"]["namespace"]));
    out.field(0, "CreationTimestamp", created(object));
    out.field(0, "Selector", selector(object));
    out.labels(object);
    let replicas = format!(
        "{} desired | {} total",
        number(&spec["replicas"]),
        number(&status["replicas"])
    );
    out.field(0, "Replicas", replicas);
    out.field(0, "Update Strategy", text(&spec["updateStrategy"]["type"]));
    let partition = &spec["updateStrategy"]["rollingUpdate"]["partition"];
    if partition.is_number() {
        out.field(1, "Partition", text(partition));
    }
    pods_status(subject, out);
    template(&spec["template"], out);
    let claims = list(&spec["volumeClaimTemplates"]);
    if claims.is_empty() {
        return out.field(0, "Volume Claims", "<none>");
    }
    out.line(0, "Volume Claims:");
    for claim in claims {
        out.field(1, "Name", text(&claim["metadata"]["name"]));
        out.field(1, "StorageClass", text(&claim["spec"]["storageClassName"]));
        out.field(
            1,
            "Capacity",
            text(&claim["spec"]["resources"]["requests"]["storage"]),
        );
        let modes: Vec<String> = list(&claim["spec"]["accessModes"])
            .iter()
            .map(text)
            .collect();
        out.field(1, "Access Modes", format!("[{}]", modes.join(" ")));
    }
}

pub(super) fn job(subject: &Subject, out: &mut Text) {
    let (object, spec, status) = (
        &subject.object,
        &subject.object["spec"],
        &subject.object["status"],
    );
    out.field(0, "Name", text(&object["metadata"]["name"]));
    out.field(0, "Namespace", text(&object["metadata"]["namespace"]));
    out.field(0, "Selector", selector(object));
    out.labels(object);
    out.field_if(0, "Controlled By", controller(object));
    out.field(0, "Parallelism", text_or_none(&spec["parallelism"]));
    out.field(0, "Completions", text_or_none(&spec["completions"]));
    out.field_if(0, "Completion Mode", text(&spec["completionMode"]));
    out.field(0, "Suspend", (spec["suspend"] == true).to_string());
    out.field(0, "Backoff Limit", text(&spec["backoffLimit"]));
    out.field_if(
        0,
        "TTL Seconds After Finished",
        text(&spec["ttlSecondsAfterFinished"]),
    );
    let (start, end) = (text(&status["startTime"]), text(&status["completionTime"]));
    for (name, moment) in [("Start Time", &start), ("Completed At", &end)] {
        if !moment.is_empty() {
            out.field(0, name, long(moment));
        }
    }
    if let (Some(start), Some(end)) = (Timestamp::parse(&start), Timestamp::parse(&end)) {
        out.field(0, "Duration", human(end.saturating_since(start)));
    }
    let deadline = text(&spec["activeDeadlineSeconds"]);
    out.field_if(
        0,
        "Active Deadline Seconds",
        if deadline.is_empty() {
            deadline
        } else {
            format!("{deadline}s")
        },
    );
    out.field(
        0,
        "Pods Statuses",
        format!(
            "{} Active ({} Ready) / {} Succeeded / {} Failed",
            number(&status["active"]),
            number(&status["ready"]),
            number(&status["succeeded"]),
            number(&status["failed"])
        ),
    );
    template(&spec["template"], out);
}
