//! `/v2/…`: the images of this node for other nodes of the cluster, by the distribution protocol, reading only.

use std::fs::File;
use std::io::Read;

use bytes::Bytes;
use cri::{SharedContent, SharedImages};
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;
use tokio::sync::mpsc;

use crate::server::access::Identity;
use crate::server::answer::{Answer, empty_body, stream, text, with_type};

/// Nodes ask for images, and API servers for the nodes in their own processes.
const NODES: &str = "system:nodes";
const API_SERVER: &str = "system:kube-apiserver";
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for a slow client.
const PIECES_MAX: usize = 4;
const DIGEST: &str = "docker-content-digest";

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'a> {
    /// Whether there is a registry at all.
    Base,
    Manifest {
        repository: &'a str,
        named: &'a str,
    },
    Blob(&'a str),
}

impl<'a> Wanted<'a> {
    fn parse(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/v2")?;
        if matches!(rest, "" | "/") {
            return Some(Self::Base);
        }
        let (rest, last) = rest.strip_prefix('/')?.rsplit_once('/')?;
        let (repository, kind) = rest.rsplit_once('/')?;
        match kind {
            "manifests" => Some(Self::Manifest {
                repository,
                named: last,
            }),
            "blobs" => Some(Self::Blob(last)),
            _ => None,
        }
    }
}

pub(crate) fn is_of_registry(path: &str) -> bool {
    path == "/v2" || path.starts_with("/v2/")
}

/// `images`: `None` where the cluster does not share images.
pub(crate) async fn answer(
    images: Option<&dyn SharedImages>,
    who: &Identity,
    method: &Method,
    path: &str,
    query: &[(String, String)],
) -> Answer {
    let Some(images) = images else {
        let why =
            "images are not shared between nodes: the cluster runs without --embedded-registry";
        return refused(StatusCode::NOT_FOUND, "UNSUPPORTED", why);
    };
    let is_node = who.groups.iter().any(|group| group == NODES);
    if !is_node && who.user != API_SERVER {
        let why = format!("{} is not a node of this cluster", who.user);
        return refused(StatusCode::FORBIDDEN, "DENIED", &why);
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        let why = "images are read here, and not written";
        return refused(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", why);
    }
    let is_head = *method == Method::HEAD;
    match Wanted::parse(path) {
        Some(Wanted::Base) => text(StatusCode::OK, ""),
        Some(Wanted::Manifest { repository, named }) => {
            let registry = query.iter().find(|(name, _)| name == "ns");
            let Some((_, registry)) = registry else {
                let why = "the parameter ns must name the registry that the image is of";
                return refused(StatusCode::BAD_REQUEST, "NAME_INVALID", why);
            };
            let separator = if named.contains(':') { '@' } else { ':' };
            let image = format!("{registry}/{repository}{separator}{named}");
            manifest(images, &image, is_head).await
        }
        Some(Wanted::Blob(digest)) => blob(images, digest, is_head).await,
        None => refused(StatusCode::NOT_FOUND, "UNSUPPORTED", "404 page not found"),
    }
}

fn refused(code: StatusCode, kind: &str, why: &str) -> Answer {
    let body = json!({"errors": [{"code": kind, "message": why}]});
    with_type(code, "application/json", body.to_string().into_bytes())
}

async fn manifest(images: &dyn SharedImages, image: &str, is_head: bool) -> Answer {
    let found = match images.manifest(image).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            let why = format!("{image} is not on this node");
            return refused(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", &why);
        }
        Err(error) => return not_read(&error),
    };
    let length = found.document.len() as u64;
    let mut answer = with_type(StatusCode::OK, "application/json", found.document);
    let headers = answer.headers_mut();
    if let Ok(media_type) = HeaderValue::from_str(&found.media_type) {
        headers.insert(header::CONTENT_TYPE, media_type);
    }
    described(&mut answer, &found.digest, length);
    if is_head {
        *answer.body_mut() = empty_body();
    }
    answer
}

fn described(answer: &mut Answer, digest: &str, length: u64) {
    let headers = answer.headers_mut();
    if let Ok(digest) = HeaderValue::from_str(digest) {
        headers.insert(DIGEST, digest);
    }
    headers.insert(header::CONTENT_LENGTH, length.into());
}

async fn blob(images: &dyn SharedImages, digest: &str, is_head: bool) -> Answer {
    let SharedContent { size_bytes, file } = match images.content(digest).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            let why = format!("no image on this node has {digest}");
            return refused(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", &why);
        }
        Err(error) => return not_read(&error),
    };
    let mut answer = if is_head {
        text(StatusCode::OK, "")
    } else {
        let (out, pieces) = mpsc::channel(PIECES_MAX);
        env::spawn_blocking(move || send(file, &out));
        stream(pieces)
    };
    let kind = HeaderValue::from_static("application/octet-stream");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    described(&mut answer, digest, size_bytes);
    answer
}

/// Ends early when nobody listens, or when the disk fails: then the client gets fewer bytes than it was told.
fn send(mut file: File, out: &mpsc::Sender<Bytes>) {
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        match file.read(&mut piece) {
            Ok(0) => return,
            Ok(read) => piece.truncate(read),
            Err(error) => return tracing::warn!(%error, "content of an image cannot be read"),
        }
        if out.blocking_send(piece.into()).is_err() {
            return;
        }
    }
}

fn not_read(error: &cri::Error) -> Answer {
    let code = match error {
        cri::Error::InvalidImageName { .. } => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refused(code, "UNKNOWN", &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_may_have_many_parts_and_names_like_the_protocols_own() {
        assert_eq!(Wanted::parse("/v2/"), Some(Wanted::Base));
        let manifest = Wanted::parse("/v2/a/manifests/blobs/manifests/1.0");
        let (repository, named) = ("a/manifests/blobs", "1.0");
        assert_eq!(manifest, Some(Wanted::Manifest { repository, named }));
        assert_eq!(Wanted::parse("/v2/a/b/blobs/x"), Some(Wanted::Blob("x")));
        for other in ["/v2/a/tags/list", "/v2/manifests/1", "/v2/_catalog"] {
            assert_eq!(Wanted::parse(other), None, "{other}");
        }
    }
}
