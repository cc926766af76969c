//! Whether the kernel counts memory: that of a Raspberry Pi does not until its boot line is changed. Pods run all the same, and the Node
//! says that nothing holds them to their limits.

use serde_json::Value;

/// The controller that counts and limits memory.
const CONTROLLER: &str = "memory";
/// The condition of the Node; a node without the trouble has none.
pub(crate) const CONDITION: &str = "MemoryLimitsNotEnforced";
pub(crate) const REASON: &str = "NoMemoryController";
pub(crate) const MESSAGE: &str = "the kernel counts no memory: pods run, but requests and limits of memory are \
     not enforced. On a Raspberry Pi add `cgroup_enable=memory cgroup_memory=1` to the one line of \
     /boot/firmware/cmdline.txt (/boot/cmdline.txt before 2023) and reboot; elsewhere boot with \
     `cgroup_enable=memory`, or a kernel with CONFIG_MEMCG";

/// What becomes of limits on memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryLimits {
    #[default]
    Enforced,
    NotEnforced,
}

impl MemoryLimits {
    /// By the names of the controllers that control groups have here.
    pub fn of_controllers(controllers: &[String]) -> Self {
        if controllers.iter().any(|name| name == CONTROLLER) {
            Self::Enforced
        } else {
            Self::NotEnforced
        }
    }

    /// Status, reason and message of the condition; `None` where there was never anything to say.
    pub(crate) fn condition(self, old: &Value) -> Option<[&'static str; 3]> {
        let conditions = old["conditions"].as_array();
        let was_told = conditions
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == CONDITION);
        match self {
            Self::NotEnforced => Some(["True", REASON, MESSAGE]),
            Self::Enforced if was_told => {
                Some(["False", "MemoryIsCounted", "limits of memory are enforced"])
            }
            Self::Enforced => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_the_controller_is_told_by_its_list() {
        let of = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            MemoryLimits::of_controllers(&names)
        };
        assert_eq!(
            of(&["cpuset", "cpu", "io", "pids"]),
            MemoryLimits::NotEnforced
        );
        assert_eq!(of(&["cpu", "memory", "pids"]), MemoryLimits::Enforced);
    }
}
