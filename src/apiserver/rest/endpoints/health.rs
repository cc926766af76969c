//! Whether the server lives and is ready, check by check.

use std::fmt::Write as _;
use std::sync::Arc;

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
        return match CHECKS.contains(&rest.as_str()) {
            true if passes(state, root, &rest) => Answer::Written(text_response(200, "ok")),
            true => Answer::Written(text_response(
                500,
                format!("internal server error: {rest} is not ready\n"),
            )),
            false => not_found(),
        };
    }
    let excluded: Vec<&str> = request.info.query.all("exclude").collect();
    let mut text = String::new();
    let mut fails = false;
    for check in CHECKS {
        let line = if excluded.contains(check) {
            format!("[+]{check} excluded: ok\n")
        } else if passes(state, root, check) {
            format!("[+]{check} ok\n")
        } else {
            fails = true;
            format!("[-]{check} failed: reason withheld\n")
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

fn passes(state: &State, root: &str, check: &str) -> bool {
    match check {
        "poststarthook/rbac/bootstrap-roles" | "poststarthook/bootstrap-controller" => {
            root == "livez" || state.is_bootstrapped()
        }
        _ => true,
    }
}
