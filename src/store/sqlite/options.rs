//! What can be chosen about a store.

use std::sync::Arc;
use std::time::Duration;

use env::{Clock, Rng, SystemClock, SystemRng};
use kv::Limits;

use crate::sealer::SealedPrefix;

/// As kube-apiserver asks of etcd (`--etcd-compaction-interval`).
const AUTO_COMPACTION: Duration = Duration::from_mins(5);

#[derive(Clone, Debug)]
pub struct Options {
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub limits: Limits,
    /// Which keys' values are encrypted on disk; the longest prefix counts.
    pub sealers: Vec<SealedPrefix>,
    /// How often the store forgets the history that is older than this span, if anything changed. `None`: only when asked.
    pub auto_compaction: Option<Duration>,
    pub relaxed_writes: RelaxedWrites,
    /// How large the store may be; what adds to it is refused from there on. Space that is free within the file is not counted.
    pub quota_bytes: Option<u64>,
    /// Space that is kept for deletes on a full disk; 0: none.
    pub ballast_bytes: u64,
}

/// What becomes of writes with [`kv::Durability::Relaxed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelaxedWrites {
    /// They reach the disk with the next durable write, at a clean stop, or after ten minutes.
    Allowed,
    /// They are as durable as all others.
    Strict,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: SystemClock::shared(),
            rng: SystemRng::shared(),
            limits: Limits::default(),
            sealers: Vec::new(),
            auto_compaction: Some(AUTO_COMPACTION),
            relaxed_writes: RelaxedWrites::Allowed,
            quota_bytes: None,
            ballast_bytes: 0,
        }
    }
}
