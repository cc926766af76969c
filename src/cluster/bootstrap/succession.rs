//! Authorities that take the place of others.
//!
//! They are prepared in a folder beside those that count, whole or not at all, and take their place when the server starts: a
//! running server, and whatever it signs meanwhile, belongs to one set.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use env::{Clock, Rng, Timestamp};
use pki::{CertificateAuthority, CertificateInfo};

use crate::authorities::{self, ALL, AUTHORITY_LIFE, Named};
use crate::data_dir::{DataDir, write_private};
use crate::{Error, data_dir};

const FOLDER: &str = "next";
/// Written when everything else is.
const COMPLETE: &str = "complete";
/// Authorities with less than this part of their life left are succeeded by themselves.
const SUCCEED_PART: u32 = 5;

/// Whether those who believe in an authority believe in its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The former authority signs the next one, and is believed until it ends.
    HandedOver,
    /// Nobody believes in the former one any more: for a key that is known to others.
    Broken,
}

/// An authority that counts from the next start on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor {
    /// The name of its files.
    pub name: &'static str,
    pub common_name: String,
    pub ends: Timestamp,
}

/// Prepares successors of all authorities, or of those that `given` has files of. They count from the server's next start on.
pub fn prepare_successors(
    data_dir: &DataDir,
    given: Option<&Path>,
    trust: Trust,
    (clock, rng): (&dyn Clock, &dyn Rng),
) -> Result<Vec<Successor>, Error> {
    let (tls, now) = (data_dir.tls(), clock.now());
    let mut successors = Vec::new();
    for named in ALL {
        let next = if let Some(folder) = given {
            given_authority(folder, named, now)?
        } else {
            let common_name = format!("{}@{}", named.1, now.unix_seconds());
            Some(authorities::make(&common_name, now, rng)?)
        };
        let Some(next) = next else { continue };
        let former = authorities::read_one(&tls, named.0)?;
        let former = former.ok_or_else(|| Error::NoServer {
            path: tls.join(format!("{}.crt", named.0)),
        })?;
        let next = match trust {
            Trust::HandedOver => former.at(now).succeeded_by(&next, now, rng),
            Trust::Broken => Ok(next),
        };
        let next = next.map_err(|source| Error::Make {
            what: "the certificate that the former authority signs",
            source,
        })?;
        successors.push((named.0, next));
    }
    if let Some(path) = given.filter(|_| successors.is_empty()) {
        return Err(Error::NoAuthorities {
            path: path.to_owned(),
        });
    }
    write_next(&tls.join(FOLDER), &successors)?;
    Ok(successors.iter().map(told).collect())
}

/// Puts prepared successors in their places, and prepares them where an authority comes near its end. A server calls this
/// before it reads its credentials.
pub fn succeed(data_dir: &DataDir, means: (&dyn Clock, &dyn Rng)) -> Result<(), Error> {
    let next = data_dir.tls().join(FOLDER);
    if !next.join(COMPLETE).exists() && is_due(data_dir, means.0.now())? {
        prepare_successors(data_dir, None, Trust::HandedOver, means)?;
    }
    if next.join(COMPLETE).exists() {
        for (name, _) in ALL {
            if let Some(successor) = authorities::read_one(&next, name)? {
                authorities::write_one(&data_dir.tls(), name, &successor)?;
                let successor = told(&(name, successor));
                tracing::warn!(
                    authority = name,
                    successor = successor.common_name,
                    ends = %successor.ends.to_seconds_string(),
                    "another authority signs from now on"
                );
            }
        }
        let complete = next.join(COMPLETE);
        fs::remove_file(&complete).map_err(folder_error(&complete))?;
    }
    remove(&next)
}

/// Whether all authorities are ours and one of them has lived for long.
fn is_due(data_dir: &DataDir, now: Timestamp) -> Result<bool, Error> {
    let mut is_due = false;
    for (name, common_name) in ALL {
        let Some(authority) = authorities::read_one(&data_dir.tls(), name)? else {
            return Ok(false);
        };
        let successor = told(&(name, authority));
        let is_soon = successor.ends.saturating_since(now) < AUTHORITY_LIFE / SUCCEED_PART;
        let is_ours = successor.common_name.starts_with(common_name);
        if is_soon && !is_ours {
            tracing::warn!(
                authority = name,
                ends = %successor.ends.to_seconds_string(),
                "an authority that was given ends soon; give its successor: combo certificate rotate-ca --path"
            );
            return Ok(false);
        }
        is_due |= is_soon;
    }
    Ok(is_due)
}

