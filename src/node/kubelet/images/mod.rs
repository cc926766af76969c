//! Images for containers: pulled when the policy says so, with back-off and credentials, and collected when the disk fills.

mod gc;
mod pull_secrets;
mod puller;

pub use gc::GcPolicy;
pub(crate) use gc::{Disk, ImageGc, plan_image_gc, unused_images};
pub(crate) use pull_secrets::Keyring;
pub(crate) use puller::{ImageNeed, ImagePuller, ImageState, with_default_tag};
