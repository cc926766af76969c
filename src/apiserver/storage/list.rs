//! Lists: selectors, pages pinned to a revision, and what a resourceVersion asks of a list.

use std::sync::Arc;

use apimachinery::{
    ApiError, FieldSelector, LabelSelector, ObjectIndex, Reason, StatusDetails, StoredObject,
};
use kv::{Entry, KeyRange, RangeContent, RangeRequest, RangeResponse};

use crate::memo::stored;
use crate::{Collection, ContinueToken, ObjectStore, StorageError};

/// Entries read at a time while a selector looks for enough matches.
const PAGE_ENTRIES_MAX: usize = 500;

const INCONSISTENT: &str = "The provided continue parameter is too old to display a consistent list result. You can start a \
    new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
    results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
    deleted between the time the first chunk was returned and now may show up in the list.";

/// Which objects are wanted.
#[derive(Clone, Debug, Default)]
pub struct Matching {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
}

impl Matching {
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    pub fn matches(&self, index: &ObjectIndex) -> bool {
        (self.labels.is_everything() || self.labels.matches_with(|key| index.label(key)))
            && (self.fields.is_everything() || self.fields.matches_with(|field| index.field(field)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevisionMatch {
    NotOlderThan,
    Exact,
}

#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// `None`: all namespaces, or a cluster-wide kind.
    pub namespace: Option<String>,
    pub matching: Matching,
    /// `None`: the newest state. Revision 0 with `NotOlderThan`: any state.
    pub revision: Option<(i64, RevisionMatch)>,
    /// 0: no limit.
    pub limit: usize,
    pub continue_token: Option<ContinueToken>,
}

/// Objects at one revision.
#[derive(Clone, Debug)]
pub struct List {
    pub items: Vec<StoredObject>,
    pub revision: i64,
    pub continue_token: Option<ContinueToken>,
    /// How many follow; told only when no selector makes it a guess.
    pub remaining: Option<usize>,
}

/// A list on its way: what was read, and where it goes on.
struct Page<'a> {
    collection: &'a Collection,
    options: &'a ListOptions,
    items: Vec<StoredObject>,
}

impl ObjectStore {
    pub async fn list(
        &self,
        collection: &Collection,
        options: &ListOptions,
    ) -> Result<List, StorageError> {
        let mut range = collection.range(options.namespace.as_deref());
        let pinned = self.pinned_revision(&range, options).await?;
        if let Some(token) = &options.continue_token {
            range.start = start_of(collection, token, &range)?;
        } else if let Some(key) = single(collection, options) {
            range = key;
        }
        let mut page = Page {
            collection,
            options,
            items: Vec::new(),
        };
        let mut revision = pinned;
        loop {
            let response = self
                .read(&range, revision, options)
                .await
                .map_err(|error| expired(error, options))?;
            let at = revision.unwrap_or(response.revision);
            revision = Some(at);
            let read = response.entries.len();
            if let Some(last) = page.take(&response.entries)? {
                let start = next_start(collection, &response.entries[last]);
                let remaining = response.count - (last + 1);
                let more = remaining > 0;
                return Ok(page.finish(at, more.then_some((start, remaining))));
            }
            match response.entries.last() {
                Some(last) if read < response.count => range.start = after(&last.key),
                _ => return Ok(page.finish(at, None)),
            }
        }
    }

    async fn read(
        &self,
        range: &KeyRange,
        revision: Option<i64>,
        options: &ListOptions,
    ) -> Result<RangeResponse, kv::Error> {
        let limit = match (options.limit, options.matching.is_everything()) {
            (0, _) => 0,
            (limit, true) => limit,
            (limit, false) => limit.max(PAGE_ENTRIES_MAX),
        };
        let request = RangeRequest {
            range: range.clone(),
            revision,
            limit,
            content: RangeContent::KeysAndValues,
        };
        self.kv.range(request).await
    }

    /// The revision a list must be read at; `None` is the newest.
    async fn pinned_revision(
        &self,
        range: &KeyRange,
        options: &ListOptions,
    ) -> Result<Option<i64>, StorageError> {
        if let Some(token) = &options.continue_token {
            return Ok(token.revision);
        }
        let Some((revision, how)) = options.revision else {
            return Ok(None);
        };
        let mut current = self.current_revision();
        if revision > current {
            // Another server of the same store may have been quicker to see it: a consistent read has all that there is.
            let newest = RangeRequest {
                content: RangeContent::CountOnly,
                ..RangeRequest::newest(range.clone())
            };
            current = self.kv.range(newest).await?.revision;
        }
        if revision > current {
            return Err(too_large(revision, current).into());
        }
        Ok(match how {
            RevisionMatch::Exact => Some(revision),
            RevisionMatch::NotOlderThan => None,
        })
    }
}

impl Page<'_> {
    /// Takes what matches. Where the limit is reached, returns the place of the last entry that was looked at.
    fn take(&mut self, entries: &[Arc<Entry>]) -> Result<Option<usize>, StorageError> {
        let limit = self.options.limit;
        if limit == 0 {
            self.items.reserve(entries.len());
        }
        for (at, entry) in entries.iter().enumerate() {
            let object = stored(entry, self.collection)?;
            if self.options.matching.matches(&object.index) {
                self.items.push(object);
                if limit > 0 && self.items.len() >= limit {
                    return Ok(Some(at));
                }
            }
        }
        Ok(None)
    }

    fn finish(self, revision: i64, next: Option<(String, usize)>) -> List {
        let everything = self.options.matching.is_everything();
        let remaining = next
            .as_ref()
            .filter(|_| everything)
            .map(|(_, remaining)| *remaining);
        let continue_token = next.map(|(start, _)| ContinueToken {
            revision: Some(revision),
            start,
        });
        List {
            items: self.items,
            revision,
            continue_token,
            remaining,
        }
    }
}

/// A list of one name in one namespace reads one key.
fn single(collection: &Collection, options: &ListOptions) -> Option<KeyRange> {
    let name = options.matching.fields.exact("metadata.name")?;
    let namespace = match (&options.namespace, collection.scope) {
        (_, registry::Scope::Cluster) => "",
        (Some(namespace), _) => namespace,
        (None, _) => options.matching.fields.exact("metadata.namespace")?,
    };
    let key = apimachinery::ObjectKey::namespaced(namespace, name);
    (!name.is_empty() && !name.contains('/')).then(|| KeyRange::key(collection.key(&key)))
}

fn after(key: &[u8]) -> Vec<u8> {
    [key, b"\0"].concat()
}

fn next_start(collection: &Collection, last: &Entry) -> String {
    let below = last.key.get(collection.prefix.len()..).unwrap_or_default();
    format!("{}\0", String::from_utf8_lossy(below))
}

fn start_of(
    collection: &Collection,
    token: &ContinueToken,
    range: &KeyRange,
) -> Result<Vec<u8>, ApiError> {
    let start = format!("{}{}", collection.prefix, token.start).into_bytes();
    if range.contains(&start) {
        Ok(start)
    } else {
        Err(ApiError::bad_request(
            "continue key is not valid: the token belongs to another list",
        ))
    }
}

pub(crate) fn too_large(revision: i64, current: i64) -> ApiError {
    let message = format!("Too large resource version: {revision}, current: {current}");
    let mut error = ApiError::timeout(message, 1);
    let cause = apimachinery::Cause {
        reason: "ResourceVersionTooLarge".to_owned(),
        message: "Too large resource version".to_owned(),
        ..apimachinery::Cause::default()
    };
    error.reason = Reason::Timeout;
    error.details = Some(Box::new(StatusDetails {
        causes: vec![cause],
        retry_after_seconds: 1,
        ..StatusDetails::default()
    }));
    error
}

/// What a client is told whose revision is compacted. A pager gets a token that still works.
fn expired(error: kv::Error, options: &ListOptions) -> StorageError {
    let kv::Error::Compacted { .. } = error else {
        return error.into();
    };
    let Some(token) = &options.continue_token else {
        return ApiError::expired("The resourceVersion for the provided list is too old.").into();
    };
    let mut answer = ApiError::expired(INCONSISTENT);
    answer.continue_token = Some(
        ContinueToken {
            revision: None,
            start: token.start.clone(),
        }
        .encode(),
    );
    answer.into()
}
