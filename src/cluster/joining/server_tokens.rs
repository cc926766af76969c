//! The passwords of a server: one that servers share, one that agents join with. Both are files, read whenever somebody shows one, so that
//! a change needs no restart.

use std::io;
use std::path::{Path, PathBuf};

use linux::AtomicFile;
use ring::digest::{SHA256, digest};

use crate::token::{AuthorityHash, JoinToken, Role, Secret, TokenError};

/// The two token files of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTokens {
    pub server: PathBuf,
    pub agent: PathBuf,
}

impl ServerTokens {
    /// What the holder of this password may do; `None`: it is neither of the two.
    ///
    /// A token that names a role is tried for that role only; a short one for both, the lesser first.
    pub fn role_of(&self, role: Option<Role>, password: &str) -> io::Result<Option<Role>> {
        let tried: &[Role] = match role {
            Some(Role::Server) => &[Role::Server],
            Some(Role::Agent) => &[Role::Agent],
            None => &[Role::Agent, Role::Server],
        };
        for role in tried {
            let file = self.file(*role);
            if read_password(file)?.is_some_and(|kept| same(&kept, password)) {
                return Ok(Some(*role));
            }
        }
        Ok(None)
    }

    /// Replaces the password of `role`; whoever joins from now on needs the new one.
    pub fn write(
        &self,
        role: Role,
        pin: AuthorityHash,
        password: &str,
    ) -> Result<(), linux::Error> {
        let text = JoinToken::full(pin, role, password) + "\n";
        AtomicFile::private(self.file(role)).write(text.as_bytes())
    }

    fn file(&self, role: Role) -> &Path {
        match role {
            Role::Server => &self.server,
            Role::Agent => &self.agent,
        }
    }
}

/// The password in a token file; `None` if there is no file or nothing in it. Anything else that is no password is an error: a
/// token that machines know must not be taken for none, and replaced.
pub fn read_password(file: &Path) -> io::Result<Option<String>> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if text.trim().is_empty() {
        return Ok(None);
    }
    let damaged = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let token: JoinToken = text
        .parse()
        .map_err(|error: TokenError| damaged(error.to_string()))?;
    match token.secret {
        Secret::Password { password, .. } => Ok(Some(password)),
        Secret::Bootstrap { .. } => Err(damaged(
            "it has the form of a bootstrap token, which is no password of a server".to_owned(),
        )),
    }
}

/// Compares digests: how long that takes says nothing about the secrets.
pub(crate) fn same(one: &str, other: &str) -> bool {
    digest(&SHA256, one.as_bytes()).as_ref() == digest(&SHA256, other.as_bytes()).as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_password_has_its_role_and_a_change_counts_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = ServerTokens {
            server: folder.path().join("token"),
            agent: folder.path().join("agent-token"),
        };
        let pin = AuthorityHash::of_pem("pem");
        tokens.write(Role::Server, pin, "s1").expect("written");
        std::fs::write(&tokens.agent, "a1\n").expect("written");
        let role_of = |role, password| tokens.role_of(role, password).expect("readable");
        assert_eq!(role_of(None, "s1"), Some(Role::Server));
        assert_eq!(role_of(None, "a1"), Some(Role::Agent));
        assert_eq!(role_of(Some(Role::Agent), "s1"), None);
        assert_eq!(role_of(Some(Role::Server), "a1"), None);
        tokens.write(Role::Agent, pin, "a2").expect("written");
        assert_eq!(role_of(None, "a1"), None);
        assert_eq!(role_of(Some(Role::Agent), "a2"), Some(Role::Agent));
    }

    #[test]
    fn a_damaged_token_file_is_an_error_and_an_empty_one_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        assert_eq!(read_password(&file).expect("readable"), None);
        std::fs::write(&file, "\n").expect("written");
        assert_eq!(read_password(&file).expect("readable"), None);
        for damaged in ["K10cut", "two words", "abcdef.0123456789abcdef"] {
            std::fs::write(&file, damaged).expect("written");
            let error = read_password(&file).expect_err(damaged);
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{damaged}");
        }
    }
}
