//! One error for the whole border; its variants are what a kubelet turns into a reason of a waiting or terminated container.

use crate::{ContainerId, ImageId, PodSandboxId};

/// The result of every call of the border.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call to the runtime or the image store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sandbox could not be made (namespaces, cgroup, shim).
    #[error("failed to create pod sandbox: {0}")]
    CreatePodSandbox(String),
    /// The sandbox exists but its network could not be attached.
    #[error("failed to set up sandbox network: {0}")]
    ConfigPodSandboxNetwork(String),
    /// The configuration itself is wrong: another attempt with the same configuration fails too.
    #[error("{0}")]
    CreateContainerConfig(String),
    /// The container could not be prepared (root filesystem, mounts, seccomp profile).
    #[error("{0}")]
    CreateContainer(String),
    /// The container was made but its first process could not be started; it counts as exited with code 128.
    #[error("{0}")]
    RunContainer(String),
    /// A sandbox or container could not be killed.
    #[error("{0}")]
    Kill(String),
    /// A registry refused a pull, or what it sent is wrong.
    #[error("{0}")]
    ImagePull(String),
    /// No registry that may have the image answers: whether the image is still as it was cannot be told.
    #[error("{0}")]
    RegistryUnavailable(String),
    /// The reference of an image does not parse.
    #[error("couldn't parse image name {reference:?}: {message}")]
    InvalidImageName { reference: String, message: String },
    /// The image is not in the store.
    #[error("image {0} not found")]
    ImageNotFound(ImageId),
    /// The image could not be read or unpacked.
    #[error("failed to inspect image {image:?}: {message}")]
    ImageInspect { image: String, message: String },
    /// No such container.
    #[error("container {0} not found")]
    ContainerNotFound(ContainerId),
    /// No such sandbox.
    #[error("pod sandbox {0} not found")]
    SandboxNotFound(PodSandboxId),
    /// The container is in a state that does not allow the call.
    #[error("container {id} is not {wanted}")]
    ContainerState {
        id: ContainerId,
        wanted: &'static str,
    },
    /// The command of an exec could not be started. `code` is 126 or 127, as a shell would say.
    #[error("{message}")]
    Exec { code: i32, message: String },
    /// A call took longer than its caller allowed.
    #[error("{0} timed out")]
    Timeout(String),
    /// Asked for something this runtime or this kernel cannot do; never silently ignored.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// Anything else: the chain of causes as one line.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// The reason of a waiting container (`state.waiting.reason`), or of an Event, in Kubernetes' words.
    pub fn reason(&self) -> &'static str {
        match self {
            Error::CreatePodSandbox(_) => "CreatePodSandboxError",
            Error::ConfigPodSandboxNetwork(_) => "ConfigPodSandboxError",
            Error::CreateContainerConfig(_) | Error::Unsupported(_) => "CreateContainerConfigError",
            Error::RunContainer(_) | Error::Exec { .. } => "RunContainerError",
            Error::Kill(_) => "KillContainerError",
            Error::ImagePull(_) | Error::RegistryUnavailable(_) => "ErrImagePull",
            Error::InvalidImageName { .. } => "InvalidImageName",
            Error::ImageNotFound(_) => "ErrImageNeverPull",
            Error::ImageInspect { .. } => "ImageInspectError",
            Error::CreateContainer(_)
            | Error::ContainerNotFound(_)
            | Error::SandboxNotFound(_)
            | Error::ContainerState { .. }
            | Error::Timeout(_)
            | Error::Internal(_) => "CreateContainerError",
        }
    }

    /// Whether the thing asked about does not exist (any more): what a remover treats as success.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Error::ContainerNotFound(_) | Error::SandboxNotFound(_) | Error::ImageNotFound(_)
        )
    }
}
