//! The words of a command line together with what configuration files and variables say.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _};
use config::ConfigError;

use super::Cli;

/// The commands that files and variables speak to.
const CONFIGURED: [&str; 2] = ["server", "agent"];
/// The program and the command stand before what they are told.
const WORDS_BEFORE_FLAGS: usize = 2;

/// Reads `words`; `Err`: what is wrong with a file or a variable. Wrong words and `--help` end the process, as everywhere.
pub(super) fn parse(words: Vec<OsString>) -> Result<Cli, ConfigError> {
    let command = words.get(1).and_then(|word| word.to_str());
    let Some(command) = command.filter(|command| CONFIGURED.contains(command)) else {
        return Ok(read(words));
    };
    let mut parser = Cli::command();
    let typed = match parser.try_get_matches_from_mut(&words) {
        Ok(typed) => typed,
        Err(error) => {
            return match config::explain(&error, command) {
                Some(explained) => Err(explained),
                None => error.exit(),
            };
        }
    };
    let (Some(said), Some(parser)) = (
        typed.subcommand_matches(command),
        parser.find_subcommand(command),
    ) else {
        return Ok(read(words));
    };
    let variables: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let more = config::more_words(parser, said, &variables)?;
    let (before, typed) = words.split_at(WORDS_BEFORE_FLAGS);
    Ok(read([before, &more, typed].concat()))
}

fn read(words: Vec<OsString>) -> Cli {
    let matches = Cli::command().get_matches_from(words);
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.with_cmd(&Cli::command()).exit())
}
