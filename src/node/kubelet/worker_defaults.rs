//! Numbers of pod lifecycle that several modules share.

/// `terminationGracePeriodSeconds` of a pod that does not say.
pub(crate) const GRACE_SECONDS: i64 = 30;
