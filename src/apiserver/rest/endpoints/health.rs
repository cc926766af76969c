//! Whether the server lives and is ready, check by check.

use std::fmt::Write as _;
use std::sync::Arc;

use kv::Alarm;

use crate::answer::Answer;
use crate::endpoints::not_found;
use crate::filters::Incoming;
use crate::respond::text_response;
use crate::state::State;

/// The checks of each endpoint, in the order they are told.
const CHECKS: &[&str] = &[
    "ping",
    "log",
    "etcd",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/bootstrap-controller",
];

pub(crate) fn answer(state: &Arc<State>, request: &Incoming, segments: &[&str]) -> Answer {
    let (root, rest) = (segments[0], segments[1..].join("/"));
    if !rest.is_empty() {
        if !CHECKS.contains(&rest.as_str()) {
            return not_found();
        }
        return Answer::Written(match fault(state, root, &rest) {
            None => text_response(200, "ok"),
            Some(fault) => text_response(500, format!("internal server error: {rest} {fault}\n")),
        });
    }
    let excluded: Vec<&str> = request.info.query.all("exclude").collect();
    let mut text = String::new();
    let mut fails = false;
    for check in CHECKS {
        let line = if excluded.contains(check) {
            format!("[+]{check} excluded: ok\n")
        } else if let Some(fault) = fault(state, root, check) {
            fails = true;
            format!("[-]{check} failed: it {fault}\n")
        } else {
            format!("[+]{check} ok\n")
        };
        text.push_str(&line);
    }
    let _infallible = writeln!(
        text,
        "{root} check {}",
        if fails { "failed" } else { "passed" }
    );
    match (fails, request.info.query.get("verbose").is_some()) {
        (true, _) => Answer::Written(text_response(500, text)),
        (false, true) => Answer::Written(text_response(200, text)),
        (false, false) => Answer::Written(text_response(200, "ok")),
    }
}

/// What is wrong with what a check looks at.
fn fault(state: &State, root: &str, check: &str) -> Option<&'static str> {
    match check {
        "poststarthook/rbac/bootstrap-roles" | "poststarthook/bootstrap-controller" => {
            let is_made = root == "livez" || state.is_bootstrapped();
            (!is_made).then_some("is not ready")
        }
        // As upstream's, which asks its etcd for a key. That a store is full is no reason to start again.
        "etcd" => {
            let is_damaged = state.config.kv.alarms().contains(&Alarm::Corrupt);
            is_damaged.then_some("is damaged and only read (alarm CORRUPT): restore a snapshot")
        }
        _ => None,
    }
}
