//! Keys and values from literals, files and files of variables: `--from-literal --from-file --from-env-file`.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;

use crate::error::{Error, Result};

/// More than this in one file is refused; an object could not hold it.
const FILE_BYTES_MAX: u64 = 3 << 20;

#[derive(Args, Clone)]
pub(super) struct Sources {
    /// KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    from_literal: Vec<String>,
    /// FILE, KEY=FILE, or a folder with files
    #[arg(long, value_name = "[KEY=]FILE")]
    from_file: Vec<String>,
    /// A file of KEY=VALUE lines
    #[arg(long, value_name = "FILE")]
    from_env_file: Vec<String>,
}

impl Sources {
    pub(super) fn read(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut data = BTreeMap::new();
        for literal in &self.from_literal {
            let (key, value) = literal.split_once('=').ok_or_else(|| {
                Error::usage(format!(
                    "invalid literal source {literal}, expected key=value"
                ))
            })?;
            let value = value.trim_matches(|quote| quote == '"' || quote == '\'');
            add(&mut data, key, value.as_bytes().to_vec())?;
        }
        for source in &self.from_file {
            from_file(&mut data, source)?;
        }
        for file in &self.from_env_file {
            let text = String::from_utf8(read(Path::new(file))?)
                .map_err(|_| Error::usage(format!("env file {file} is not UTF-8")))?;
            for line in text
                .lines()
                .map(str::trim_start)
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
            {
                let (key, value) = line.split_once('=').unwrap_or((line, ""));
                add(
                    &mut data,
                    key.trim_start_matches("export "),
                    value.as_bytes().to_vec(),
                )?;
            }
        }
        Ok(data)
    }
}

fn from_file(data: &mut BTreeMap<String, Vec<u8>>, source: &str) -> Result<()> {
    if let Some((key, file)) = source.split_once('=') {
        return add(data, key, read(Path::new(file))?);
    }
    let path = Path::new(source);
    if !path.is_dir() {
        return add(data, &file_name(path), read(path)?);
    }
    let entries = std::fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
    for entry in entries {
        let file = entry.map_err(|error| unreadable(path, &error))?.path();
        if file.is_file() {
            add(data, &file_name(&file), read(&file)?)?;
        }
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(Error::usage(format!(
            "{} has more than {FILE_BYTES_MAX} bytes",
            path.display()
        )));
    }
    std::fs::read(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::usage(format!("error reading {}: {error}", path.display()))
}

fn add(data: &mut BTreeMap<String, Vec<u8>>, key: &str, value: Vec<u8>) -> Result<()> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if key.is_empty() || !key.bytes().all(is_good) {
        return Err(Error::usage(format!(
            "{key:?} is not valid key name: a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        )));
    }
    if data.insert(key.to_owned(), value).is_some() {
        return Err(Error::usage(format!(
            "cannot add key {key}, another key by that name already exists in Data"
        )));
    }
    Ok(())
}
