//! One signal that asks every task to end.

use std::sync::Arc;

use tokio::sync::watch;

/// Held by the one who may ask for the end; dropping it asks too.
#[derive(Debug)]
pub struct ShutdownTrigger(Arc<watch::Sender<bool>>);

/// Given to every task: tells when to end.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    pub fn new() -> (ShutdownTrigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (ShutdownTrigger(Arc::new(sender)), Self(receiver))
    }

    /// Returns once the end was asked for; cancel safe.
    pub async fn requested(&self) {
        let mut receiver = self.0.clone();
        // An error means that the trigger is gone, which asks for the end as well.
        let _gone = receiver.wait_for(|asked| *asked).await;
    }

    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

impl ShutdownTrigger {
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }
}
