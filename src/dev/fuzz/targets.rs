//! What is fed: each target has samples, which it understands, and a reader.

use super::{bodies, connections, texts};

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Understood,
    Refused,
}

impl Fate {
    pub(super) fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() {
            Self::Understood
        } else {
            Self::Refused
        }
    }
}

pub(super) type Samples = Vec<Vec<u8>>;
pub(super) type Judge = Box<dyn FnMut(&[u8]) -> Fate>;

pub(super) struct Target {
    pub(super) name: &'static str,
    pub(super) prepare: fn() -> anyhow::Result<(Samples, Judge)>,
}

pub(super) const TARGETS: &[Target] = &[
    target("json", bodies::json),
    target("yaml", bodies::yaml),
    target("protobuf", bodies::protobuf),
    target("json-patch", bodies::json_patch),
    target("merge-patch", bodies::merge_patch),
    target("strategic-patch", bodies::strategic_patch),
    target("spdy", connections::spdy),
    target("websocket", connections::web_socket),
    target("dns", connections::dns),
    target("archive", connections::archive),
    target("token", texts::token),
    target("certificate", texts::certificate),
    target("reference", texts::reference),
    target("registries", texts::registries),
    target("selector", texts::selector),
    target("quantity", texts::quantity),
];

const fn target(name: &'static str, prepare: fn() -> anyhow::Result<(Samples, Judge)>) -> Target {
    Target { name, prepare }
}
