//! Authorities and the certificates of a server's own components, made once and kept, renewed at start when they near their end.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use env::{Clock, Rng};
use pki::{
    CertificateAuthority, CertificateInfo, KeyPair, Profile, Subject, SubjectNames, decode_pem,
    encode_pem,
};

use crate::Error;
use crate::authorities::{self, CLIENT, REQUEST_HEADER, SERVER};
use crate::data_dir::{DataDir, read, write_private};
use crate::tokens::{self, SaidTokens};

const DAY: Duration = Duration::from_hours(24);
/// A certificate with less than this part of its life left is renewed.
const RENEW_PART: u32 = 3;

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate_pem: String,
    pub key: KeyPair,
}

/// What somebody chose about credentials.
pub struct Said<'a> {
    pub tokens: SaidTokens<'a>,
    /// How long certificates live.
    pub certificate_life: Duration,
}

/// Names and addresses of the API server and the kubelet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServingNames {
    pub api_server: SubjectNames,
    /// `None` without a node.
    pub kubelet: Option<(String, SubjectNames)>,
}

/// Everything that a server proves itself with.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub server_authority: CertificateAuthority,
    pub client_authority: CertificateAuthority,
    pub request_header_authority: CertificateAuthority,
    pub api_server: Identity,
    /// The API server as a client of kubelets.
    pub kubelet_client: Identity,
    pub administrator: Identity,
    /// The kubelet's serving certificate.
    pub kubelet_server: Option<Identity>,
}

impl Identity {
    /// The chain in DER, leaf first.
    pub fn chain(&self) -> Vec<Vec<u8>> {
        decode_pem("CERTIFICATE", &self.certificate_pem)
    }
}

struct Maker<'a> {
    folder: PathBuf,
    /// Of what authorities sign.
    life: Duration,
    clock: &'a dyn Clock,
    rng: &'a dyn Rng,
    /// The names of certificates that others took the place of.
    renewed: RefCell<Vec<String>>,
}

impl Credentials {
    /// Reads what is there, makes what is missing, renews what ends soon or has other names. A damaged file is an error, never replaced.
    pub fn load_or_make(
        data_dir: &DataDir,
        names: &ServingNames,
        said: &Said<'_>,
        (clock, rng): (&dyn Clock, &dyn Rng),
    ) -> Result<Self, Error> {
        let maker = Maker {
            folder: data_dir.tls(),
            life: said.certificate_life,
            clock,
            rng,
            renewed: RefCell::default(),
        };
        let [server_authority, client_authority, request_header_authority] = [
            maker.authority(SERVER.0, SERVER.1)?,
            maker.authority(CLIENT.0, CLIENT.1)?,
            maker.authority(REQUEST_HEADER.0, REQUEST_HEADER.1)?,
        ];
        let pin = server_authority.root_pem();
        tokens::keep(data_dir, said.tokens, &pin, rng)?;
        let api_server = maker.identity(
            "serving-kube-apiserver",
            &server_authority,
            &Subject::new("kube-apiserver", &[]),
            &names.api_server,
            Profile::Server,
        )?;
        let client = |file: &str, subject: &Subject| {
            maker.identity(
                file,
                &client_authority,
                subject,
                &SubjectNames::default(),
                Profile::Client,
            )
        };
        let kubelet_client = client(
            "client-kube-apiserver",
            &Subject::new("system:kube-apiserver", &[]),
        )?;
        let administrator = client(
            "client-admin",
            &Subject::new("system:admin", &["system:masters"]),
        )?;
        let kubelet_server = match &names.kubelet {
            Some((node, names)) => {
                let subject = Subject::new(&format!("system:node:{node}"), &["system:nodes"]);
                Some(maker.identity(
                    "serving-kubelet",
                    &server_authority,
                    &subject,
                    names,
                    Profile::Server,
                )?)
            }
            None => None,
        };
        maker.tell();
        Ok(Self {
            server_authority,
            client_authority,
            request_header_authority,
            api_server,
            kubelet_client,
            administrator,
            kubelet_server,
        })
    }
}

impl Maker<'_> {
    /// Tells in one line what was renewed.
    fn tell(self) {
        let renewed = self.renewed.into_inner();
        if !renewed.is_empty() {
            tracing::info!(
                certificates = renewed.join(", "),
                "certificates that ended soon, named other addresses or were signed by a former authority are renewed"
            );
        }
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{name}.{extension}"))
    }

    fn authority(&self, name: &str, common_name: &str) -> Result<CertificateAuthority, Error> {
        if let Some(authority) = authorities::read_one(&self.folder, name)? {
            return Ok(authority.at(self.clock.now()));
        }
        let authority = authorities::make(common_name, self.clock.now(), self.rng)?;
        authorities::write_one(&self.folder, name, &authority)?;
        Ok(authority)
    }

    fn identity(
        &self,
        name: &str,
        authority: &CertificateAuthority,
        subject: &Subject,
        names: &SubjectNames,
        profile: Profile,
    ) -> Result<Identity, Error> {
        let key = load_or_make_key(&self.path(name, "key"))?;
        let path = self.path(name, "crt");
        if let Some(certificate_pem) = read(&path)? {
            if self.still_serves(&certificate_pem, &key, authority, subject, names) {
                return Ok(Identity {
                    certificate_pem,
                    key,
                });
            }
            self.renewed.borrow_mut().push(name.to_owned());
        }
        let when = (self.clock.now(), self.life);
        let issued = authority
            .issue(
                subject,
                names,
                &key.public_key_info(),
                profile,
                when,
                self.rng,
            )
            .map_err(|source| Error::Make {
                what: "a certificate",
                source,
            })?;
        let certificate_pem = encode_pem("CERTIFICATE", &issued) + &authority.chain_pem();
        write_private(&path, &certificate_pem)?;
        Ok(Identity {
            certificate_pem,
            key,
        })
    }

    /// It has begun, is not near its end, and is not further from it than any that is made now: the clock was wrong when that was made.
    fn is_of_this_time(&self, info: &CertificateInfo) -> bool {
        let now = self.clock.now();
        let (soon, longest) = (self.life / RENEW_PART, self.life.saturating_add(DAY));
        info.not_before <= now
            && info.not_after > now.saturating_add(soon)
            && info.not_after <= now.saturating_add(longest)
    }

    fn still_serves(
        &self,
        pem: &str,
        key: &KeyPair,
        authority: &CertificateAuthority,
        subject: &Subject,
        names: &SubjectNames,
    ) -> bool {
        let chain = decode_pem("CERTIFICATE", pem);
        let info = chain
            .first()
            .and_then(|leaf| CertificateInfo::from_der(leaf).ok());
        info.is_some_and(|info| {
            info.subject == *subject
                && authority.signed(&info)
                && info.public_key_info == key.public_key_info()
                && names
                    .dns_names
                    .iter()
                    .all(|name| info.dns_names.contains(name))
                && names
                    .addresses
                    .iter()
                    .all(|address| info.addresses.contains(address))
                && self.is_of_this_time(&info)
        })
    }
}