fn told((name, authority): &(&'static str, CertificateAuthority)) -> Successor {
    let info = CertificateInfo::from_der(authority.certificate_der());
    let info = info.expect("it was read before");
    Successor {
        name,
        common_name: info.subject.common_name,
        ends: info.not_after,
    }
}

/// An operator's authority; `None` if the folder has no files of it.
fn given_authority(
    folder: &Path,
    (name, _): Named,
    now: Timestamp,
) -> Result<Option<CertificateAuthority>, Error> {
    let path = folder.join(format!("{name}.crt"));
    if data_dir::read(&path)?.is_none() {
        return Ok(None);
    }
    let given = authorities::read_one(folder, name);
    let unusable = |why: String| Error::Given {
        path: path.clone(),
        why,
    };
    let authority = match given {
        Ok(Some(authority)) => authority,
        Ok(None) => return Err(unusable(format!("{name}.key is not with it"))),
        Err(Error::Damaged { source, .. }) => return Err(unusable(source.to_string())),
        Err(other) => return Err(other),
    };
    let ends = told(&("", authority.clone())).ends;
    if ends <= now {
        return Err(unusable(format!(
            "it ended on {}",
            ends.to_seconds_string()
        )));
    }
    Ok(Some(authority))
}

fn write_next(
    next: &Path,
    successors: &[(&'static str, CertificateAuthority)],
) -> Result<(), Error> {
    remove(next)?;
    DirBuilder::new()
        .mode(data_dir::PRIVATE_FOLDER)
        .create(next)
        .map_err(folder_error(next))?;
    for (name, authority) in successors {
        authorities::write_one(next, name, authority)?;
    }
    write_private(&next.join(COMPLETE), "")
}

/// The mark of completeness goes first: what a power cut leaves is never taken for whole.
fn remove(next: &Path) -> Result<(), Error> {
    for done in [
        fs::remove_file(next.join(COMPLETE)),
        fs::remove_dir_all(next),
    ] {
        match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(folder_error(next)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn folder_error(path: &Path) -> impl Fn(io::Error) -> Error {
    let path: PathBuf = path.to_owned();
    move |source| Error::Folder {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use env::{ManualClock, SeededRng};

    use super::*;
    use crate::{Credentials, Said, SaidTokens, ServingNames};

    struct Cluster {
        folder: tempfile::TempDir,
        data_dir: DataDir,
        clock: std::sync::Arc<ManualClock>,
        rng: std::sync::Arc<dyn Rng>,
    }

    impl Cluster {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let data_dir = DataDir::prepare(&folder.path().join("data")).expect("prepared");
            let clock = ManualClock::at(Timestamp::from_unix_seconds(1_800_000_000));
            let rng = SeededRng::shared(1);
            Self {
                folder,
                data_dir,
                clock,
                rng,
            }
        }

        fn start(&self) -> Credentials {
            succeed(&self.data_dir, (&*self.clock, &*self.rng)).expect("succeeded");
            let said = Said {
                tokens: SaidTokens::default(),
                certificate_life: Duration::from_hours(24 * 365),
            };
            let means = (&*self.clock as &dyn Clock, &*self.rng as &dyn Rng);
            Credentials::load_or_make(&self.data_dir, &ServingNames::default(), &said, means)
                .expect("credentials")
        }

        fn prepare(&self, given: Option<&Path>, trust: Trust) -> Result<Vec<Successor>, Error> {
            prepare_successors(&self.data_dir, given, trust, (&*self.clock, &*self.rng))
        }

        fn token(&self) -> String {
            fs::read_to_string(self.data_dir.token()).expect("a token")
        }
    }

    fn leaf(pem: &str) -> CertificateInfo {
        CertificateInfo::from_der(&pki::decode_pem("CERTIFICATE", pem)[0]).expect("readable")
    }

    #[test]
    fn successors_count_from_the_next_start_on_and_the_former_are_believed() {
        let cluster = Cluster::new();
        let before = cluster.start();
        let token = cluster.token();
        let told = cluster.prepare(None, Trust::HandedOver).expect("prepared");
        assert_eq!(told.len(), 3);
        let said = Said {
            tokens: SaidTokens::default(),
            certificate_life: Duration::from_hours(24 * 365),
        };
        let means = (&*cluster.clock as &dyn Clock, &*cluster.rng as &dyn Rng);
        let running =
            Credentials::load_or_make(&cluster.data_dir, &ServingNames::default(), &said, means);
        let running = running.expect("credentials");
        assert_eq!(
            running.api_server.certificate_pem,
            before.api_server.certificate_pem
        );

        let after = cluster.start();
        let (old, new) = (&before.server_authority, &after.server_authority);
        assert!(new.signed(&leaf(&after.api_server.certificate_pem)));
        assert_eq!(new.trusted_pem(), new.root_pem() + &old.root_pem());
        assert_eq!(
            before.api_server.key.to_pem(),
            after.api_server.key.to_pem()
        );
        assert!(
            after
                .client_authority
                .signed(&leaf(&after.administrator.certificate_pem))
        );
        let password = |token: &str| token.rsplit(':').next().map(str::to_owned);
        assert_ne!(cluster.token(), token, "it pins another authority");
        assert_eq!(password(&cluster.token()), password(&token));
        assert!(!cluster.data_dir.tls().join(FOLDER).exists());
        let again = cluster.start();
        assert_eq!(again.server_authority.to_pem(), new.to_pem());
    }

    #[test]
    fn broken_trust_believes_in_nobody_before() {
        let cluster = Cluster::new();
        cluster.start();
        cluster.prepare(None, Trust::Broken).expect("prepared");
        let after = cluster.start();
        let server = &after.server_authority;
        assert_eq!(
            (server.trusted_pem(), server.chain_pem()),
            (server.root_pem(), String::new())
        );
        assert!(server.signed(&leaf(&after.api_server.certificate_pem)));
    }

    #[test]
    fn what_a_power_cut_left_is_thrown_away_or_finished() {
        let cluster = Cluster::new();
        let before = cluster.start();
        cluster.prepare(None, Trust::HandedOver).expect("prepared");
        let next = cluster.data_dir.tls().join(FOLDER);
        fs::remove_file(next.join(COMPLETE)).expect("it is the mark");
        let same = cluster.start();
        assert_eq!(
            same.server_authority.to_pem(),
            before.server_authority.to_pem()
        );
        assert!(!next.exists());

        cluster.prepare(None, Trust::HandedOver).expect("prepared");
        // Half of one authority was put in its place.
        fs::copy(
            next.join("server-ca.key"),
            cluster.data_dir.tls().join("server-ca.key"),
        )
        .expect("copied");
        let after = cluster.start();
        assert_ne!(
            after.server_authority.to_pem(),
            before.server_authority.to_pem()
        );
    }

    #[test]
    fn an_operators_authorities_are_taken_and_what_is_wrong_with_them_is_told() {
        let cluster = Cluster::new();
        let before = cluster.start();
        let given = cluster.folder.path().join("given");
        fs::create_dir(&given).expect("a folder");
        let refusal = || {
            let refused = cluster.prepare(Some(&given), Trust::HandedOver);
            refused.expect_err("refused").to_string()
        };
        assert!(refusal().contains("server-ca.crt"), "{}", refusal());
        let make = |life| {
            let now = cluster.clock.now();
            CertificateAuthority::generate("mine", now, life, &*cluster.rng).expect("made")
        };
        let mine = make(AUTHORITY_LIFE);
        fs::write(given.join("server-ca.crt"), mine.to_pem()).expect("written");
        assert!(
            refusal().contains("server-ca.key is not with it"),
            "{}",
            refusal()
        );
        let other = make(Duration::ZERO);
        fs::write(given.join("server-ca.key"), other.key().to_pem()).expect("written");
        assert!(
            refusal().contains("the key is of another one"),
            "{}",
            refusal()
        );
        fs::write(given.join("server-ca.crt"), other.to_pem()).expect("written");
        assert!(refusal().contains("it ended on"), "{}", refusal());
        assert!(!cluster.data_dir.tls().join(FOLDER).exists());

        authorities::write_one(&given, "server-ca", &mine).expect("written");
        cluster
            .prepare(Some(&given), Trust::HandedOver)
            .expect("prepared");
        let after = cluster.start();
        assert_eq!(after.server_authority.root_pem(), mine.root_pem());
        assert_eq!(
            after.client_authority.to_pem(),
            before.client_authority.to_pem()
        );
    }

    #[test]
    fn authorities_that_have_lived_for_long_are_succeeded_at_a_start() {
        let cluster = Cluster::new();
        let before = cluster.start();
        cluster.clock.advance(AUTHORITY_LIFE / 2);
        assert_eq!(
            cluster.start().server_authority.to_pem(),
            before.server_authority.to_pem()
        );
        cluster.clock.advance(AUTHORITY_LIFE * 2 / 5);
        let after = cluster.start();
        assert_eq!(after.server_authority.trusted_der().len(), 2);
        cluster.clock.advance(AUTHORITY_LIFE / 5);
        assert_eq!(
            cluster.start().server_authority.trusted_der().len(),
            1,
            "the first has ended"
        );
    }
}
