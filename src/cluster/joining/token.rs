//! Join tokens, in the three forms that k3s' users know.
//!
//! Full: `K10<sha-256 of the authority's PEM, in hex>::<user>:<password>` or `K10<hash>::<id>.<secret>`. Short: `<password>` or
//! `<id>.<secret>`, which pins no authority: whoever answers first is believed.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};

const FULL_PREFIX: &str = "K10";
const SEPARATOR: &str = "::";
const HASH_LETTERS: usize = 64;
const TOKEN_LETTERS_MAX: usize = 1024;
/// Letters of a bootstrap token's two parts, as kubeadm has them.
pub(crate) const BOOTSTRAP_ID_LETTERS: usize = 6;
pub(crate) const BOOTSTRAP_SECRET_LETTERS: usize = 16;

/// What a holder of a password may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Join nodes, and everything that servers may.
    Server,
    /// Join nodes.
    Agent,
}

impl Role {
    /// The user in a full token.
    pub fn user(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Agent => "node",
        }
    }
}

/// What a token proves knowledge of. Its `Debug` shows nothing secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// `role` is unknown in a short token.
    Password {
        role: Option<Role>,
        password: String,
    },
    /// A Secret `bootstrap-token-<id>` in kube-system.
    Bootstrap { id: String, secret: String },
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { role, .. } => write!(formatter, "Password({role:?})"),
            Self::Bootstrap { id, .. } => write!(formatter, "Bootstrap({id})"),
        }
    }
}

/// The SHA-256 of an authority's certificate as PEM, which a token pins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AuthorityHash([u8; 32]);

impl AuthorityHash {
    pub fn of_pem(pem: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, pem.as_bytes()).as_ref());
        Self(hash)
    }

    fn from_hex(text: &str) -> Option<Self> {
        if text.len() != HASH_LETTERS || !text.is_ascii() {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for AuthorityHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for AuthorityHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A token as somebody typed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    pub pin: Option<AuthorityHash>,
    pub secret: Secret,
}

/// Why a text is no token; never shows the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is empty")]
    Empty,
    #[error("the token has more than {TOKEN_LETTERS_MAX} letters")]
    TooLong,
    #[error("the token has a space or another letter that tokens have not; copy it again")]
    Letters,
    #[error(
        "the token begins with K10 but is not K10<64 hexadecimal digits>::<user>:<password>; it was cut when it was copied"
    )]
    Cut,
    #[error("the token is of the user {0:?}; there are tokens of `node` and of `server`")]
    User(String),
}

impl JoinToken {
    /// The full form for `role`.
    pub fn full(pin: AuthorityHash, role: Role, password: &str) -> String {
        format!("{FULL_PREFIX}{pin}{SEPARATOR}{}:{password}", role.user())
    }

    /// The full form of a bootstrap token.
    pub fn full_bootstrap(pin: AuthorityHash, id: &str, secret: &str) -> String {
        format!("{FULL_PREFIX}{pin}{SEPARATOR}{id}.{secret}")
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if text.len() > TOKEN_LETTERS_MAX {
            return Err(TokenError::TooLong);
        }
        if !text.bytes().all(|letter| letter.is_ascii_graphic()) {
            return Err(TokenError::Letters);
        }
        let Some(rest) = text.strip_prefix(FULL_PREFIX) else {
            return Ok(Self {
                pin: None,
                secret: short(text),
            });
        };
        let (hash, secret) = rest.split_once(SEPARATOR).ok_or(TokenError::Cut)?;
        let pin = AuthorityHash::from_hex(hash).ok_or(TokenError::Cut)?;
        if secret.is_empty() {
            return Err(TokenError::Cut);
        }
        let secret = match secret.split_once(':') {
            None => short(secret),
            Some((user, password)) => {
                let roles = [Role::Server, Role::Agent];
                let role = roles.into_iter().find(|role| role.user() == user);
                let role = role.ok_or_else(|| TokenError::User(user.to_owned()))?;
                if password.is_empty() {
                    return Err(TokenError::Cut);
                }
                Secret::Password {
                    role: Some(role),
                    password: password.to_owned(),
                }
            }
        };
        Ok(Self {
            pin: Some(pin),
            secret,
        })
    }
}

fn short(text: &str) -> Secret {
    if let Some((id, secret)) = text.split_once('.')
        && is_bootstrap_part(id, BOOTSTRAP_ID_LETTERS)
        && is_bootstrap_part(secret, BOOTSTRAP_SECRET_LETTERS)
    {
        return Secret::Bootstrap {
            id: id.to_owned(),
            secret: secret.to_owned(),
        };
    }
    Secret::Password {
        role: None,
        password: text.to_owned(),
    }
}

/// `[a-z0-9]{letters}`.
pub(crate) fn is_bootstrap_part(text: &str, letters: usize) -> bool {
    let allowed = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    text.len() == letters && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

    #[test]
    fn a_full_token_is_read_as_it_was_written() {
        let pin = AuthorityHash::of_pem(PEM);
        for role in [Role::Server, Role::Agent] {
            let text = JoinToken::full(pin, role, "pass:word");
            let token: JoinToken = text.parse().expect("a token");
            let secret = Secret::Password {
                role: Some(role),
                password: "pass:word".to_owned(),
            };
            assert_eq!(
                token,
                JoinToken {
                    pin: Some(pin),
                    secret
                }
            );
        }
        let text = JoinToken::full_bootstrap(pin, "abcdef", "0123456789abcdef");
        let token: JoinToken = text.parse().expect("a token");
        let secret = Secret::Bootstrap {
            id: "abcdef".to_owned(),
            secret: "0123456789abcdef".to_owned(),
        };
        assert_eq!(
            token,
            JoinToken {
                pin: Some(pin),
                secret
            }
        );
    }

    #[test]
    fn a_short_token_pins_nothing() {
        let token: JoinToken = " secret\n".parse().expect("a token");
        assert_eq!(token.pin, None);
        let bootstrap: JoinToken = "abcdef.0123456789abcdef".parse().expect("a token");
        assert!(matches!(bootstrap.secret, Secret::Bootstrap { .. }));
        let password: JoinToken = "abcdef.short".parse().expect("a token");
        assert!(matches!(password.secret, Secret::Password { .. }));
    }

    #[test]
    fn what_is_wrong_with_a_token_is_said_without_showing_it() {
        let hash = "ab".repeat(32);
        let cases = [
            (String::new(), TokenError::Empty),
            ("a b".to_owned(), TokenError::Letters),
            ("x".repeat(2000), TokenError::TooLong),
            ("K10abc::node:secret".to_owned(), TokenError::Cut),
            (format!("K10{hash}"), TokenError::Cut),
            (format!("K10{hash}::"), TokenError::Cut),
            (format!("K10{hash}::node:"), TokenError::Cut),
            (format!("K10{}::node:x", "zz".repeat(32)), TokenError::Cut),
            (
                format!("K10{hash}::root:secret"),
                TokenError::User("root".to_owned()),
            ),
        ];
        for (text, why) in cases {
            let error = text.parse::<JoinToken>().expect_err(&text);
            assert_eq!(error, why, "{text}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
