//! Empties a namespace that is being deleted, pods first, and lets it go when nothing is left.
//!
//! Which resources there are is known only at run time, so that this is no `Controller`; it uses the same queue.

mod conditions;
mod content;

use std::sync::Arc;
use std::time::Duration;

use apimachinery::{Object, StoredObject};
use controller::{Manager, Queue};
use env::Clock;
use informer::{Cache, Factory};
use k8s_openapi::api::core::v1::Namespace;
use kube_client::{Client, ClientError, resource_of};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use content::Content;

pub(crate) const NAME: &str = "namespace-controller";
const FINALIZER: &str = "kubernetes";
/// Namespaces emptied at once.
const CONCURRENT_TURNS: usize = 10;
/// Content that has not gone by itself after this time is looked at again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(15);
/// A failure is tried again after this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

struct Namespaces {
    client: Client,
    factory: Factory,
    namespaces: Arc<Cache>,
    queue: Arc<Queue<String>>,
    clock: Arc<dyn Clock>,
}

/// Runs until the manager's end is asked for.
pub(crate) fn start(manager: &Manager) {
    let namespaces = manager.factory().all::<Namespace>();
    let queue = Arc::new(Queue::default());
    let woken = Arc::downgrade(&queue);
    namespaces.observe(move |change| {
        let leaving = change
            .new
            .as_ref()
            .filter(|namespace| namespace.index.is_being_deleted);
        if let (Some(namespace), Some(queue)) = (leaving, woken.upgrade()) {
            queue.add(namespace.key().name.clone());
        }
    });
    let controller = Arc::new(Namespaces {
        client: manager.client_as(NAME),
        factory: manager.factory().clone(),
        namespaces,
        queue,
        clock: Arc::clone(manager.clock()),
    });
    let shutdown = manager.shutdown().clone();
    env::spawn(async move {
        let turns = Arc::new(Semaphore::new(CONCURRENT_TURNS));
        loop {
            let name = tokio::select! {
                biased;
                () = shutdown.requested() => return,
                name = controller.queue.next() => name,
            };
            let Ok(permit) = Arc::clone(&turns).acquire_owned().await else {
                return;
            };
            let controller = Arc::clone(&controller);
            env::spawn(async move {
                controller.turn(name).await;
                drop(permit);
            });
        }
    });
}

/// What is left to do for a namespace.
enum Outcome {
    Done,
    /// Something has to go by itself first.
    Remains(Vec<content::Remaining>),
}

impl Namespaces {
    async fn turn(self: &Arc<Self>, name: String) {
        match self.empty(&name).await {
            Ok(Outcome::Done) => self.queue.cancel_delay(&name),
            Ok(Outcome::Remains(remaining)) => self.wait_for(name.clone(), remaining),
            Err(error) => {
                tracing::debug!(namespace = name, %error, "a namespace was not emptied");
                self.queue.add_after(name.clone(), RETRY_AFTER);
            }
        }
        self.queue.done(&name);
    }

    /// Comes back as soon as what remains is gone, and in any case after a while.
    fn wait_for(self: &Arc<Self>, name: String, remaining: Vec<content::Remaining>) {
        let controller = Arc::clone(self);
        env::spawn(async move {
            let gone = async {
                for remaining in remaining {
                    let cache = controller.factory.all_of(remaining.resource);
                    cache.wait_for_sync().await;
                    cache
                        .wait_until(|cache| cache.list_namespace(&name).is_empty())
                        .await;
                }
            };
            // Time out or not, the next turn finds out what is left.
            let _timed_out = env::timeout(LOOK_AGAIN_AFTER, gone).await;
            controller.queue.add(name);
        });
    }

    async fn empty(&self, name: &str) -> Result<Outcome, ClientError> {
        let key = apimachinery::ObjectKey::cluster(name);
        let Some(namespace) = self.namespaces.get(&key) else {
            return Ok(Outcome::Done);
        };
        if !namespace.index.is_being_deleted {
            return Ok(Outcome::Done);
        }
        let tree = decode(&namespace)?;
        if !has_finalizer(&tree) {
            return Ok(Outcome::Done);
        }
        let content = Content::delete(&self.client, name).await;
        self.say(&tree, &content).await?;
        if let Some(error) = content.first_error() {
            return Err(ClientError::Malformed(error));
        }
        if !content.remaining.is_empty() {
            return Ok(Outcome::Remains(content.remaining));
        }
        self.finalize(name).await?;
        Ok(Outcome::Done)
    }

    /// Writes the conditions that tell what keeps the namespace.
    async fn say(&self, namespace: &Object, content: &Content) -> Result<(), ClientError> {
        let wanted = conditions::updated(namespace, content, self.clock.now());
        let is_said = namespace.text_at(&["status", "phase"]) == "Terminating"
            && namespace.at(&["status", "conditions"]) == Some(&wanted);
        if is_said {
            return Ok(());
        }
        let patch = json!({"status": {"phase": "Terminating", "conditions": wanted}});
        let api = self.client.dynamic(resource_of::<Namespace>(), "");
        match api
            .patch_status(namespace.name(), &kube_client::Patch::Merge(patch))
            .await
        {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map(|_| ()),
        }
    }

    async fn finalize(&self, name: &str) -> Result<(), ClientError> {
        let api = self.client.dynamic(resource_of::<Namespace>(), "");
        let mut namespace = match api.get(name).await {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        let kept: Vec<Value> = namespace
            .at(&["spec", "finalizers"])
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|finalizer| *finalizer != FINALIZER)
            .cloned()
            .collect();
        namespace.set_at(&["spec", "finalizers"], Value::Array(kept));
        match api
            .update_as::<_, Object>(name, "finalize", &namespace)
            .await
        {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

fn decode(namespace: &StoredObject) -> Result<Object, ClientError> {
    namespace
        .to_object()
        .map_err(|error| ClientError::Malformed(error.to_string()))
}

fn has_finalizer(namespace: &Object) -> bool {
    let finalizers = namespace
        .at(&["spec", "finalizers"])
        .and_then(Value::as_array);
    finalizers.is_some_and(|finalizers| finalizers.iter().any(|finalizer| finalizer == FINALIZER))
}
