//! The list of contents of a bundle: lines that a shell reads with `awk`, and a last one that seals
//! those before it.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use serde::Serialize;

const FORMAT: &str = "combo-bundle 1";
const MEMBERS_MAX: usize = 4096;

/// A processor that bundles are made for, by its name among images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    #[default]
    Amd64,
    Arm64,
}

impl Architecture {
    /// That of this binary.
    pub fn own() -> Self {
        if cfg!(target_arch = "aarch64") {
            Self::Arm64
        } else {
            Self::Amd64
        }
    }

    /// The field `e_machine` of its programs.
    pub(crate) fn elf_machine(self) -> [u8; 2] {
        match self {
            Self::Amd64 => [62, 0],
            Self::Arm64 => [183, 0],
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

impl FromStr for Architecture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "amd64" | "x86_64" => Ok(Self::Amd64),
            "arm64" | "aarch64" => Ok(Self::Arm64),
            other => Err(format!("{other:?} is not supported: amd64 and arm64 are")),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BundleContents {
    pub version: String,
    pub architecture: Architecture,
    pub members: Vec<BundleMember>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleMember {
    pub name: String,
    pub size_bytes: u64,
    /// In hexadecimal digits.
    pub sha256: String,
}

impl BundleContents {
    pub(super) fn to_text(&self) -> String {
        let mut text = format!(
            "{FORMAT}\nversion {}\narch {}\n",
            self.version, self.architecture
        );
        for member in &self.members {
            let BundleMember {
                name,
                size_bytes,
                sha256,
            } = member;
            text.push_str(&format!("sha256 {sha256} {size_bytes} {name}\n"));
        }
        let seal = hexadecimal(digest(&SHA256, text.as_bytes()).as_ref());
        text.push_str(&format!("seal {seal}\n"));
        text
    }

    /// The reason why a text is no list of contents follows the list's name in a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let sealed = text
            .trim_end_matches('\n')
            .rsplit_once('\n')
            .map_or(0, |(body, _)| body.len() + 1);
        let (body, seal) = text.split_at(sealed);
        let expected = hexadecimal(digest(&SHA256, body.as_bytes()).as_ref());
        if seal != format!("seal {expected}\n") {
            return Err("was changed: its seal does not fit".to_owned());
        }
        let mut lines = body.lines();
        let mut next = |prefix: &str| lines.next().and_then(|line| line.strip_prefix(prefix));
        next(FORMAT)
            .filter(|rest| rest.is_empty())
            .ok_or("is of a newer format; use the install script that came with it")?;
        let version = next("version ").ok_or("names no version")?.to_owned();
        let architecture = next("arch ").ok_or("names no architecture")?.parse()?;
        let members = lines
            .map(|line| {
                member(line).ok_or_else(|| format!("has a line that is no member: {line:?}"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if members.len() > MEMBERS_MAX {
            return Err(format!("names more than {MEMBERS_MAX} members"));
        }
        Ok(Self {
            version,
            architecture,
            members,
        })
    }
}

/// A sealed list is still not trusted with paths.
fn member(line: &str) -> Option<BundleMember> {
    let mut words = line.strip_prefix("sha256 ")?.splitn(3, ' ');
    let (sha256, size, name) = (words.next()?, words.next()?, words.next()?);
    let size_bytes = size
        .parse()
        .ok()
        .filter(|size| *size <= super::MEMBER_BYTES_MAX)?;
    let is_known = match name.strip_prefix(super::IMAGES) {
        Some(file) => !file.is_empty() && !file.starts_with('.') && !file.contains('/'),
        None => name == super::BINARY || name == super::SCRIPT,
    };
    (is_known && name.len() <= super::NAME_BYTES_MAX).then(|| BundleMember {
        name: name.to_owned(),
        size_bytes,
        sha256: sha256.to_owned(),
    })
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
