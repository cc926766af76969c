//! A load generator: connections that each send one request at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use bytes::Bytes;
use kube_client::{HttpConfig, HttpTransport, Method, Request, Response, Transport as _};
use serde_json::{Value, json};

pub(crate) const JSON: &str = "application/json";
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// What a ConfigMap holds.
const DATA_BYTES: usize = 1024;

/// One TLS connection.
#[derive(Clone)]
pub(crate) struct Connection(HttpTransport);

impl Connection {
    pub(crate) fn new(config: &HttpConfig) -> anyhow::Result<Self> {
        Ok(Self(HttpTransport::new(config)?))
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        accept: &'static str,
    ) -> anyhow::Result<Response> {
        let content_type = if body.is_empty() { "" } else { JSON };
        let request = Request {
            method,
            path: path.to_owned(),
            content_type,
            body,
        };
        let answer = self.0.call_accepting(request, accept).await?;
        if answer.code >= 400 {
            bail!(
                "{path}: {}: {}",
                answer.code,
                String::from_utf8_lossy(&answer.body)
            );
        }
        Ok(answer)
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Bytes> {
        Ok(self
            .call(Method::Get, path, Bytes::new(), "application/json, */*")
            .await?
            .body)
    }

    pub(crate) async fn get_json(&self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.get(path).await?)?)
    }

    pub(crate) async fn create(&self, path: &str, object: &Value) -> anyhow::Result<()> {
        self.call(Method::Post, path, object.to_string().into(), JSON)
            .await
            .map(drop)
    }

    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.call(Method::Delete, path, Bytes::new(), JSON)
            .await
            .map(drop)
    }

    /// The time of one list, and its size in bytes.
    pub(crate) async fn time_list(
        &self,
        accept: &'static str,
    ) -> anyhow::Result<(Duration, usize)> {
        let begun = Instant::now();
        let answer = self
            .call(Method::Get, CONFIG_MAPS, Bytes::new(), accept)
            .await?;
        Ok((begun.elapsed(), answer.body.len()))
    }
}

/// Creates `count` ConfigMaps of 1 KB, named `<prefix>-<n>`, over the connections; returns the rate a second.
#[expect(clippy::cast_precision_loss, reason = "counts are small")]
pub(crate) async fn create_config_maps(
    connections: &[Connection],
    prefix: &str,
    count: usize,
) -> anyhow::Result<f64> {
    let next = Arc::new(AtomicUsize::new(0));
    let value = Arc::new("x".repeat(DATA_BYTES));
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for connection in connections {
        let connection = connection.clone();
        let (next, value, prefix) = (next.clone(), value.clone(), prefix.to_owned());
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(());
                }
                let object = json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {"name": format!("{prefix}-{number}")},
                    "data": {"value": *value},
                });
                connection.create(CONFIG_MAPS, &object).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}
