//! Pulls an image from the first of its endpoints that has it; every byte is checked against its digest before anything uses it.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::sync::{Arc, Once};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use oci_client::client::{
    BlobResponse, Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol,
    LayerDescriptor,
};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use tokio::sync::mpsc;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::index::ImageRecord;
use crate::layout::{self, BlobWriter, LockMode};
use crate::manifest::{self, DOCUMENT_BYTES_MAX, Document};
use crate::peers::{self, Peers};
use crate::platform;
use crate::reference::Reference;
use crate::registries::{DefaultEndpoint, Endpoint, Registries, Scheme};
use crate::store::ImageStore;

/// Layers of one image at a time, as other runtimes do.
const DOWNLOADS_MAX: usize = 3;
/// How often one blob is resumed after the connection broke.
const RESUMPTIONS_MAX: u32 = 5;
const RESUME_WAIT: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a byte for so long, a connection counts as broken.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Pieces of a blob on their way to the disk.
pub(crate) const PIECES_MAX: usize = 8;
const INDEX_DEPTH_MAX: usize = 4;
const ACCEPTED: &[&str] = &[
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// How to reach registries.
#[derive(Debug, Clone)]
pub struct PullSettings {
    pub registries: Registries,
    pub default_endpoint: DefaultEndpoint,
    pub proxies: Arc<Proxies>,
}

/// What stands between this node and registries. The default is what `HTTPS_PROXY` and its like say.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For registries that are reached by https: `http://[user:password@]host:port`.
    pub https: Option<String>,
    /// For those that are reached by http.
    pub http: Option<String>,
    /// What is reached straight: addresses, ranges and domains with commas between.
    pub no_proxy: String,
}

impl fmt::Debug for Proxies {
    /// Passwords stand in proxies.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Proxies")
    }
}

impl Default for PullSettings {
    fn default() -> Self {
        Self {
            registries: Registries::default(),
            default_endpoint: DefaultEndpoint::Used,
            proxies: Arc::default(),
        }
    }
}

/// Pulls, unpacks and names an image; gives its id.
pub async fn pull(
    store: &Arc<ImageStore>,
    settings: &PullSettings,
    image: &Reference,
    auth: Option<&cri::PullAuth>,
) -> Result<cri::ImageId> {
    pull_also_from(store, None, settings, image, auth).await
}

/// The same; other nodes are asked before any registry, where `registries.yaml` has mirrors for it.
pub(crate) async fn pull_also_from(
    store: &Arc<ImageStore>,
    peers: Option<&dyn Peers>,
    settings: &PullSettings,
    image: &Reference,
    auth: Option<&cri::PullAuth>,
) -> Result<cri::ImageId> {
    let lock_path = store.layout.content_lock();
    let lock = blocking(move || layout::lock(&lock_path, LockMode::Shared)).await?;
    let is_shared = settings.registries.has_mirrors(image.registry()) && peers::may_give(image);
    let pulled = match peers.filter(|_| is_shared) {
        Some(peers) => match peers::pull_from_peers(store, peers, image).await {
            Ok(None) => pull_locked(store, settings, image, auth).await,
            Ok(Some(id)) => Ok(id),
            Err(error) => Err(error),
        },
        None => pull_locked(store, settings, image, auth).await,
    };
    drop(lock);
    let sweeping = Arc::clone(store);
    blocking(move || sweeping.sweep()).await?;
    pulled
}

