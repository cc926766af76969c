//! The administrator's kubeconfig from what lies in a data folder, whether a server runs or not.

use pki::{CertificateInfo, KeyPair, decode_pem, roots_in_pem};

use crate::data_dir::{DataDir, read};
use crate::{Error, Identity, kubeconfig};

/// Everything that a client needs to act as the administrator.
#[derive(Debug)]
pub struct Administrator {
    server_authority_pem: String,
    identity: Identity,
    /// Of the API server.
    serving: Option<CertificateInfo>,
}

impl Administrator {
    /// Reads what a server left in its folder.
    pub fn read(data_dir: &DataDir) -> Result<Self, Error> {
        let tls = data_dir.tls();
        let text = |name: &str| {
            let path = tls.join(name);
            read(&path)?.ok_or(Error::NoServer { path })
        };
        let key_file = tls.join("client-admin.key");
        let key =
            KeyPair::from_pem(&text("client-admin.key")?).map_err(|source| Error::Damaged {
                path: key_file,
                source,
            })?;
        let serving = text("serving-kube-apiserver.crt")?;
        let serving = decode_pem("CERTIFICATE", &serving);
        let authorities = text("server-ca.crt")?;
        let root = roots_in_pem(&authorities).into_iter().next();
        Ok(Self {
            server_authority_pem: root.ok_or_else(|| Error::Damaged {
                path: tls.join("server-ca.crt"),
                source: pki::Error::Pem {
                    label: "CERTIFICATE",
                },
            })?,
            identity: Identity {
                certificate_pem: text("client-admin.crt")?,
                key,
            },
            serving: serving
                .first()
                .and_then(|leaf| CertificateInfo::from_der(leaf).ok()),
        })
    }

    /// A kubeconfig for `https://host:port`.
    pub fn kubeconfig(&self, server: &str) -> String {
        kubeconfig(server, &self.server_authority_pem, &self.identity)
    }

    /// Who signs servers, in PEM: what tokens pin.
    pub fn server_authority_pem(&self) -> &str {
        &self.server_authority_pem
    }

    /// Whether clients that reach the server as `host` will believe its certificate.
    pub fn is_named(&self, host: &str) -> bool {
        self.serving
            .as_ref()
            .is_some_and(|serving| match host.parse() {
                Ok(address) => serving.addresses.contains(&address),
                Err(_a_name) => serving.dns_names.iter().any(|name| name == host),
            })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use env::{ManualClock, SeededRng, Timestamp};

    use super::*;
    use crate::{Credentials, Said, SaidTokens, ServingNames};

    #[test]
    fn a_folder_gives_a_kubeconfig_for_any_address_and_tells_which_are_believed() {
        let folder = tempfile::tempdir().expect("a folder");
        let data_dir = DataDir::prepare(folder.path()).expect("prepared");
        let none = Administrator::read(&data_dir).expect_err("no server yet");
        assert!(none.to_string().contains("no server"), "{none}");
        let clock = ManualClock::at(Timestamp::from_unix_seconds(1_800_000_000));
        let mut names = ServingNames::default();
        names.api_server.dns_names.push("edge.example".to_owned());
        names.api_server.addresses.push([10, 0, 0, 1].into());
        let said = Said {
            tokens: SaidTokens::default(),
            certificate_life: Duration::from_secs(86_400),
        };
        let made =
            Credentials::load_or_make(&data_dir, &names, &said, (&*clock, &*SeededRng::shared(1)))
                .expect("credentials");
        let administrator = Administrator::read(&data_dir).expect("read");
        let server = "https://edge.example:6443";
        assert_eq!(
            administrator.kubeconfig(server),
            kubeconfig(
                server,
                &made.server_authority.root_pem(),
                &made.administrator
            )
        );
        for (host, is_named) in [
            ("edge.example", true),
            ("10.0.0.1", true),
            ("10.0.0.2", false),
            ("other", false),
        ] {
            assert_eq!(administrator.is_named(host), is_named, "{host}");
        }
    }
}
