//! What a turn of a daemon or stateful set begins with: the revision of its template, and the pods that are its own.

use apimachinery::{LabelSelector, ObjectIndex};
use controller::{Action, Plan};
use k8s_openapi::api::core::v1::Pod;
use kube_client::resource_of;
use serde_json::Value;

use crate::history::{Current, History, Revision};
use crate::ownership::{Adoption, Claim, Owner, claim};

/// A workload that makes its pods from revisions of its template.
pub(crate) struct Revisioned<'a> {
    pub(crate) owner: &'a Owner,
    pub(crate) selector: &'a LabelSelector,
    pub(crate) adoption: Adoption,
    pub(crate) history: &'a History,
    pub(crate) template: &'a Value,
    /// How often the name of a revision was somebody else's.
    pub(crate) collisions: i32,
}

/// How a turn goes on.
pub(crate) enum Beginning<P> {
    /// With nothing more than this.
    Over(Plan),
    /// The next name of the revision is tried: there are so many collisions now.
    Collision(i32),
    Known {
        revisions: Vec<Revision>,
        current: Revision,
        /// Those that fit, also those to be adopted.
        pods: Vec<P>,
        actions: Vec<Action>,
    },
}

impl Revisioned<'_> {
    pub(crate) fn begin<P>(
        &self,
        candidates: Vec<P>,
        index_of: impl Fn(&P) -> &ObjectIndex,
    ) -> Beginning<P> {
        let (owner, adoption) = (self.owner, self.adoption);
        let current = self.history.current(
            owner,
            self.selector,
            adoption,
            self.template,
            self.collisions,
        );
        let (revisions, current, mut actions) = match current {
            Current::Known {
                all,
                current,
                actions,
            } => (all, current, actions),
            Current::First(_) if owner.is_being_deleted => return Beginning::Over(Plan::nothing()),
            Current::First(actions) => return Beginning::Over(Plan::of(actions)),
            Current::Collision => return Beginning::Collision(self.collisions + 1),
        };
        let pods = resource_of::<Pod>();
        match claim(
            owner,
            self.selector,
            &pods,
            "",
            adoption,
            candidates,
            index_of,
        ) {
            Claim::AskFirst(ask) => Beginning::Over(Plan::of(vec![ask])),
            Claim::Settled {
                owned,
                actions: claiming,
            } => {
                actions.extend(claiming);
                Beginning::Known {
                    revisions,
                    current,
                    pods: owned,
                    actions,
                }
            }
        }
    }
}