async fn pull_locked(
    store: &Arc<ImageStore>,
    settings: &PullSettings,
    image: &Reference,
    auth: Option<&cri::PullAuth>,
) -> Result<cri::ImageId> {
    let mut last = None;
    for endpoint in settings
        .registries
        .endpoints(image, settings.default_endpoint)?
    {
        match pull_from_registry(store, settings, image, &endpoint, auth).await {
            Ok(id) => return Ok(id),
            // The disk is as full for the next endpoint.
            Err(error) if error.kind() == crate::ErrorKind::NoSpace => return Err(error),
            Err(error) => {
                tracing::debug!(%image, host = endpoint.host, error = error.chain(), "endpoint cannot serve the image");
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| Error::invalid(image.to_string(), "no endpoint is configured")))
}

async fn pull_from_registry(
    store: &Arc<ImageStore>,
    settings: &PullSettings,
    image: &Reference,
    endpoint: &Endpoint,
    pod_auth: Option<&cri::PullAuth>,
) -> Result<cri::ImageId> {
    let source = Source::new(image, endpoint, &settings.proxies, pod_auth)?;
    pull_from(store, image, &source).await
}

/// Somebody who may have an image.
#[async_trait]
pub(crate) trait Origin: Sync {
    /// For errors.
    fn name(&self) -> &str;
    /// Stores the manifest for this node; gives the digest that the image's name stands for and the manifest's own.
    async fn manifest(&self, store: &Arc<ImageStore>) -> Result<(Digest, Digest)>;
    /// Loads content unless it is there.
    async fn blob(&self, store: &Arc<ImageStore>, digest: &Digest, size_bytes: u64) -> Result<()>;
}

pub(crate) async fn pull_from(
    store: &Arc<ImageStore>,
    image: &Reference,
    source: &dyn Origin,
) -> Result<cri::ImageId> {
    let (top, manifest) = source.manifest(store).await?;
    let content = read(store, &manifest).await?;
    let Document::Manifest(document) = manifest::parse_document(source.name(), &content)? else {
        return Err(Error::invalid(
            source.name(),
            "is an index where a manifest was expected",
        ));
    };
    let config = (
        manifest::digest_of(document.config())?,
        document.config().size(),
    );
    if config.1 > DOCUMENT_BYTES_MAX {
        let what = format!("configuration of {}", source.name());
        return Err(Error::TooLarge {
            what,
            size_bytes: config.1,
            size_bytes_max: DOCUMENT_BYTES_MAX,
        });
    }
    source.blob(store, &config.0, config.1).await?;
    // Checked before the layers are loaded: an image for another machine is refused at once.
    let config = read(store, &config.0).await?;
    manifest::join(source.name(), &document, &config, &store.platform)?;
    let layers: Vec<(Digest, u64)> = document
        .layers()
        .iter()
        .map(|layer| Ok((manifest::digest_of(layer)?, layer.size())))
        .collect::<Result<_>>()?;
    let distinct: BTreeSet<(Digest, u64)> = layers.into_iter().collect();
    let loads: Vec<_> = distinct
        .iter()
        .map(|(digest, size)| source.blob(store, digest, *size))
        .collect();
    let loads = futures_util::stream::iter(loads).buffer_unordered(DOWNLOADS_MAX);
    loads.try_collect::<Vec<()>>().await?;
    finish(store, image, &top, &manifest).await
}

/// Unpacks and enters into the index.
async fn finish(
    store: &Arc<ImageStore>,
    image: &Reference,
    top: &Digest,
    manifest: &Digest,
) -> Result<cri::ImageId> {
    let (store, image, top, manifest) = (
        Arc::clone(store),
        image.clone(),
        top.clone(),
        manifest.clone(),
    );
    blocking(move || {
        let (id, record) = store.read_image(&image.to_string(), &manifest)?;
        store.unpack_layers(&record.layers)?;
        // A name with a digest says what it means; its tag may have moved on.
        let tags = if image.digest().is_some() {
            BTreeSet::new()
        } else {
            image.tagged().into_iter().collect()
        };
        let repo_digests = BTreeSet::from([image.with_digest(&top)]);
        store.change_index(|index| {
            index.insert(
                &id,
                ImageRecord {
                    tags,
                    repo_digests,
                    ..record
                },
            );
        })?;
        Ok(cri::ImageId(id.to_string()))
    })
    .await
}

/// An image at one endpoint.
struct Source {
    client: Client,
    auth: RegistryAuth,
    image: oci_client::Reference,
    /// For errors.
    name: String,
}

impl Source {
    fn new(
        image: &Reference,
        endpoint: &Endpoint,
        proxies: &Proxies,
        pod_auth: Option<&cri::PullAuth>,
    ) -> Result<Self> {
        let auth = endpoint
            .auth
            .as_ref()
            .filter(|_| endpoint.mirror)
            .or(pod_auth)
            .or(endpoint.auth.as_ref());
        let at_registry = |registry: &str| match (image.digest(), image.tag()) {
            (Some(digest), _) => oci_client::Reference::with_digest(
                registry.into(),
                endpoint.repository.clone(),
                digest.to_string(),
            ),
            (None, tag) => oci_client::Reference::with_tag(
                registry.into(),
                endpoint.repository.clone(),
                tag.unwrap_or_default().to_owned(),
            ),
        };
        // A mirror is told which registry is meant, as containerd does (`?ns=`).
        let mut at = at_registry(image.registry());
        if endpoint.mirror {
            at.set_mirror_registry(endpoint.host.clone());
        }
        Ok(Self {
            client: client_for(endpoint, proxies)?,
            auth: registry_auth(&image.to_string(), auth)?,
            image: at,
            name: image.to_string(),
        })
    }

    async fn document(
        &self,
        store: &Arc<ImageStore>,
        image: &oci_client::Reference,
    ) -> Result<(Digest, Bytes)> {
        let (content, _) = self
            .client
            .pull_manifest_raw(image, &self.auth, ACCEPTED)
            .await
            .map_err(|error| refused(&self.name, &error))?;
        let found = Digest::of(&content);
        if let Some(expected) = image.digest()
            && expected != found.as_str()
        {
            return Err(Error::DigestMismatch {
                what: self.name.clone(),
                expected: Digest::parse(expected)?,
                found,
            });
        }
        let (store, stored) = (Arc::clone(store), content.clone());
        blocking(move || store.layout.put_blob(&stored)).await?;
        Ok((found, content))
    }

    async fn load(
        &self,
        digest: &Digest,
        size_bytes: u64,
        pieces: &mpsc::Sender<Piece>,
    ) -> Result<()> {
        let mut offset = 0;
        let mut resumptions = 0;
        loop {
            let error = match self
                .load_from(digest, size_bytes, &mut offset, pieces)
                .await
            {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.kind() != crate::ErrorKind::Network
                || resumptions == RESUMPTIONS_MAX
                || pieces.is_closed()
            {
                return Err(error);
            }
            resumptions += 1;
            env::sleep(RESUME_WAIT * resumptions).await;
        }
    }

    async fn load_from(
        &self,
        digest: &Digest,
        size_bytes: u64,
        offset: &mut u64,
        pieces: &mpsc::Sender<Piece>,
    ) -> Result<()> {
        let failed = |error: OciDistributionError| refused(&self.name, &error);
        let broken = |reason: String| Error::Network {
            name: self.name.clone(),
            reason,
        };
        let descriptor = LayerDescriptor {
            digest: digest.as_str(),
            urls: &None,
        };
        let mut stream = if *offset == 0 {
            self.client
                .pull_blob_stream(&self.image, &descriptor)
                .await
                .map_err(failed)?
        } else {
            match self
                .client
                .pull_blob_stream_partial(&self.image, &descriptor, *offset, None)
                .await
                .map_err(failed)?
            {
                BlobResponse::Partial(stream) => stream,
                BlobResponse::Full(stream) => {
                    *offset = 0;
                    let _closed = pieces.send(Piece::Restart).await;
                    stream
                }
            }
        };
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|error| broken(chain(&error)))?;
            *offset += piece.len() as u64;
            if *offset > size_bytes {
                let what = format!("{}: {digest}", self.name);
                return Err(Error::TooLarge {
                    what,
                    size_bytes: *offset,
                    size_bytes_max: size_bytes,
                });
            }
            if pieces.send(Piece::Content(piece)).await.is_err() {
                return Err(Error::TaskEnded);
            }
        }
        if *offset < size_bytes {
            return Err(broken(format!(
                "{digest} ended after {offset} of {size_bytes} bytes"
            )));
        }
        Ok(())
    }
}

