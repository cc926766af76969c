//! What a kubelet needs of a container runtime, in CRI's words, as plain Rust traits and data: no gRPC, no I/O.
//!
//! Three doors: [`RuntimeService`] (sandboxes and containers), [`ImageService`] (images and root filesystems),
//! and [`SandboxNetwork`] (addresses for a sandbox; implemented by the pod network and given to the runtime).
//! [`fake`] holds an in-memory runtime with behaviour for tests of a kubelet.

mod container;
mod error;
mod event;
pub mod fake;
mod image;
mod network;
mod runtime;
mod sandbox;
mod security;
mod shared;
mod stats;
mod streams;

pub use container::{
    ContainerConfig, ContainerFilter, ContainerId, ContainerState, ContainerStatus, Device,
    ExitReason, HugepageLimit, IdMapping, LinuxResources, Mount, MountPropagation, MountReadOnly,
};
pub use error::{Error, Result};
pub use event::{ContainerEvent, ContainerEventKind, ContainerEvents};
pub use image::{
    FilesystemUsage, Image, ImageConfig, ImageFilesystems, ImageId, ImageService, ImageSpec,
    PullAuth, RootFs,
};
pub use network::{NetworkAttachment, PortMapping, Protocol, SandboxNetwork};
pub use runtime::{ReopenLog, RuntimeService, RuntimeVersion};
pub use sandbox::{
    CgroupParent, DnsConfig, NamespaceMode, NamespaceOptions, PidMode, PodIdentity, PodSandbox,
    PodSandboxConfig, PodSandboxId, PodSandboxState, QosClass, UserNamespace,
};
pub use security::{
    Capabilities, LinuxContainerSecurityContext, Privilege, ProcMount, RunAsUser, SeccompProfile,
    SupplementalGroupsPolicy,
};
pub use shared::{SharedContent, SharedImages, SharedManifest};
pub use stats::{
    ContainerStats, CpuUsage, MemoryUsage, NetworkUsage, PodSandboxStats, ProcessUsage,
};
pub use streams::{
    Attachment, ByteReader, ByteStream, ByteWriter, ExecOutput, ExecRequest, ExecSession, Resize,
    Stdio, TerminalSize,
};
