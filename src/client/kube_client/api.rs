//! Calls on a resource whose type is one of Kubernetes' own.

use std::marker::PhantomData;

use apimachinery::StoredObject;
use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{ClientError, DeleteOptions, DynamicApi, Patch};

/// What the objects of an `Api` must be.
pub trait Kind:
    Resource + k8s_openapi::Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Send + Sync
{
}

impl<K> Kind for K where
    K: Resource
        + k8s_openapi::Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
{
}

/// The objects of type `K` in a namespace, in all namespaces, or cluster-wide.
#[derive(Clone, Debug)]
pub struct Api<K> {
    dynamic: DynamicApi,
    kind: PhantomData<fn() -> K>,
}

impl<K> Api<K> {
    pub(crate) fn new(dynamic: DynamicApi) -> Self {
        Self {
            dynamic,
            kind: PhantomData,
        }
    }

    /// The same collection without its type.
    pub fn dynamic(&self) -> &DynamicApi {
        &self.dynamic
    }

    /// Deletes; true if the object stays for a while (finalizers, grace), false if it is gone.
    pub async fn delete(&self, name: &str, options: &DeleteOptions) -> Result<bool, ClientError> {
        Ok(self.dynamic.delete(name, options).await?.is_some())
    }

    pub async fn delete_collection(
        &self,
        options: &DeleteOptions,
        label_selector: &str,
        field_selector: &str,
    ) -> Result<(), ClientError> {
        self.dynamic
            .delete_collection(options, label_selector, field_selector)
            .await
    }
}

impl<K: Kind> Api<K> {
    pub async fn get(&self, name: &str) -> Result<K, ClientError> {
        self.dynamic.get_as(name, "").await
    }

    /// The object, or `None` if there is none of this name.
    pub async fn get_optional(&self, name: &str) -> Result<Option<K>, ClientError> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every object of a consistent list, decoded, with its resourceVersion.
    pub async fn list(
        &self,
        label_selector: &str,
        field_selector: &str,
    ) -> Result<Vec<K>, ClientError> {
        let list = self.dynamic.list(label_selector, field_selector).await?;
        let typed = |item| typed(item).map_err(|error| ClientError::Malformed(error.to_string()));
        list.items.iter().map(typed).collect()
    }

    pub async fn create(&self, object: &K) -> Result<K, ClientError> {
        self.dynamic.create_as(object).await
    }

    /// Creates at a subresource: a binding, an eviction, a token request.
    pub async fn create_subresource<I, O>(
        &self,
        name: &str,
        subresource: &str,
        object: &I,
    ) -> Result<O, ClientError>
    where
        I: Serialize,
        O: DeserializeOwned,
    {
        self.dynamic
            .create_subresource(name, subresource, object)
            .await
    }

    /// Replaces the object of the same name; with a resourceVersion, only that version of it.
    pub async fn update(&self, object: &K) -> Result<K, ClientError> {
        self.dynamic.update_as(name_of(object), "", object).await
    }

    pub async fn update_status(&self, object: &K) -> Result<K, ClientError> {
        self.dynamic
            .update_as(name_of(object), "status", object)
            .await
    }

    pub async fn patch(&self, name: &str, patch: &Patch) -> Result<K, ClientError> {
        self.dynamic.patch_as(name, "", patch).await
    }

    pub async fn patch_status(&self, name: &str, patch: &Patch) -> Result<K, ClientError> {
        self.dynamic.patch_as(name, "status", patch).await
    }
}

/// A stored object decoded, with its resourceVersion.
pub fn typed<K: Kind>(stored: &StoredObject) -> Result<K, serde_json::Error> {
    let mut object: K = stored.decode()?;
    object.metadata_mut().resource_version = Some(stored.revision.to_string());
    Ok(object)
}

fn name_of<K: Kind>(object: &K) -> &str {
    object.metadata().name.as_deref().unwrap_or_default()
}
