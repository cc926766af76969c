//! Why an entry of an archive is not unpacked.

/// One hostile or unsupported thing an archive may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the tar header is damaged")]
    Header,
    #[error("sparse files are not supported")]
    Sparse,
    #[error("this kind of tar entry is not supported")]
    Kind,
    #[error("the extended header or long name is too long")]
    ExtensionTooLong,
    #[error("the path leaves the image")]
    PathEscapes,
    #[error("the path is too long")]
    PathTooLong,
    #[error("the path is empty or holds a NUL byte")]
    PathMalformed,
    #[error("a part of the path is not a directory")]
    ParentNotDirectory,
    #[error("the path runs through too many symbolic links")]
    TooManyLinks,
    #[error("the hard link's target is missing, a directory or the link itself")]
    HardLinkTarget,
    #[error("the whiteout names nothing that can be removed")]
    Whiteout,
    #[error("character device 0:0 would hide a file of another layer")]
    WhiteoutDevice,
    #[error("overlayfs' own extended attributes may not come from an image")]
    OverlayAttribute,
    #[error("user or group id out of range")]
    Owner,
    #[error("the image's root is not a directory")]
    RootNotDirectory,
    #[error("the layer unpacks to more bytes than allowed")]
    TooManyBytes,
    #[error("the layer has more entries than allowed")]
    TooManyEntries,
}
