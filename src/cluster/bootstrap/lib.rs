//! What a server makes before its first start and keeps: the data folder, authorities, certificates, kubeconfigs, the token.

mod credentials;
mod data_dir;
mod error;
mod kubeconfig;
mod service_account_keys;

pub use credentials::{Credentials, Identity, ServingNames};
pub use data_dir::DataDir;
pub use error::Error;
pub use kubeconfig::kubeconfig;
pub use service_account_keys::ServiceAccountKeys;