#[async_trait]
impl Origin for Source {
    fn name(&self) -> &str {
        &self.name
    }

    async fn manifest(&self, store: &Arc<ImageStore>) -> Result<(Digest, Digest)> {
        let top = self.document(store, &self.image).await?;
        let mut found = top.clone();
        for _depth in 0..=INDEX_DEPTH_MAX {
            let Document::Index(index) = manifest::parse_document(&self.name, &found.1)? else {
                return Ok((top.0, found.0));
            };
            let Some(best) = platform::select(&index, &store.platform)
                .first()
                .map(|best| best.digest().to_string())
            else {
                let reason = format!(
                    "no match for platform in manifest: not found (linux/{})",
                    store.platform.architecture
                );
                return Err(Error::invalid(&self.name, reason));
            };
            let best = Digest::parse(&best)?;
            found = self
                .document(store, &self.image.clone_with_digest(best.to_string()))
                .await?;
        }
        Err(Error::invalid(
            &self.name,
            "indexes within indexes are nested too deep",
        ))
    }

    /// Resumes where the connection broke.
    async fn blob(&self, store: &Arc<ImageStore>, digest: &Digest, size_bytes: u64) -> Result<()> {
        if store.layout.has_blob(digest) {
            return Ok(());
        }
        let (pieces, taken) = mpsc::channel(PIECES_MAX);
        let layout = store.layout.clone();
        let what = format!("{}: {digest}", self.name);
        let expected = digest.clone();
        let writing = env::spawn_blocking(move || write_blob(&layout, taken, &what, &expected));
        let loaded = self.load(digest, size_bytes, &pieces).await;
        // Without all bytes the writer must not finish.
        if loaded.is_ok() {
            let _ended = pieces.send(Piece::End).await;
        }
        drop(pieces);
        let written = writing.await.map_err(|_| Error::TaskEnded)?;
        // When the disk fails first, loading ends because nobody takes the pieces.
        match (loaded, written) {
            (_, Err(error)) | (Err(error), Ok(())) => Err(error),
            (Ok(()), Ok(())) => Ok(()),
        }
    }
}

