//! Carries plans out. This is the only place of a controller that writes.

use std::sync::Arc;

use apimachinery::{GroupVersionResource, Object, ObjectKey};
use futures_util::future::{BoxFuture, join_all};
use informer::Cache;
use kube_client::{Client, ClientError, DeleteOptions, Patch};

use crate::gate::current_revision;
use crate::turn::{Failure, Outcomes, Verb};
use crate::wakes::cache_of;
use crate::{Action, Announcement, Event, EventRecorder, EventType, Gate};

/// Calls of one `Together` or one step of a `SlowStart` that are under way at once.
const CALLS_AT_ONCE_MAX: usize = 64;
/// The first step of a `SlowStart`.
const SLOW_START_FIRST: usize = 1;

/// What was done, and what the next turn must wait for.
#[derive(Debug, Default)]
pub struct Record {
    pub outcomes: Outcomes,
    pub gates: Vec<Gate>,
}

impl Record {
    pub fn is_failed(&self) -> bool {
        !self.outcomes.failures.is_empty()
    }

    fn merge(&mut self, other: Record) {
        self.outcomes.failures.extend(other.outcomes.failures);
        self.outcomes.reads.extend(other.outcomes.reads);
        self.outcomes.answers.extend(other.outcomes.answers);
        self.gates.extend(other.gates);
    }
}

/// Acts as one client; knows the caches that must see its writes.
#[derive(Debug)]
pub struct Executor {
    client: Client,
    caches: Vec<Arc<Cache>>,
    events: Arc<EventRecorder>,
}

impl Executor {
    pub fn new(client: Client, caches: Vec<Arc<Cache>>, events: Arc<EventRecorder>) -> Self {
        Self {
            client,
            caches,
            events,
        }
    }

    /// Carries the actions out in order; a failure does not stop the next.
    pub async fn act(&self, actions: Vec<Action>) -> Record {
        let mut record = Record::default();
        for action in actions {
            record.merge(self.perform(action).await);
        }
        record
    }