/// The key in a file, or a new one written there. A damaged one is an error, never replaced.
pub(crate) fn load_or_make_key(path: &Path) -> Result<KeyPair, Error> {
    if let Some(pem) = read(path)? {
        return KeyPair::from_pem(&pem).map_err(|source| Error::Damaged {
            path: path.to_owned(),
            source,
        });
    }
    let key = KeyPair::generate().map_err(|source| Error::Make {
        what: "a key",
        source,
    })?;
    write_private(path, &key.to_pem())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use env::{ManualClock, SeededRng, Timestamp};

    use super::*;

    fn said() -> Said<'static> {
        Said {
            tokens: SaidTokens::default(),
            certificate_life: DAY * 365,
        }
    }

    fn load(data_dir: &DataDir, clock: &ManualClock, names: &ServingNames) -> Credentials {
        let said = said();
        Credentials::load_or_make(data_dir, names, &said, (clock, &*SeededRng::shared(1)))
            .expect("credentials")
    }

    #[test]
    fn what_was_made_is_kept_until_it_ends_or_its_names_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let data_dir = DataDir::prepare(folder.path()).expect("prepared");
        let clock = ManualClock::at(Timestamp::from_unix_seconds(1_800_000_000));
        let names = ServingNames::default();
        let first = load(&data_dir, &clock, &names);
        let second = load(&data_dir, &clock, &names);
        assert_eq!(
            first.api_server.certificate_pem,
            second.api_server.certificate_pem
        );

        let mut more = names.clone();
        more.api_server.dns_names.push("another".to_owned());
        let third = load(&data_dir, &clock, &more);
        assert_ne!(
            first.api_server.certificate_pem,
            third.api_server.certificate_pem
        );
        assert_eq!(
            first.administrator.certificate_pem,
            third.administrator.certificate_pem
        );

        clock.advance(DAY * 300);
        assert_ne!(
            first.administrator.certificate_pem,
            load(&data_dir, &clock, &names)
                .administrator
                .certificate_pem
        );
        assert_eq!(
            first.server_authority.to_pem(),
            load(&data_dir, &clock, &names).server_authority.to_pem()
        );
    }

    #[test]
    fn a_clock_that_was_years_ahead_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let data_dir = DataDir::prepare(folder.path()).expect("prepared");
        let right = Timestamp::from_unix_seconds(1_800_000_000);
        let clock = ManualClock::at(right);
        let names = ServingNames::default();
        let first = load(&data_dir, &clock, &names);
        clock.jump_to(right.saturating_add(DAY * 365 * 3));
        let ahead = load(&data_dir, &clock, &names);
        clock.jump_to(right.saturating_sub(DAY));
        let back = load(&data_dir, &clock, &names);
        let again = load(&data_dir, &clock, &names);
        let life = |credentials: &Credentials| {
            let chain = credentials.api_server.chain();
            let info = CertificateInfo::from_der(&chain[0]).expect("a certificate");
            (info.not_before, info.not_after)
        };
        let from = Timestamp::OLDEST_BUILD;
        let year = DAY * 365;
        assert_eq!(life(&first), (from, right.saturating_add(year)));
        assert_eq!(life(&ahead), (from, right.saturating_add(year * 4)));
        assert_eq!(life(&back), (from, clock.now().saturating_add(year)));
        assert_eq!(life(&again), life(&back), "made once");
        let root = |credentials: &Credentials| credentials.server_authority.to_pem();
        assert_eq!(root(&first), root(&back));
    }

    #[test]
    fn keys_are_private_and_a_damaged_one_is_not_replaced() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let data_dir = DataDir::prepare(folder.path()).expect("prepared");
        let clock = ManualClock::at(Timestamp::from_unix_seconds(1_800_000_000));
        load(&data_dir, &clock, &ServingNames::default());
        let key = data_dir.tls().join("server-ca.key");
        assert_eq!(
            std::fs::metadata(&key).expect("a key").permissions().mode() & 0o777,
            0o600
        );
        std::fs::write(&key, "nonsense").expect("written");
        let rng = SeededRng::shared(1);
        let again = Credentials::load_or_make(
            &data_dir,
            &ServingNames::default(),
            &said(),
            (&*clock, &*rng),
        );
        assert!(matches!(again, Err(Error::Damaged { .. })));
    }
}
