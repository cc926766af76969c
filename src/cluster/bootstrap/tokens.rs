//! The passwords that servers and agents join with: three files, each with the full form that pins the authority.
//!
//! `server/token` is of servers, `server/agent-token` of agents, and `server/node-token` is a link to the latter, where k3s' users look.

use std::path::Path;

use env::Rng;
use joining::{AuthorityHash, Role, ServerTokens, read_password};

use crate::data_dir::DataDir;
use crate::error::Error;

const PASSWORD_BYTES: usize = 16;

/// The passwords that somebody chose; `None`: those that are kept, or new ones.
#[derive(Clone, Copy, Default)]
pub struct SaidTokens<'a> {
    pub server: Option<&'a str>,
    pub agent: Option<&'a str>,
}

/// Writes what is missing, what was said, and what pins another authority.
pub(crate) fn keep(
    data_dir: &DataDir,
    said: SaidTokens<'_>,
    server_authority_pem: &str,
    rng: &dyn Rng,
) -> Result<(), Error> {
    let tokens = data_dir.tokens();
    let pin = AuthorityHash::of_pem(server_authority_pem);
    for (role, path, said) in [
        (Role::Server, &tokens.server, said.server),
        (Role::Agent, &tokens.agent, said.agent),
    ] {
        keep_one(&tokens, role, path, said, pin, rng)?;
    }
    link(&data_dir.node_token(), &tokens.agent)
}

fn keep_one(
    tokens: &ServerTokens,
    role: Role,
    path: &Path,
    said: Option<&str>,
    pin: AuthorityHash,
    rng: &dyn Rng,
) -> Result<(), Error> {
    let unreadable = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let password = match said {
        Some(said) => said.to_owned(),
        None => read_password(path)
            .map_err(unreadable)?
            .unwrap_or_else(|| random_password(rng)),
    };
    let wanted = joining::JoinToken::full(pin, role, &password);
    let kept = crate::data_dir::read(path)?;
    if kept.is_some_and(|kept| kept.trim() == wanted) {
        return Ok(());
    }
    tokens
        .write(role, pin, &password)
        .map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })
}

/// Thirty-two hexadecimal digits that nobody can guess.
pub fn random_password(rng: &dyn Rng) -> String {
    let mut bytes = [0u8; PASSWORD_BYTES];
    rng.fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn link(link: &Path, target: &Path) -> Result<(), Error> {
    let name = Path::new(target.file_name().expect("a token's file has a name"));
    if std::fs::read_link(link).is_ok_and(|leads_to| leads_to == name) {
        return Ok(());
    }
    let failed = |source| Error::Folder {
        path: link.to_owned(),
        source,
    };
    match std::fs::remove_file(link) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    std::os::unix::fs::symlink(name, link).map_err(failed)
}

#[cfg(test)]
mod tests {
    use env::SeededRng;

    use super::*;

    #[test]
    fn tokens_are_full_differ_by_role_and_follow_what_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let data_dir = DataDir::prepare(folder.path()).expect("prepared");
        let rng = SeededRng::shared(1);
        let read = |path: std::path::PathBuf| std::fs::read_to_string(path).expect("a token");
        let keep = |said, pem| keep(&data_dir, said, pem, &*rng).expect("kept");

        keep(SaidTokens::default(), "pem");
        let (server, agent) = (read(data_dir.token()), read(data_dir.agent_token()));
        let pin = AuthorityHash::of_pem("pem");
        assert!(
            server.starts_with(&format!("K10{pin}::server:")),
            "{server}"
        );
        assert!(agent.starts_with(&format!("K10{pin}::node:")), "{agent}");
        assert_eq!(read(data_dir.node_token()), agent);

        keep(SaidTokens::default(), "pem");
        assert_eq!(read(data_dir.token()), server);

        let said = SaidTokens {
            server: None,
            agent: Some("chosen"),
        };
        keep(said, "another");
        let pin = AuthorityHash::of_pem("another");
        assert_eq!(
            read(data_dir.node_token()),
            format!("K10{pin}::node:chosen\n")
        );
        let password = |text: &str| text.trim().rsplit(':').next().map(str::to_owned);
        assert_eq!(password(&read(data_dir.token())), password(&server));
    }
}
