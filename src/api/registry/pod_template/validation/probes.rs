//! Probes and hooks of a container's life.

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, PodSpec, Probe,
    SleepAction, TCPSocketAction,
};

use crate::validation::numbers::non_negative;
use crate::validation::{names, one_of, ports, text};

/// A probe's or a hook's action, whichever of them has it.
#[derive(Default)]
struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

pub(super) fn lifecycle_and_probes(
    errors: &mut FieldErrors,
    container: &Container,
    spec: &PodSpec,
    path: &FieldPath,
) {
    if let Some(hooks) = &container.lifecycle {
        lifecycle(errors, hooks, spec, &path.child("lifecycle"));
    }
    let grace = spec.termination_grace_period_seconds;
    if let Some(liveness) = &container.liveness_probe {
        let path = path.child("livenessProbe");
        probe(errors, liveness, grace, &path);
        succeeds_at_once(errors, liveness, &path);
    }
    if let Some(readiness) = &container.readiness_probe {
        let path = path.child("readinessProbe");
        probe(errors, readiness, grace, &path);
        if let Some(seconds) = readiness.termination_grace_period_seconds {
            let path = path.child("terminationGracePeriodSeconds");
            errors.push(FieldError::invalid(
                &path,
                seconds,
                "must not be set for readinessProbes",
            ));
        }
    }
    if let Some(startup) = &container.startup_probe {
        let path = path.child("startupProbe");
        probe(errors, startup, grace, &path);
        succeeds_at_once(errors, startup, &path);
    }
}

fn succeeds_at_once(errors: &mut FieldErrors, probe: &Probe, path: &FieldPath) {
    let threshold = probe.success_threshold.unwrap_or(0);
    if threshold != 1 {
        errors.push(FieldError::invalid(
            &path.child("successThreshold"),
            threshold,
            "must be 1",
        ));
    }
}

fn probe(errors: &mut FieldErrors, probe: &Probe, grace: Option<i64>, path: &FieldPath) {
    let action = Handler {
        exec: probe.exec.as_ref(),
        http_get: probe.http_get.as_ref(),
        tcp_socket: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    handler(errors, &action, grace, path);
    for (number, field) in [
        (probe.initial_delay_seconds, "initialDelaySeconds"),
        (probe.timeout_seconds, "timeoutSeconds"),
        (probe.period_seconds, "periodSeconds"),
        (probe.success_threshold, "successThreshold"),
        (probe.failure_threshold, "failureThreshold"),
    ] {
        non_negative(errors, number.unwrap_or(0), &path.child(field));
    }
    if let Some(seconds) = probe
        .termination_grace_period_seconds
        .filter(|seconds| *seconds <= 0)
    {
        let path = path.child("terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(
            &path,
            seconds,
            "must be greater than 0",
        ));
    }
}

fn lifecycle(errors: &mut FieldErrors, lifecycle: &Lifecycle, spec: &PodSpec, path: &FieldPath) {
    let grace = spec.termination_grace_period_seconds;
    for (hook, field) in [
        (&lifecycle.post_start, "postStart"),
        (&lifecycle.pre_stop, "preStop"),
    ] {
        if let Some(hook) = hook {
            handler(errors, &of_hook(hook), grace, &path.child(field));
        }
    }
    if let Some(signal) = &lifecycle.stop_signal {
        stop_signal(errors, signal, spec, &path.child("stopSignal"));
    }
}

fn of_hook(hook: &LifecycleHandler) -> Handler<'_> {
    Handler {
        exec: hook.exec.as_ref(),
        http_get: hook.http_get.as_ref(),
        tcp_socket: hook.tcp_socket.as_ref(),
        grpc: None,
        sleep: hook.sleep.as_ref(),
    }
}

fn handler(errors: &mut FieldErrors, handler: &Handler<'_>, grace: Option<i64>, path: &FieldPath) {
    let mut kinds = 0;
    let mut is_first = |errors: &mut FieldErrors, field: &str| {
        kinds += 1;
        if kinds > 1 {
            errors.push(FieldError::forbidden(
                &path.child(field),
                "may not specify more than 1 handler type",
            ));
        }
        kinds == 1
    };
    if let Some(exec) = handler.exec
        && is_first(errors, "exec")
        && exec.command.as_ref().is_none_or(Vec::is_empty)
    {
        errors.push(FieldError::required(
            &path.child("exec").child("command"),
            "",
        ));
    }
    if let Some(get) = handler.http_get
        && is_first(errors, "httpGet")
    {
        http_get(errors, get, &path.child("httpGet"));
    }
    if let Some(tcp) = handler.tcp_socket
        && is_first(errors, "tcpSocket")
    {
        ports::number_or_name(errors, &tcp.port, &path.child("tcpSocket").child("port"));
    }
    if let Some(grpc) = handler.grpc
        && is_first(errors, "grpc")
    {
        ports::number(errors, grpc.port, &path.child("grpc").child("port"));
    }
    if let Some(sleep) = handler.sleep
        && is_first(errors, "sleep")
    {
        sleep_within(errors, sleep, grace, &path.child("sleep"));
    }
    if kinds == 0 {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

fn http_get(errors: &mut FieldErrors, get: &HTTPGetAction, path: &FieldPath) {
    if text(&get.path).is_empty() {
        errors.push(FieldError::required(&path.child("path"), ""));
    }
    ports::number_or_name(errors, &get.port, &path.child("port"));
    one_of(
        errors,
        text(&get.scheme),
        &["HTTP", "HTTPS"],
        &path.child("scheme"),
    );
    for header in get.http_headers.iter().flatten() {
        names::header_name(errors, &header.name, &path.child("httpHeaders"));
    }
}

fn sleep_within(
    errors: &mut FieldErrors,
    sleep: &SleepAction,
    grace: Option<i64>,
    path: &FieldPath,
) {
    let Some(grace) = grace else { return };
    if sleep.seconds < 0 || sleep.seconds > grace {
        let why =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(FieldError::invalid(path, sleep.seconds, why));
    }
}

const SIGNALS: [&str; 36] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGRTMIN",
    "SIGRTMAX",
];

/// Signals that Linux has, real-time ones included, sorted.
fn linux_signals() -> Vec<String> {
    let mut signals: Vec<String> = SIGNALS.iter().map(ToString::to_string).collect();
    signals.extend((1..=15).map(|number| format!("SIGRTMIN+{number}")));
    signals.extend((1..=14).map(|number| format!("SIGRTMAX-{number}")));
    signals.sort();
    signals
}

fn stop_signal(errors: &mut FieldErrors, signal: &str, spec: &PodSpec, path: &FieldPath) {
    match spec.os.as_ref().map(|os| os.name.as_str()) {
        None => {
            let why = "may not be set for containers with empty `spec.os.name`";
            errors.push(FieldError::forbidden(path, why));
        }
        Some("windows") => one_of(errors, signal, &["SIGKILL", "SIGTERM"], path),
        Some("linux") => {
            let signals = linux_signals();
            one_of(
                errors,
                signal,
                &signals.iter().map(String::as_str).collect::<Vec<_>>(),
                path,
            );
        }
        Some(_) => {}
    }
}
