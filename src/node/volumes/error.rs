//! Why a volume is not ready; the text is what the pod's Event shows.

use std::io;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `configmap "a" not found`, in the API's words.
    #[error("{kind} {name:?} not found")]
    NotFound { kind: &'static str, name: String },
    /// The pod or an object it names asks for something that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// What this node cannot do; never silently ignored.
    #[error("{0} are not supported by this node")]
    Unsupported(String),
    /// The API, the registry or the image store did not answer as needed.
    #[error("{0}")]
    Source(String),
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
    #[error(transparent)]
    Linux(#[from] linux::Error),
    #[error("MountVolume.SetUp failed for volume {volume:?} : {source}")]
    SetUp { volume: String, source: Box<Error> },
    #[error("a task of the volumes ended early")]
    TaskEnded,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Says what was being done to which path when a call failed.
    pub(crate) fn io<E: Into<io::Error>>(doing: &str, path: &Path) -> impl FnOnce(E) -> Self {
        let doing = format!("{doing} {}", path.display());
        move |source| Self::Io {
            doing,
            source: source.into(),
        }
    }
}

/// Runs `work` where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    env::spawn_blocking(work)
        .await
        .map_err(|_| Error::TaskEnded)?
}
