//! Which of an index's manifests runs on this machine.

use oci_spec::image::{Descriptor, ImageIndex};

/// An operating system is always Linux here; what differs is the processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// GOARCH: `amd64`, `arm64`, `arm`.
    pub architecture: String,
    /// `v6`, `v7`, `v8`; empty where an architecture has none.
    pub variant: String,
}

impl Platform {
    /// What this binary was built for.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Self {
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }

    /// How well a manifest for `architecture`/`variant` runs here: `None` not at all, smaller is better.
    fn distance(&self, architecture: &str, variant: &str) -> Option<u8> {
        if architecture != self.architecture {
            return None;
        }
        let wanted = default_variant(architecture, &self.variant);
        let offered = default_variant(architecture, variant);
        match architecture {
            // An older instruction set runs on a newer processor.
            "arm" => number(wanted).checked_sub(number(offered)),
            _ if wanted == offered => Some(0),
            // amd64/v2 and newer need instructions that not every amd64 has.
            _ => None,
        }
    }
}

/// What an image means that leaves the variant out.
fn default_variant<'a>(architecture: &str, variant: &'a str) -> &'a str {
    match (architecture, variant) {
        ("arm", "") => "v7",
        ("arm64", "") => "v8",
        ("amd64", "v1") => "",
        _ => variant,
    }
}

fn number(variant: &str) -> u8 {
    variant
        .strip_prefix('v')
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(u8::MAX)
}

/// The descriptors of `index` that run on `platform`, best first; those that name no platform come last.
pub(crate) fn select<'a>(index: &'a ImageIndex, platform: &Platform) -> Vec<&'a Descriptor> {
    let mut fitting: Vec<(u8, &Descriptor)> = index
        .manifests()
        .iter()
        .filter_map(|descriptor| match descriptor.platform() {
            None => Some((u8::MAX, descriptor)),
            Some(offered) if offered.os().to_string() != "linux" => None,
            Some(offered) => platform
                .distance(
                    &offered.architecture().to_string(),
                    offered.variant().as_deref().unwrap_or_default(),
                )
                .map(|distance| (distance, descriptor)),
        })
        .collect();
    fitting.sort_by_key(|(distance, _)| *distance);
    fitting
        .into_iter()
        .map(|(_, descriptor)| descriptor)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[(&str, &str, &str)]) -> ImageIndex {
        let manifests: Vec<_> = platforms
            .iter()
            .map(|(os, architecture, variant)| {
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
                    "digest": crate::digest::Digest::of(format!("{os}/{architecture}/{variant}").as_bytes()).as_str(),
                    "platform": {"os": os, "architecture": architecture, "variant": variant},
                })
            })
            .collect();
        serde_json::from_value(serde_json::json!({"schemaVersion": 2, "manifests": manifests}))
            .unwrap()
    }

    fn chosen(index: &ImageIndex, architecture: &str, variant: &str) -> Vec<String> {
        let platform = Platform {
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        };
        select(index, &platform)
            .iter()
            .map(|descriptor| {
                let platform = descriptor.platform().as_ref().unwrap();
                format!(
                    "{}{}",
                    platform.architecture(),
                    platform.variant().as_deref().unwrap_or_default()
                )
            })
            .collect()
    }

    #[test]
    fn the_host_gets_its_own_architecture_and_the_newest_variant_it_can_run() {
        let index = index(&[
            ("windows", "amd64", ""),
            ("linux", "amd64", ""),
            ("linux", "amd64", "v3"),
            ("linux", "arm", "v6"),
            ("linux", "arm", "v7"),
            ("linux", "arm64", "v8"),
            ("unknown", "unknown", ""),
        ]);
        assert_eq!(chosen(&index, "amd64", ""), ["amd64"]);
        assert_eq!(chosen(&index, "arm", "v7"), ["armv7", "armv6"]);
        assert_eq!(chosen(&index, "arm", "v6"), ["armv6"]);
        assert_eq!(chosen(&index, "arm64", ""), ["arm64v8"]);
        assert!(chosen(&index, "riscv64", "").is_empty());
    }
}
