//! What a server makes before its first start and keeps: the data folder, authorities, certificates, kubeconfigs, the token.

mod administrator;
mod authorities;
mod credentials;
mod data_dir;
mod error;
mod kubeconfig;
mod service_account_keys;
mod shared_keys;
mod succession;
mod tokens;

pub use administrator::Administrator;
pub use credentials::{Credentials, Identity, Said, ServingNames};
pub use data_dir::DataDir;
pub use error::Error;
pub use kubeconfig::kubeconfig;
pub use service_account_keys::ServiceAccountKeys;
pub use shared_keys::{SharedKeys, SharedKeysError};
pub use succession::{Successor, Trust, prepare_successors, succeed};
pub use tokens::{SaidTokens, random_password};
