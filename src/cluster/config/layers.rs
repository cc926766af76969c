//! Who wins: the command line, then variables, then configuration files, the last of them first.
//!
//! What files say becomes words of the command line, before those that were typed: so a value is read and refused by the same
//! rules wherever it comes from.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::file::{Entry, Named, Values, read_all};
use crate::{ConfigError, k3s, paths};

/// A key this near to a known one is a slip.
const SLIP_MAX: f64 = 0.8;
const CONFIG: &str = "config";

/// The words that variables of k3s and configuration files add to those of `command`, which were read as `said`.
pub fn more_words(
    command: &Command,
    said: &ArgMatches,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<OsString>, ConfigError> {
    let mut words = Vec::new();
    let mut config = said.get_one::<PathBuf>(CONFIG).cloned();
    let mut open: Vec<&Arg> = Vec::new();
    for arg in command.get_arguments() {
        let others = command.get_arg_conflicts_with(arg);
        if is_said(arg, said) || others.iter().any(|other| is_said(other, said)) {
            continue;
        }
        match alias_value(arg, variables) {
            Some(value) if arg.get_id() == CONFIG => config = Some(value.into()),
            Some(value) => words.extend(words_of(arg, &Values::One(value)).into_iter().flatten()),
            None => open.push(arg),
        }
    }
    let entries = match &config {
        Some(path) => read_all(path, Named::BySomebody)?,
        None => read_all(Path::new(paths::DEFAULT_CONFIG_FILE), Named::ByDefault)?,
    };
    for (arg, entry) in merge(command, entries)? {
        // Refused also where something else wins: the file is wrong today and would count tomorrow.
        let more = checked_words(command, arg, &entry)?;
        if open.iter().any(|open| open.get_id() == arg.get_id()) {
            words.extend(more);
        }
    }
    Ok(words)
}

/// What to say instead of clap's error, if a flag of k3s is meant that is not here.
pub fn explain(error: &clap::Error, command: &str) -> Option<ConfigError> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let flag = word.trim_start_matches('-');
    let flag = flag.split('=').next().unwrap_or(flag);
    not_here(flag, command)
}

fn not_here(flag: &str, command: &str) -> Option<ConfigError> {
    let hint = match k3s::hint(flag) {
        Some(hint) => hint,
        None if command == "agent" && is_server_flag(flag) => {
            "it is one of `combo server`: agents learn it from their server"
        }
        None => return None,
    };
    Some(ConfigError::NotHere {
        flag: flag.to_owned(),
        hint,
    })
}

fn is_server_flag(flag: &str) -> bool {
    let server = <crate::ServerFlags as clap::Args>::augment_args(Command::new("server"));
    server
        .get_arguments()
        .any(|arg| arg.get_long() == Some(flag))
}

fn is_said(arg: &Arg, said: &ArgMatches) -> bool {
    matches!(
        said.value_source(arg.get_id().as_str()),
        Some(ValueSource::CommandLine | ValueSource::EnvVariable)
    )
}

fn alias_value(arg: &Arg, variables: &BTreeMap<String, String>) -> Option<String> {
    let alias = k3s::alias(arg.get_env()?.to_str()?)?;
    variables
        .get(&alias)
        .filter(|value| !value.is_empty())
        .cloned()
}

/// One entry for each flag that files speak of.
fn merge(command: &Command, entries: Vec<Entry>) -> Result<Vec<(&Arg, Entry)>, ConfigError> {
    let mut merged: Vec<(&Arg, Entry)> = Vec::new();
    for entry in entries {
        let arg = find(command, &entry)?;
        let is_list = matches!(arg.get_action(), ArgAction::Append);
        if entry.appends && !is_list {
            return Err(entry.wrong("+ appends to a list, and this flag has one value"));
        }
        if matches!(entry.values, Values::Many(_)) && !is_list {
            return Err(entry.wrong("it has one value, and not a list"));
        }
        let before = merged
            .iter_mut()
            .find(|(of, _)| of.get_id() == arg.get_id());
        match before {
            Some((_, earlier)) if entry.appends => {
                let mut values = earlier.values.clone().into_list();
                values.extend(entry.values.clone().into_list());
                *earlier = Entry {
                    values: Values::Many(values),
                    ..entry
                };
            }
            Some((_, earlier)) => *earlier = entry,
            None => merged.push((arg, entry)),
        }
    }
    Ok(merged)
}

fn find<'a>(command: &'a Command, entry: &Entry) -> Result<&'a Arg, ConfigError> {
    let key = entry.key.as_str();
    if key == CONFIG {
        return Err(entry.wrong("a configuration file cannot name another; use its folder .d"));
    }
    let named = |arg: &&Arg| arg.get_long() == Some(key);
    if let Some(arg) = command.get_arguments().find(named) {
        return Ok(arg);
    }
    if let Some(ConfigError::NotHere { hint, .. }) = not_here(key, command.get_name()) {
        return Err(entry.wrong(hint));
    }
    let near = command
        .get_arguments()
        .filter_map(Arg::get_long)
        .map(|name| (strsim::jaro_winkler(name, key), name))
        .filter(|(nearness, _)| *nearness >= SLIP_MAX)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    Err(entry.wrong(match near {
        Some((_, name)) => format!("there is no such key; {name} is near it"),
        None => format!(
            "there is no such key; `combo {} --help` lists them",
            command.get_name()
        ),
    }))
}

fn checked_words(
    command: &Command,
    arg: &Arg,
    entry: &Entry,
) -> Result<Vec<OsString>, ConfigError> {
    let words =
        words_of(arg, &entry.values).ok_or_else(|| entry.wrong("it is either true or false"))?;
    // Without variables: one that is wrong was told already, and is not this entry's fault.
    let alone = command
        .clone()
        .no_binary_name(true)
        .mut_args(|arg| arg.env(Resettable::Reset));
    alone
        .try_get_matches_from(&words)
        .map_err(|error| entry.wrong(why(&error)))?;
    Ok(words)
}

/// The reason alone: neither the flag, which the entry names, nor the value, which may be a secret.
fn why(error: &clap::Error) -> String {
    let reason = error.source().map(ToString::to_string);
    reason.unwrap_or_else(|| "its value is not one that this flag has".to_owned())
}

/// `None`: a truth that is neither true nor false.
pub(crate) fn words_of(arg: &Arg, values: &Values) -> Option<Vec<OsString>> {
    let name = arg.get_long().expect("every flag has a long name");
    let words: Vec<String> = match (arg.get_action(), values) {
        (ArgAction::SetTrue, Values::One(text)) => {
            if is_true(text)? {
                vec![format!("--{name}")]
            } else {
                Vec::new()
            }
        }
        (_, values) => values
            .clone()
            .into_list()
            .iter()
            .map(|value| format!("--{name}={value}"))
            .collect(),
    };
    Some(words.into_iter().map(OsString::from).collect())
}

fn is_true(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}
