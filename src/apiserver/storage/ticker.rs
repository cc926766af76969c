//! One timer for the bookmarks of all watches: once a minute, and only if the store changed since.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use kv::Kv;
use tokio::sync::watch;

/// How often a watch that asked for bookmarks gets one, at most.
const BOOKMARKS_EVERY: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
pub(crate) struct Ticker(OnceLock<Arc<watch::Sender<()>>>);

impl Ticker {
    /// Starts with the first watch and ends with the store.
    pub(crate) fn subscribe(&self, kv: &Arc<dyn Kv>) -> watch::Receiver<()> {
        let sender = self.0.get_or_init(|| {
            let sender = Arc::new(watch::Sender::new(()));
            env::spawn(tick(Arc::downgrade(&sender), Arc::downgrade(kv)));
            sender
        });
        sender.subscribe()
    }
}

async fn tick(sender: Weak<watch::Sender<()>>, kv: Weak<dyn Kv>) {
    let mut told = 0;
    loop {
        env::sleep(BOOKMARKS_EVERY).await;
        let (Some(sender), Some(kv)) = (sender.upgrade(), kv.upgrade()) else {
            return;
        };
        let revision = kv.current_revision();
        if revision != told && sender.receiver_count() > 0 {
            told = revision;
            sender.send_replace(());
        }
    }
}
