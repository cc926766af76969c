//! Where a server keeps its cluster: in its data folder, or in an etcd cluster that servers share.

use std::sync::Arc;

use kv::Kv;
use remote::RemoteKv;

use crate::upkeep::OpenedStore;

#[derive(Clone)]
pub(crate) enum Store {
    Own(OpenedStore),
    Shared(Arc<RemoteKv>),
}

impl Store {
    pub(crate) fn kv(&self) -> Arc<dyn Kv> {
        match self {
            Self::Own(opened) => opened.store.clone(),
            Self::Shared(store) => store.clone(),
        }
    }

    /// Waits until everything is on disk that is to be there.
    pub(crate) async fn close(&self) -> kv::Result<()> {
        match self {
            Self::Own(opened) => opened.store.close().await,
            Self::Shared(store) => {
                store.close();
                Ok(())
            }
        }
    }
}
