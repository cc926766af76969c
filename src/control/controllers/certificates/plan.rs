//! One turn of a request: approve it, sign it, or let it go.

use std::time::Duration;

use apimachinery::{GroupVersionResource, Object};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use controller::{Action, Plan};
use env::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube_client::{Patch, resource_of};
use pki::CertificateRequest;
use serde_json::{Value, json};

use super::rules::{kubelet_client, kubelet_serving, refusal};
use super::{CLIENT, CertificateSigner, IssuedFor, KUBELET_CLIENT, KUBELET_SERVING, LEGACY, View};
use crate::conditions::{self, Condition};

/// What is decided is kept for people to look at.
const DECIDED_KEPT: Duration = Duration::from_hours(1);
const PENDING_KEPT: Duration = Duration::from_hours(24);
/// Certificates live at most this long, and at least as long as the API allows to ask for.
const LIFE_MAX: Duration = Duration::from_hours(8760);
const LIFE_MIN: Duration = Duration::from_mins(10);
/// A requester without the right may be given it.
const ASK_AGAIN_AFTER: Duration = Duration::from_mins(1);

pub(super) fn plan(view: &View, signer: Option<&dyn CertificateSigner>, now: Timestamp) -> Plan {
    let status = &view.status.conditions;
    let is_refused = conditions::is_true(status, "Denied") || conditions::is_true(status, "Failed");
    let is_ours =
        [CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY].contains(&view.spec.signer_name.as_str());
    let mut plan = if is_refused || !view.status.certificate.is_empty() || !is_ours {
        Plan::nothing()
    } else if conditions::is_true(status, "Approved") {
        sign(view, signer, now)
    } else {
        approve(view, now)
    };
    expire(view, &mut plan, now);
    plan
}

fn sign(view: &View, signer: Option<&dyn CertificateSigner>, now: Timestamp) -> Plan {
    let Some(signer) = signer else {
        return Plan::nothing();
    };
    let request = match &view.request {
        Ok(request) => request,
        Err(why) => return fail(view, why, now),
    };
    if let Some(why) = refusal(&view.spec.signer_name, request, &view.spec.usages) {
        return fail(view, &why, now);
    }
    let purpose = match view.spec.signer_name.as_str() {
        KUBELET_SERVING => IssuedFor::KubeletServing,
        LEGACY => IssuedFor::Anything,
        _ => IssuedFor::Client,
    };
    let asked = view
        .spec
        .expiration_seconds
        .map_or(LIFE_MAX, Duration::from_secs);
    match signer.issue(request, purpose, asked.clamp(LIFE_MIN, LIFE_MAX), now) {
        Ok(pem) => Plan::of(vec![patch(
            view,
            "status",
            json!({"certificate": STANDARD.encode(pem)}),
        )]),
        Err(error) => {
            tracing::warn!(request = %view.key, error, "a certificate was not signed");
            Plan {
                again_after: Some(ASK_AGAIN_AFTER),
                ..Plan::nothing()
            }
        }
    }
}

fn fail(view: &View, why: &str, now: Timestamp) -> Plan {
    let failed = condition("Failed", "SignerValidationFailure", why, now);
    Plan::of(vec![patch(view, "status", with(view, failed))])
}

fn condition(kind: &str, reason: &str, message: &str, now: Timestamp) -> Condition {
    Condition {
        last_update_time: Some(now.to_seconds_string()),
        ..Condition::new(kind, true, reason, message, now)
    }
}

fn with(view: &View, condition: Condition) -> Value {
    let mut conditions = view.status.conditions.clone();
    conditions.push(condition);
    json!({"conditions": conditions})
}

fn patch(view: &View, subresource: &'static str, status: Value) -> Action {
    Action::Patch {
        resource: resource_of::<CertificateSigningRequest>(),
        key: view.key.clone(),
        subresource,
        patch: Patch::Merge(json!({
            "metadata": {"resourceVersion": view.revision.to_string()}, "status": status,
        })),
    }
}

fn approve(view: &View, now: Timestamp) -> Plan {
    let Ok(request) = &view.request else {
        return Plan::nothing();
    };
    let message = match view.spec.signer_name.as_str() {
        KUBELET_CLIENT if kubelet_client(request, &view.spec.usages).is_none() => {
            match kubelet_client_review(view, request) {
                Ok(message) => message,
                Err(plan) => return plan,
            }
        }
        KUBELET_SERVING if is_own_serving_certificate(view, request) => {
            "Auto approving kubelet serving certificate for names and addresses of its own node."
        }
        _ => return Plan::nothing(),
    };
    let approved = condition("Approved", "AutoApproved", message, now);
    Plan::of(vec![patch(view, "approval", with(view, approved))])
}

/// A kubelet may ask for what its own node already says of itself, and for nothing else.
fn is_own_serving_certificate(view: &View, request: &CertificateRequest) -> bool {
    let knows = |name: &str| view.node_names.iter().any(|known| known == name);
    kubelet_serving(request, &view.spec.usages).is_none()
        && request.subject.common_name == view.spec.username
        && request.dns_names.iter().all(|name| knows(name))
        && request
            .addresses
            .iter()
            .all(|address| knows(&address.to_string()))
}

/// Whether the requester has the right; the reviews are asked one after the other.
fn kubelet_client_review(view: &View, request: &CertificateRequest) -> Result<&'static str, Plan> {
    let is_self = request.subject.common_name == view.spec.username;
    let mut recognized = vec![(
        "nodeclient",
        "Auto approving kubelet client certificate after SubjectAccessReview.",
    )];
    if is_self {
        let own = (
            "selfnodeclient",
            "Auto approving self kubelet client certificate after SubjectAccessReview.",
        );
        recognized.insert(0, own);
    }
    if view.reviews.is_empty() {
        let reviews = recognized.iter().map(|(right, _)| review(view, right));
        return Err(Plan::of(reviews.collect()));
    }
    let allowed = recognized
        .iter()
        .zip(&view.reviews)
        .find(|(_, is_allowed)| **is_allowed);
    allowed
        .map(|((_, message), _)| *message)
        .ok_or_else(|| Plan {
            again_after: Some(ASK_AGAIN_AFTER),
            ..Plan::nothing()
        })
}

fn review(view: &View, right: &str) -> Action {
    let spec = &view.spec;
    let object = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
        "spec": {
            "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
            "resourceAttributes": {
                "group": "certificates.k8s.io", "resource": "certificatesigningrequests",
                "verb": "create", "subresource": right, "version": "*",
            },
        },
    });
    Action::Ask {
        resource: GroupVersionResource::new("authorization.k8s.io", "v1", "subjectaccessreviews"),
        object: Box::new(Object::from_value(object).expect("it is an object")),
    }
}

/// Old requests go by themselves.
fn expire(view: &View, plan: &mut Plan, now: Timestamp) {
    let decided = view
        .status
        .conditions
        .iter()
        .filter(|condition| condition.is_true());
    let decided = decided
        .filter_map(|condition| Timestamp::parse(condition.last_update_time.as_deref()?))
        .max();
    let end = match decided {
        Some(decided) => decided.saturating_add(DECIDED_KEPT),
        None => view.created.unwrap_or(now).saturating_add(PENDING_KEPT),
    };
    let left = end.saturating_since(now);
    if left.is_zero() {
        plan.actions = vec![Action::delete::<CertificateSigningRequest>(
            view.key.clone(),
            view.uid.clone(),
        )];
    } else {
        plan.wake_within(left);
    }
}
