//! How far along a pod is.

use crate::worker::Observed;

/// It only ever moves down this list, and never back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Its containers are made to run as the spec says.
    Syncing,
    /// Its containers are stopped; none is started.
    Terminating,
    /// Nothing runs; what it held on the node is given back.
    Terminated,
    /// Nothing is left to do for it.
    Finished,
}

/// What the next phase depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PhaseInputs<'a> {
    /// Deleted, evicted, refused, gone, or ended by itself.
    pub(crate) must_end: bool,
    pub(crate) observed: &'a Observed,
    /// The stopping of this pod was carried out to its end.
    pub(crate) stopped: bool,
    /// Volumes, probes and network are given back.
    pub(crate) cleaned: bool,
}

/// The phase of this turn: the old one or a later one.
pub(crate) fn next_phase(current: Phase, inputs: PhaseInputs<'_>) -> Phase {
    let next = match current {
        Phase::Syncing if inputs.must_end => Phase::Terminating,
        Phase::Terminating if inputs.stopped && !inputs.observed.is_anything_running() => {
            Phase::Terminated
        }
        Phase::Terminated if inputs.cleaned => Phase::Finished,
        _ => current,
    };
    debug_assert!(next >= current, "a phase never moves back");
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_never_moves_back() {
        let observed = Observed::default();
        let inputs = PhaseInputs {
            must_end: false,
            observed: &observed,
            stopped: false,
            cleaned: false,
        };
        for phase in [Phase::Terminating, Phase::Terminated, Phase::Finished] {
            assert_eq!(next_phase(phase, inputs), phase);
        }
    }
}
