//! The etcd cluster that several servers share, when it is not the store in the data folder.

use std::path::PathBuf;

use clap::Args;
use remote::Endpoints;

use crate::ConfigError;
use crate::error::invalid;
use crate::paths::absolute;

const ENDPOINT: &str = "datastore-endpoint";

/// Flags of `combo server` about a store elsewhere. The names are k3s'.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Datastore")]
pub struct DatastoreFlags {
    /// Keep the cluster in an etcd cluster (3.5.13 to 3.7), which several servers can share: its
    /// URLs, with commas between [default: the store in the data folder]
    #[arg(
        long,
        env = "COMBO_DATASTORE_ENDPOINT",
        value_name = "URLS",
        hide_env_values = true
    )]
    pub datastore_endpoint: Option<String>,

    /// File with the authorities that its members are signed by
    #[arg(long, env = "COMBO_DATASTORE_CAFILE", value_name = "FILE")]
    pub datastore_cafile: Option<PathBuf>,

    /// File with the certificate that its members ask of clients
    #[arg(long, env = "COMBO_DATASTORE_CERTFILE", value_name = "FILE")]
    pub datastore_certfile: Option<PathBuf>,

    /// File with the key of that certificate
    #[arg(long, env = "COMBO_DATASTORE_KEYFILE", value_name = "FILE")]
    pub datastore_keyfile: Option<PathBuf>,
}

/// An etcd cluster, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatastoreConfig {
    pub endpoints: Endpoints,
    /// Who signed its members' certificates, if they have any.
    pub authority_file: Option<PathBuf>,
    /// Our certificate and its key.
    pub identity_files: Option<(PathBuf, PathBuf)>,
}

impl DatastoreConfig {
    /// `None`: the store in the data folder.
    pub fn from_flags(said: DatastoreFlags) -> Result<Option<Self>, ConfigError> {
        let endpoint = said.datastore_endpoint.filter(|said| !said.is_empty());
        let files = [
            ("datastore-cafile", said.datastore_cafile),
            ("datastore-certfile", said.datastore_certfile),
            ("datastore-keyfile", said.datastore_keyfile),
        ];
        let given = files.iter().find(|(_, file)| file.is_some());
        let Some(endpoint) = endpoint else {
            return match given {
                None => Ok(None),
                Some(_) => Err(ConfigError::Missing {
                    flag: ENDPOINT,
                    why: "the other flags about a datastore are for the etcd cluster that it names",
                }),
            };
        };
        let endpoints = Endpoints::parse(&endpoint).map_err(|error| ConfigError::SecretFlag {
            flag: ENDPOINT,
            why: error.to_string(),
        })?;
        if let (false, Some((flag, Some(file)))) = (endpoints.is_tls(), given) {
            let why = format!("--{ENDPOINT} has http:// URLs, which need no certificates");
            return Err(invalid(flag, file.display(), &why));
        }
        let [authority, certificate, key] = files.map(|(_, file)| file.map(absolute));
        if endpoints.is_tls() && authority.is_none() {
            return Err(ConfigError::Missing {
                flag: "datastore-cafile",
                why: "the members of --datastore-endpoint are only believed when an authority that you name signed their certificates",
            });
        }
        let identity_files = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ConfigError::Missing {
                    flag: "datastore-keyfile",
                    why: "--datastore-certfile is of no use without its key",
                });
            }
            (None, Some(_)) => {
                return Err(ConfigError::Missing {
                    flag: "datastore-certfile",
                    why: "--datastore-keyfile is of no use without its certificate",
                });
            }
        };
        Ok(Some(Self {
            endpoints,
            authority_file: authority,
            identity_files,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(endpoint: &str, files: [Option<&str>; 3]) -> Result<Option<DatastoreConfig>, String> {
        let [authority, certificate, key] = files.map(|file| file.map(PathBuf::from));
        DatastoreConfig::from_flags(DatastoreFlags {
            datastore_endpoint: Some(endpoint.to_owned()),
            datastore_cafile: authority,
            datastore_certfile: certificate,
            datastore_keyfile: key,
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn what_fits_together_is_taken() {
        assert_eq!(said("", [None; 3]), Ok(None));
        let plain = said("http://a:1,http://b:2", [None; 3]).unwrap().unwrap();
        assert_eq!(plain.endpoints.members().len(), 2);
        let files = [Some("/ca"), Some("/crt"), Some("/key")];
        let secure = said("https://a", files).unwrap().unwrap();
        assert_eq!(secure.authority_file, Some("/ca".into()));
        assert_eq!(secure.identity_files, Some(("/crt".into(), "/key".into())));
    }

    #[test]
    fn what_does_not_is_refused_with_what_to_do() {
        for (endpoint, files, told) in [
            (
                "",
                [Some("/ca"), None, None],
                "--datastore-endpoint is missing",
            ),
            ("mysql://u:secret@h/k", [None; 3], "MySQL"),
            ("postgres://u:secret@h/k", [None; 3], "PostgreSQL"),
            (
                "http://a",
                [Some("/ca"), None, None],
                "need no certificates",
            ),
            ("https://a", [None; 3], "--datastore-cafile is missing"),
            (
                "https://a",
                [Some("/ca"), Some("/crt"), None],
                "--datastore-keyfile is missing",
            ),
            (
                "https://a",
                [Some("/ca"), None, Some("/key")],
                "--datastore-certfile is missing",
            ),
        ] {
            let error = said(endpoint, files).expect_err(endpoint);
            assert!(error.contains(told) && !error.contains("secret"), "{error}");
        }
    }
}
