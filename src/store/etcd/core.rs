//! What all services of the API share: the store, and who answers.

use std::sync::Arc;

use kv::{Kv, Revision};

use crate::metrics::Metrics;
use crate::proto::etcdserverpb::ResponseHeader;

/// The version whose API this is. Clients read from it what they may ask for: since 3.7 ranges as streams.
pub(crate) const VERSION: &str = "3.7.0";
/// The term of the one leader that there ever is: that of an etcd that elected itself once.
pub(crate) const RAFT_TERM: u64 = 2;

/// The one member that the cluster seems to have.
#[derive(Clone, Debug)]
pub struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
    pub name: String,
    /// Where clients reach it, as URLs.
    pub client_urls: Vec<String>,
}

impl Identity {
    /// The same numbers whenever cluster and name are the same.
    pub fn derived(cluster: &[u8], name: &str, client_urls: Vec<String>) -> Self {
        let number = |parts: &[&[u8]]| {
            let digest = ring::digest::digest(&ring::digest::SHA256, &parts.concat());
            let bytes = digest
                .as_ref()
                .first_chunk()
                .expect("a digest has 32 bytes");
            u64::from_be_bytes(*bytes)
        };
        Self {
            cluster_id: number(&[b"cluster", cluster]),
            member_id: number(&[b"member", cluster, name.as_bytes()]),
            name: name.to_owned(),
            client_urls,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Core {
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Core {
    pub(crate) fn new(kv: Arc<dyn Kv>, identity: Identity) -> Self {
        Self {
            kv,
            identity: Arc::new(identity),
            metrics: Arc::default(),
        }
    }

    /// The header of an answer that was given at `revision`.
    pub(crate) fn header(&self, revision: Revision) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            cluster_id: self.identity.cluster_id,
            member_id: self.identity.member_id,
            revision,
            raft_term: RAFT_TERM,
        })
    }

    pub(crate) fn header_now(&self) -> Option<ResponseHeader> {
        self.header(self.kv.current_revision())
    }
}

/// The header of an answer within another one, which says nothing but the revision.
pub(crate) fn inner_header(revision: Revision) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}
