//! Which taints a pod tolerates, and for how long.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Taint, Toleration};

pub const NO_SCHEDULE: &str = "NoSchedule";
pub const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";
pub const NO_EXECUTE: &str = "NoExecute";

/// The keys of taints that the control plane puts on nodes by their conditions.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
pub const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";
pub const DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";
pub const PID_PRESSURE: &str = "node.kubernetes.io/pid-pressure";
pub const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";

/// Does one toleration cover a taint? Empty key, effect or operator are wildcards, wildcards, and `Equal`.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    if !key.is_empty() && key != taint.key {
        return false;
    }
    let wanted = toleration.value.as_deref().unwrap_or_default();
    let value = taint.value.as_deref().unwrap_or_default();
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => wanted == value,
        "Exists" => true,
        _ => false,
    }
}

pub fn is_tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations
        .iter()
        .any(|toleration| tolerates(toleration, taint))
}

/// The first taint of these effects that no toleration covers.
pub fn first_untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &[Toleration],
    effects: &[&str],
) -> Option<&'a Taint> {
    taints
        .iter()
        .filter(|taint| effects.contains(&taint.effect.as_str()))
        .find(|taint| !is_tolerated(tolerations, taint))
}

/// How long a pod may stay on a node with these taints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// No taint drives it away.
    Forever,
    /// The shortest time among the tolerations in use.
    For(Duration),
    /// A taint is not tolerated.
    Leave,
}

/// What the `NoExecute` taints among `taints` mean for a pod.
pub fn stay(taints: &[Taint], tolerations: &[Toleration]) -> Stay {
    let mut shortest: Option<i64> = None;
    for taint in taints.iter().filter(|taint| taint.effect == NO_EXECUTE) {
        let mut covering = tolerations
            .iter()
            .filter(|toleration| tolerates(toleration, taint))
            .peekable();
        if covering.peek().is_none() {
            return Stay::Leave;
        }
        for seconds in covering.filter_map(|toleration| toleration.toleration_seconds) {
            shortest = Some(shortest.map_or(seconds, |known| known.min(seconds)));
        }
    }
    match shortest {
        None => Stay::Forever,
        Some(seconds) => u64::try_from(seconds)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map_or(Stay::Leave, |seconds| {
                Stay::For(Duration::from_secs(seconds))
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str, effect: &str) -> Taint {
        Taint {
            key: key.into(),
            effect: effect.into(),
            ..Taint::default()
        }
    }

    fn exists(key: &str, seconds: Option<i64>) -> Toleration {
        Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            toleration_seconds: seconds,
            ..Toleration::default()
        }
    }

    #[test]
    fn an_empty_key_with_exists_tolerates_everything() {
        let everything = Toleration {
            operator: Some("Exists".into()),
            ..Toleration::default()
        };
        assert!(tolerates(&everything, &taint("a", NO_EXECUTE)));
        assert!(!tolerates(&exists("b", None), &taint("a", NO_EXECUTE)));
    }

    #[test]
    fn the_shortest_toleration_decides_how_long_a_pod_stays() {
        let taints = [
            taint("a", NO_EXECUTE),
            taint("b", NO_EXECUTE),
            taint("c", NO_SCHEDULE),
        ];
        assert_eq!(
            stay(&taints, &[exists("a", Some(9)), exists("b", Some(5))]),
            Stay::For(Duration::from_secs(5))
        );
        assert_eq!(
            stay(&taints, &[exists("a", None), exists("b", None)]),
            Stay::Forever
        );
        assert_eq!(stay(&taints, &[exists("a", None)]), Stay::Leave);
    }
}
