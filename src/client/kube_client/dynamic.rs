//! Calls on a resource whose type is known only at run time; the typed `Api` is a decode on top of this.

use apimachinery::{GroupVersionResource, Object};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::{JSON, decode};
use crate::path::{collection_path, object_path, with_query};
use crate::{Client, ClientError, DeleteOptions, ListRequest, Method, ObjectList, Patch};

/// One collection: a resource in a namespace, in all namespaces, or cluster-wide.
#[derive(Clone, Debug)]
pub struct DynamicApi {
    client: Client,
    resource: GroupVersionResource,
    namespace: Option<String>,
}

impl DynamicApi {
    pub(crate) fn new(client: Client, resource: GroupVersionResource, namespace: &str) -> Self {
        let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
        Self {
            client,
            resource,
            namespace,
        }
    }

    pub fn resource(&self) -> &GroupVersionResource {
        &self.resource
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub async fn get(&self, name: &str) -> Result<Object, ClientError> {
        self.get_as(name, "").await
    }

    /// An object, or the subresource of one if `subresource` is not empty, as any type.
    pub async fn get_as<T: DeserializeOwned>(
        &self,
        name: &str,
        subresource: &str,
    ) -> Result<T, ClientError> {
        decode(&self.client.get_raw(&self.path(name, subresource)).await?)
    }

    /// A consistent list; empty selectors select everything.
    pub async fn list(
        &self,
        label_selector: &str,
        field_selector: &str,
    ) -> Result<ObjectList, ClientError> {
        self.client
            .list(self.list_request(label_selector, field_selector))
            .await
    }

    pub fn list_request(&self, label_selector: &str, field_selector: &str) -> ListRequest {
        ListRequest {
            resource: self.resource.clone(),
            namespace: self.namespace.clone(),
            label_selector: label_selector.to_owned(),
            field_selector: field_selector.to_owned(),
        }
    }

    pub async fn create(&self, object: &Object) -> Result<Object, ClientError> {
        self.create_as(object).await
    }

    pub async fn create_as<I: Serialize, O: DeserializeOwned>(
        &self,
        object: &I,
    ) -> Result<O, ClientError> {
        let path = self
            .client
            .write_path(collection_path(&self.resource, self.namespace.as_deref()));
        decode(
            &self
                .client
                .send(Method::Post, path, JSON, encode(object)?)
                .await?,
        )
    }

    /// Creates at a subresource: a binding, an eviction, a token request.
    pub async fn create_subresource<I: Serialize, O: DeserializeOwned>(
        &self,
        name: &str,
        subresource: &str,
        object: &I,
    ) -> Result<O, ClientError> {
        let path = self.client.write_path(self.path(name, subresource));
        decode(
            &self
                .client
                .send(Method::Post, path, JSON, encode(object)?)
                .await?,
        )
    }

    /// Replaces the object that carries the same name; with a resourceVersion, only that version of it.
    pub async fn update(&self, object: &Object) -> Result<Object, ClientError> {
        self.update_as(object.name(), "", object).await
    }

    pub async fn update_status(&self, object: &Object) -> Result<Object, ClientError> {
        self.update_as(object.name(), "status", object).await
    }

    pub async fn update_as<I: Serialize, O: DeserializeOwned>(
        &self,
        name: &str,
        subresource: &str,
        object: &I,
    ) -> Result<O, ClientError> {
        let path = self.client.write_path(self.path(name, subresource));
        decode(
            &self
                .client
                .send(Method::Put, path, JSON, encode(object)?)
                .await?,
        )
    }

    pub async fn patch(&self, name: &str, patch: &Patch) -> Result<Object, ClientError> {
        self.patch_as(name, "", patch).await
    }

    pub async fn patch_status(&self, name: &str, patch: &Patch) -> Result<Object, ClientError> {
        self.patch_as(name, "status", patch).await
    }

    pub async fn patch_as<O: DeserializeOwned>(
        &self,
        name: &str,
        subresource: &str,
        patch: &Patch,
    ) -> Result<O, ClientError> {
        let mut path = self.client.write_path(self.path(name, subresource));
        if matches!(patch, Patch::ForceApply(_)) {
            path = with_query(path, "force", "true");
        }
        let body = Bytes::from(patch.to_body());
        decode(
            &self
                .client
                .send(Method::Patch, path, patch.content_type(), body)
                .await?,
        )
    }

    /// Deletes; the answer is the object if it stays for a while (finalizers, grace), `None` if it is gone.
    pub async fn delete(
        &self,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Option<Object>, ClientError> {
        let body = Bytes::from(options.to_body());
        let answer = self
            .client
            .send(Method::Delete, self.path(name, ""), JSON, body)
            .await?;
        let object: Object = decode(&answer)?;
        let stays = object.kind() != "Status" && object.is_being_deleted();
        Ok(stays.then_some(object))
    }

    pub async fn delete_collection(
        &self,
        options: &DeleteOptions,
        label_selector: &str,
        field_selector: &str,
    ) -> Result<(), ClientError> {
        let path = collection_path(&self.resource, self.namespace.as_deref());
        let path = with_query(path, "labelSelector", label_selector);
        let path = with_query(path, "fieldSelector", field_selector);
        let body = Bytes::from(options.to_body());
        self.client
            .send(Method::Delete, path, JSON, body)
            .await
            .map(|_deleted| ())
    }

    fn path(&self, name: &str, subresource: &str) -> String {
        object_path(&self.resource, self.namespace.as_deref(), name, subresource)
    }
}

fn encode<T: Serialize>(object: &T) -> Result<Bytes, ClientError> {
    apimachinery::to_json(object)
        .map(Bytes::from)
        .map_err(|error| ClientError::Malformed(error.to_string()))
}
