//! Tokens as they are said: a word, or the name of a file.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use joining::{JoinToken, Secret};

use crate::ConfigError;

/// A token is far smaller; a file that is not a token may be anything.
const FILE_BYTES_MAX: u64 = 4096;

/// One token's two flags.
pub(crate) struct TokenFlags<'a> {
    pub(crate) flag: &'static str,
    pub(crate) token: Option<&'a str>,
    pub(crate) file_flag: &'static str,
    pub(crate) file: Option<&'a Path>,
}

/// The token that was said, in whichever form.
pub(crate) fn join_token(said: &TokenFlags<'_>) -> Result<Option<JoinToken>, ConfigError> {
    match (said.token, said.file) {
        (Some(token), _) => token
            .parse()
            .map(Some)
            .map_err(|error: joining::TokenError| ConfigError::SecretFlag {
                flag: said.flag,
                why: error.to_string(),
            }),
        (None, Some(path)) => {
            let refused = |why: String| ConfigError::FlagFile {
                flag: said.file_flag,
                path: path.to_owned(),
                why,
            };
            let text = read(path).map_err(|error| refused(error.to_string()))?;
            let token: JoinToken = text
                .parse()
                .map_err(|error: joining::TokenError| refused(error.to_string()))?;
            Ok(Some(token))
        }
        (None, None) => Ok(None),
    }
}

/// The password that a server was told to have: a bootstrap token is no password of a server.
pub(crate) fn password(said: &TokenFlags<'_>) -> Result<Option<String>, ConfigError> {
    match join_token(said)?.map(|token| token.secret) {
        None => Ok(None),
        Some(Secret::Password { password, .. }) => Ok(Some(password)),
        Some(Secret::Bootstrap { .. }) => Err(ConfigError::SecretFlag {
            flag: said.flag,
            why: "it has the form of a bootstrap token, which `combo token create` makes; \
                  choose another password"
                .to_owned(),
        }),
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut text = String::new();
    File::open(path)?
        .take(FILE_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}