    fn perform(&self, action: Action) -> BoxFuture<'_, Record> {
        Box::pin(async move {
            match action {
                Action::Create {
                    resource,
                    object,
                    announcement,
                } => {
                    self.create(resource, *object, announcement.as_deref())
                        .await
                }
                Action::Update {
                    resource,
                    subresource,
                    object,
                } => self.update(resource, subresource, &object).await,
                Action::Patch {
                    resource,
                    key,
                    subresource,
                    patch,
                } => self.patch(resource, key, subresource, &patch).await,
                Action::Delete {
                    resource,
                    key,
                    options,
                    announcement,
                } => {
                    self.delete(resource, key, &options, announcement.as_deref())
                        .await
                }
                Action::Emit(event) => {
                    self.events.emit(event);
                    Record::default()
                }
                Action::Read { resource, key } => self.read(resource, key).await,
                Action::Ask { resource, object } => self.ask(resource, &object).await,
                Action::Sequence(actions) => self.sequence(actions).await,
                Action::SlowStart(actions) => self.slow_start(actions).await,
                Action::Together(actions) => self.together(actions).await,
            }
        })
    }

    async fn sequence(&self, actions: Vec<Action>) -> Record {
        let mut record = Record::default();
        for action in actions {
            record.merge(self.perform(action).await);
            if record.is_failed() {
                break;
            }
        }
        record
    }

    async fn slow_start(&self, actions: Vec<Action>) -> Record {
        let mut record = Record::default();
        let mut rest = actions.into_iter();
        let mut step = SLOW_START_FIRST;
        loop {
            let batch: Vec<Action> = rest.by_ref().take(step).collect();
            if batch.is_empty() || record.is_failed() {
                return record;
            }
            record.merge(self.together(batch).await);
            step = (step * 2).min(CALLS_AT_ONCE_MAX);
        }
    }

    async fn together(&self, actions: Vec<Action>) -> Record {
        let mut record = Record::default();
        let mut rest = actions.into_iter();
        loop {
            let batch: Vec<_> = rest
                .by_ref()
                .take(CALLS_AT_ONCE_MAX)
                .map(|action| self.perform(action))
                .collect();
            if batch.is_empty() {
                return record;
            }
            join_all(batch)
                .await
                .into_iter()
                .for_each(|done| record.merge(done));
        }
    }

    async fn create(
        &self,
        resource: GroupVersionResource,
        object: Object,
        announcement: Option<&Announcement>,
    ) -> Record {
        let key = object.key();
        let created = self
            .client
            .dynamic(resource.clone(), &key.namespace)
            .create(&object)
            .await;
        match &created {
            Ok(created) => self.announce_success(announcement, created.name()),
            // Nothing can be made in a namespace that goes away: trying again would not help.
            Err(error) if is_namespace_terminating(error) => return Record::default(),
            Err(error) => self.announce_failure(announcement, error),
        }
        self.written(Verb::Create, resource, key, created).await
    }

    async fn update(
        &self,
        resource: GroupVersionResource,
        subresource: &'static str,
        object: &Object,
    ) -> Record {
        let key = object.key();
        let api = self.client.dynamic(resource.clone(), &key.namespace);
        let updated = api.update_as(&key.name, subresource, object).await;
        self.written(Verb::Update, resource, key, updated).await
    }

    async fn patch(
        &self,
        resource: GroupVersionResource,
        key: ObjectKey,
        subresource: &'static str,
        patch: &Patch,
    ) -> Record {
        let api = self.client.dynamic(resource.clone(), &key.namespace);
        let patched = api.patch_as(&key.name, subresource, patch).await;
        self.written(Verb::Patch, resource, key, patched).await
    }

    async fn delete(
        &self,
        resource: GroupVersionResource,
        key: ObjectKey,
        options: &DeleteOptions,
        announcement: Option<&Announcement>,
    ) -> Record {
        let uid = options.uid.clone();
        match self
            .client
            .dynamic(resource.clone(), &key.namespace)
            .delete(&key.name, options)
            .await
        {
            Ok(_left) => self.announce_success(announcement, &key.name),
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                self.announce_failure(announcement, &error);
                return self.failed(Verb::Delete, resource, key, error).await;
            }
        }
        let mut record = Record::default();
        if let (Some(cache), Some(uid)) = (cache_of(&self.caches, &resource), uid) {
            record
                .gates
                .push(Gate::Leaving(Arc::clone(cache), key, uid));
        }
        record
    }

    async fn read(&self, resource: GroupVersionResource, key: ObjectKey) -> Record {
        let answer = match self
            .client
            .dynamic(resource.clone(), &key.namespace)
            .get(&key.name)
            .await
        {
            Ok(object) => Some(object),
            Err(error) if error.is_not_found() => None,
            Err(error) => return self.failed(Verb::Read, resource, key, error).await,
        };
        let mut record = Record::default();
        record.outcomes.reads.push((resource, key, answer));
        record
    }

    async fn ask(&self, resource: GroupVersionResource, object: &Object) -> Record {
        let key = object.key();
        match self
            .client
            .dynamic(resource.clone(), &key.namespace)
            .create(object)
            .await
        {
            Ok(answer) => {
                let mut record = Record::default();
                record.outcomes.answers.push(answer);
                record
            }
            Err(error) => self.failed(Verb::Read, resource, key, error).await,
        }
    }

    async fn written(
        &self,
        verb: Verb,
        resource: GroupVersionResource,
        key: ObjectKey,
        answer: Result<Object, ClientError>,
    ) -> Record {
        let object = match answer {
            Ok(object) => object,
            Err(error) => return self.failed(verb, resource, key, error).await,
        };
        let mut record = Record::default();
        let revision = object.resource_version().parse();
        if let (Some(cache), Ok(revision)) = (cache_of(&self.caches, &resource), revision) {
            record
                .gates
                .push(Gate::Reached(Arc::clone(cache), revision));
        }
        record
    }

    /// A failure; one with an unknown outcome makes the next turn wait for whatever may have been written.
    async fn failed(
        &self,
        verb: Verb,
        resource: GroupVersionResource,
        key: ObjectKey,
        error: ClientError,
    ) -> Record {
        let mut record = Record::default();
        let is_unknown = !matches!(error, ClientError::Api(_)) && verb != Verb::Read;
        if let (true, Some(cache)) = (is_unknown, cache_of(&self.caches, &resource))
            && let Ok(revision) = current_revision(&self.client, &resource).await
        {
            record
                .gates
                .push(Gate::Reached(Arc::clone(cache), revision));
        }
        record.outcomes.failures.push(Failure {
            verb,
            resource,
            key,
            error,
        });
        record
    }

    fn announce_success(&self, announcement: Option<&Announcement>, name: &str) {
        let Some(announcement) = announcement else {
            return;
        };
        let (reason, prefix) = &announcement.success;
        self.emit(
            announcement,
            EventType::Normal,
            reason,
            format!("{prefix}{name}"),
        );
    }

    fn announce_failure(&self, announcement: Option<&Announcement>, error: &ClientError) {
        let Some(announcement) = announcement else {
            return;
        };
        let (reason, prefix) = &announcement.failure;
        self.emit(
            announcement,
            EventType::Warning,
            reason,
            format!("{prefix}{error}"),
        );
    }

    fn emit(
        &self,
        announcement: &Announcement,
        event_type: EventType,
        reason: &str,
        message: String,
    ) {
        if !reason.is_empty() {
            let regarding = announcement.regarding.clone();
            self.events.emit(Event {
                regarding,
                event_type,
                reason: reason.into(),
                message,
            });
        }
    }
}

fn is_namespace_terminating(error: &ClientError) -> bool {
    let details = error.api().and_then(|error| error.details.as_ref());
    details.is_some_and(|details| {
        details
            .causes
            .iter()
            .any(|cause| cause.reason == "NamespaceTerminating")
    })
}
