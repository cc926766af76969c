//! The Kubernetes that this is, said once.

pub const MAJOR: &str = "1";
pub const MINOR: &str = "36";
/// What probes and hooks call themselves by.
pub const SHORT: &str = "1.36";
/// The oldest minor version whose behaviour can be asked for.
pub const COMPATIBILITY_MINOR_MIN: &str = "35";
/// The API is Kubernetes', the build ours.
pub const GIT: &str = "v1.36.2+combo.1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_agree() {
        assert_eq!(SHORT, format!("{MAJOR}.{MINOR}"));
        assert!(GIT.starts_with(&format!("v{SHORT}.")));
    }
}
