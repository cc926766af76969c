//! Pulls from other nodes: the first that has the image gives it, and every byte is checked as if it came from anywhere.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::DOCUMENT_BYTES_MAX;
use crate::pull::{Origin, PIECES_MAX, Piece, READ_TIMEOUT, blocking, pull_from, write_blob};
use crate::reference::Reference;
use crate::store::ImageStore;

/// Nodes that are asked for one image; of more, those that come first.
const PEERS_MAX: usize = 64;
/// How many are asked at a time.
const ASKED_AT_A_TIME: usize = 8;
/// A node that has not said by then whether it has an image counts as one that has not.
const ASKED_FOR: Duration = Duration::from_secs(3);
/// What this tag names changes all the time: only a registry knows.
const MOVING_TAG: &str = "latest";

/// The other nodes of the cluster.
pub trait Peers: Send + Sync + std::fmt::Debug {
    /// Those that may answer now, the ones to ask first in front.
    fn all(&self) -> Vec<Arc<dyn Peer>>;
}

/// A node that may give images, by the distribution protocol's paths.
#[async_trait]
pub trait Peer: Send + Sync + std::fmt::Debug {
    fn name(&self) -> &str;
    /// The code of the answer to `GET`, and its body piece by piece.
    async fn get(&self, path: &str) -> io::Result<(u16, Pieces)>;
}

/// The body of an answer as it comes; an error is its last piece.
pub type Pieces = mpsc::Receiver<io::Result<Bytes>>;

/// Whether other nodes may be asked for what this names.
pub(crate) fn may_give(image: &Reference) -> bool {
    image.digest().is_some() || image.tag() != Some(MOVING_TAG)
}

/// The image from one of the peers; `None` when none of them has it, or gives it whole.
pub(crate) async fn pull_from_peers(
    store: &Arc<ImageStore>,
    peers: &dyn Peers,
    image: &Reference,
) -> Result<Option<cri::ImageId>> {
    let asked: Vec<_> = peers
        .all()
        .into_iter()
        .take(PEERS_MAX)
        .map(|peer| ask(peer, image.clone()))
        .collect();
    let mut answers = futures_util::stream::iter(asked).buffer_unordered(ASKED_AT_A_TIME);
    while let Some(answer) = answers.next().await {
        let Some(origin) = answer else {
            continue;
        };
        match pull_from(store, image, &origin).await {
            Ok(id) => {
                tracing::info!(%image, peer = origin.peer.name(), "pulled from another node");
                return Ok(Some(id));
            }
            // The disk is as full for the next one.
            Err(error) if error.kind() == crate::ErrorKind::NoSpace => return Err(error),
            Err(error) => {
                let (peer, error) = (origin.peer.name(), error.chain());
                tracing::debug!(%image, peer, error, "a node does not give an image");
            }
        }
    }
    Ok(None)
}

/// The image at a peer that has it.
async fn ask(peer: Arc<dyn Peer>, image: Reference) -> Option<PeerOrigin> {
    let mut origin = PeerOrigin::new(peer, image);
    origin.manifest = env::timeout(ASKED_FOR, origin.top()).await.ok()??;
    Some(origin)
}

/// An image at one peer.
struct PeerOrigin {
    peer: Arc<dyn Peer>,
    image: Reference,
    /// For errors.
    name: String,
    /// As the peer gave it when it was asked whether it has the image.
    manifest: Bytes,
}

impl PeerOrigin {
    fn new(peer: Arc<dyn Peer>, image: Reference) -> Self {
        let name = format!("{image} of node {}", peer.name());
        Self {
            peer,
            image,
            name,
            manifest: Bytes::new(),
        }
    }

    fn path(&self, what: &str) -> String {
        format!(
            "/v2/{}/{what}?ns={}",
            self.image.repository(),
            self.image.registry()
        )
    }

    /// The manifest if the peer has it.
    async fn top(&self) -> Option<Bytes> {
        let named = match (self.image.digest(), self.image.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag?.to_owned(),
        };
        let path = self.path(&format!("manifests/{named}"));
        let (200, mut pieces) = self.peer.get(&path).await.ok()? else {
            return None;
        };
        let mut document = Vec::new();
        while let Some(piece) = pieces.recv().await {
            document.extend_from_slice(&piece.ok()?);
            if document.len() as u64 > DOCUMENT_BYTES_MAX {
                return None;
            }
        }
        Some(document.into())
    }

    fn broken(&self, reason: impl Into<String>) -> Error {
        Error::Network {
            name: self.name.clone(),
            reason: reason.into(),
        }
    }

    async fn load(&self, digest: &Digest, size_bytes: u64, to: &mpsc::Sender<Piece>) -> Result<()> {
        let path = self.path(&format!("blobs/{digest}"));
        let (code, mut pieces) = self
            .peer
            .get(&path)
            .await
            .map_err(|error| self.broken(error.to_string()))?;
        if code != 200 {
            return Err(self.broken(format!("{digest}: the answer is {code}")));
        }
        let mut taken = 0;
        while let Some(piece) = env::timeout(READ_TIMEOUT, pieces.recv())
            .await
            .map_err(|slow| self.broken(format!("{digest}: {slow}")))?
        {
            let piece = piece.map_err(|error| self.broken(format!("{digest}: {error}")))?;
            taken += piece.len() as u64;
            if taken > size_bytes {
                return Err(Error::TooLarge {
                    what: format!("{}: {digest}", self.name),
                    size_bytes: taken,
                    size_bytes_max: size_bytes,
                });
            }
            if to.send(Piece::Content(piece)).await.is_err() {
                return Err(Error::TaskEnded);
            }
        }
        if taken < size_bytes {
            let why = format!("{digest} ended after {taken} of {size_bytes} bytes");
            return Err(self.broken(why));
        }
        Ok(())
    }
}

#[async_trait]
impl Origin for PeerOrigin {
    fn name(&self) -> &str {
        &self.name
    }

    async fn manifest(&self, store: &Arc<ImageStore>) -> Result<(Digest, Digest)> {
        let found = Digest::of(&self.manifest);
        if let Some(expected) = self.image.digest()
            && *expected != found
        {
            return Err(Error::DigestMismatch {
                what: self.name.clone(),
                expected: expected.clone(),
                found,
            });
        }
        let (store, document) = (Arc::clone(store), self.manifest.clone());
        blocking(move || store.layout.put_blob(&document)).await?;
        Ok((found.clone(), found))
    }

    async fn blob(&self, store: &Arc<ImageStore>, digest: &Digest, size_bytes: u64) -> Result<()> {
        if store.layout.has_blob(digest) {
            return Ok(());
        }
        let (pieces, taken) = mpsc::channel(PIECES_MAX);
        let (layout, expected) = (store.layout.clone(), digest.clone());
        let what = format!("{}: {digest}", self.name);
        let writing = env::spawn_blocking(move || write_blob(&layout, taken, &what, &expected));
        let loaded = self.load(digest, size_bytes, &pieces).await;
        // Without all bytes the writer must not finish.
        if loaded.is_ok() {
            let _ended = pieces.send(Piece::End).await;
        }
        drop(pieces);
        let written = writing.await.map_err(|_| Error::TaskEnded)?;
        match (loaded, written) {
            (_, Err(error)) | (Err(error), Ok(())) => Err(error),
            (Ok(()), Ok(())) => Ok(()),
        }
    }
}