pub(crate) enum Piece {
    Content(Bytes),
    /// The registry cannot resume: what was written is void.
    Restart,
    End,
}

pub(crate) fn write_blob(
    layout: &layout::Layout,
    mut pieces: mpsc::Receiver<Piece>,
    what: &str,
    expected: &Digest,
) -> Result<()> {
    let mut writer: BlobWriter = layout.blob_writer()?;
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Content(content) => writer
                .write_all(&content)
                .map_err(|source| writer.failed(source))?,
            Piece::Restart => writer = layout.blob_writer()?,
            Piece::End => return writer.commit(Some((what, expected))).map(|_| ()),
        }
    }
    Ok(())
}

fn client_for(endpoint: &Endpoint, proxies: &Proxies) -> Result<Client> {
    static PROVIDER: Once = Once::new();
    // Another part of the process may have installed the same provider already.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let mut certificates = Vec::new();
    if !endpoint.tls.ca_file.is_empty() {
        let path = std::path::Path::new(&endpoint.tls.ca_file);
        let data = std::fs::read(path).map_err(Error::io("read", path))?;
        certificates.push(Certificate {
            encoding: CertificateEncoding::Pem,
            data,
        });
    }
    let config = ClientConfig {
        protocol: match endpoint.scheme {
            Scheme::Http => ClientProtocol::Http,
            Scheme::Https => ClientProtocol::Https,
        },
        accept_invalid_certificates: endpoint.tls.insecure_skip_verify,
        extra_root_certificates: certificates,
        read_timeout: Some(READ_TIMEOUT),
        connect_timeout: Some(CONNECT_TIMEOUT),
        user_agent: "combo",
        https_proxy: proxies.https.clone(),
        http_proxy: proxies.http.clone(),
        no_proxy: Some(proxies.no_proxy.clone()).filter(|said| !said.is_empty()),
        ..ClientConfig::default()
    };
    Client::try_from(config)
        .map_err(|error| Error::invalid(format!("registry {}", endpoint.host), chain(&error)))
}

fn registry_auth(name: &str, auth: Option<&cri::PullAuth>) -> Result<RegistryAuth> {
    match auth {
        None => Ok(RegistryAuth::Anonymous),
        Some(auth) if !auth.registry_token.is_empty() => {
            Ok(RegistryAuth::Bearer(auth.registry_token.clone()))
        }
        Some(auth) if !auth.username.is_empty() => Ok(RegistryAuth::Basic(
            auth.username.clone(),
            auth.password.clone(),
        )),
        Some(auth) if !auth.identity_token.is_empty() => Err(Error::Unauthorized {
            name: name.to_owned(),
            reason: String::from("identity tokens are not supported"),
        }),
        Some(_) => Ok(RegistryAuth::Anonymous),
    }
}

/// What a registry's answer means to us.
fn refused(name: &str, error: &OciDistributionError) -> Error {
    let name = name.to_owned();
    let not_found = |name| Error::RegistryNotFound { name };
    let unauthorized = |name| Error::Unauthorized {
        name,
        reason: chain(error),
    };
    match error {
        OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_)
        | OciDistributionError::ServerError {
            code: 401 | 403, ..
        } => unauthorized(name),
        OciDistributionError::ImageManifestNotFoundError(_)
        | OciDistributionError::ServerError { code: 404, .. } => not_found(name),
        OciDistributionError::ServerError { .. }
        | OciDistributionError::RequestError(_)
        | OciDistributionError::IoError(_) => Error::Network {
            name,
            reason: chain(error),
        },
        OciDistributionError::RegistryError { envelope, .. } => {
            match envelope.errors.first().map(|error| &error.code) {
                Some(
                    OciErrorCode::ManifestUnknown
                    | OciErrorCode::NameUnknown
                    | OciErrorCode::NotFound
                    | OciErrorCode::BlobUnknown
                    | OciErrorCode::ManifestBlobUnknown,
                ) => not_found(name),
                Some(OciErrorCode::Denied | OciErrorCode::Unauthorized) => unauthorized(name),
                _ => Error::Network {
                    name,
                    reason: chain(error),
                },
            }
        }
        _ => Error::invalid(name, chain(error)),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Many libraries repeat their cause in their own text.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

async fn read(store: &Arc<ImageStore>, digest: &Digest) -> Result<Vec<u8>> {
    let (store, digest) = (Arc::clone(store), digest.clone());
    blocking(move || store.layout.read_document(&digest, DOCUMENT_BYTES_MAX)).await
}

/// Runs `work` where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    env::spawn_blocking(work)
        .await
        .map_err(|_| Error::TaskEnded)?
}
