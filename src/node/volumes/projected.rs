//! `projected`: several sources in one volume, in memory; where two give one path, the later wins.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ServiceAccountTokenProjection, Volume, VolumeProjection};

use crate::empty_dir;
use crate::error::{Error, Result};
use crate::objects::TokenRequest;
use crate::payload::{
    Payload, PayloadFile, Projection, config_map_payload, credential, downward_api_payload,
    secret_payload,
};
use crate::plugin::{MountedVolume, Request, VolumePlugin};

/// What the API server fills in.
const EXPIRATION_SECONDS: i64 = 3600;

pub(crate) struct Projected;

#[async_trait]
impl VolumePlugin for Projected {
    fn name(&self) -> &'static str {
        "kubernetes.io~projected"
    }

    fn takes(&self, volume: &Volume) -> bool {
        volume.projected.is_some()
    }

    async fn set_up(&self, request: &Request<'_>) -> Result<MountedVolume> {
        let source = request.volume.projected.clone().unwrap_or_default();
        let mut payload = Payload::new();
        for projection in source.sources.iter().flatten() {
            payload.extend(collect(request, projection, source.default_mode).await?);
        }
        request
            .write_payload(payload, empty_dir::in_memory_for_objects)
            .await
    }
}

async fn collect(
    request: &Request<'_>,
    source: &VolumeProjection,
    default_mode: Option<i32>,
) -> Result<Payload> {
    let objects = &request.shared.objects;
    if let Some(source) = &source.config_map {
        let found = objects
            .config_map(request.namespace(), &source.name)
            .await
            .map_err(Error::Source)?;
        let items = source.items.as_deref().unwrap_or_default();
        let projection = Projection {
            items,
            default_mode,
            optional: source.optional.unwrap_or(false),
        };
        return config_map_payload(&source.name, found.as_ref(), projection);
    }
    if let Some(source) = &source.secret {
        let found = objects
            .secret(request.namespace(), &source.name)
            .await
            .map_err(Error::Source)?;
        let items = source.items.as_deref().unwrap_or_default();
        let projection = Projection {
            items,
            default_mode,
            optional: source.optional.unwrap_or(false),
        };
        return secret_payload(&source.name, found.as_ref(), projection);
    }
    if let Some(source) = &source.downward_api {
        let items = source.items.as_deref().unwrap_or_default();
        return downward_api_payload(items, request.pod, &request.facts, default_mode);
    }
    if let Some(source) = &source.service_account_token {
        let file = token(request, source, default_mode).await?;
        return Ok(Payload::from([(source.path.clone(), file)]));
    }
    if source.cluster_trust_bundle.is_some() {
        return Err(Error::Unsupported(String::from(
            "clusterTrustBundle projections",
        )));
    }
    if source.pod_certificate.is_some() {
        return Err(Error::Unsupported(String::from(
            "podCertificate projections",
        )));
    }
    Err(Error::Invalid(String::from(
        "a projected source names nothing",
    )))
}

async fn token(
    request: &Request<'_>,
    source: &ServiceAccountTokenProjection,
    default_mode: Option<i32>,
) -> Result<PayloadFile> {
    let metadata = &request.pod.metadata;
    let spec = request.pod.spec.as_ref();
    let wanted = TokenRequest {
        namespace: request.namespace().to_owned(),
        service_account: spec
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_default(),
        pod_name: metadata.name.clone().unwrap_or_default(),
        pod_uid: metadata.uid.clone().unwrap_or_default(),
        audience: source
            .audience
            .clone()
            .filter(|audience| !audience.is_empty()),
        expiration_seconds: source.expiration_seconds.unwrap_or(EXPIRATION_SECONDS),
    };
    let shared = request.shared;
    let token = shared
        .tokens
        .token(&wanted, shared.objects.as_ref(), shared.clock.as_ref())
        .await?;
    Ok(credential(
        token.token.into_bytes(),
        default_mode,
        request.only_user(),
        request.fs_group(),
    ))
}
