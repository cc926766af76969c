//! The bucket that snapshots are copied to.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as _, Command, FromArgMatches as _};

use crate::error::invalid;
use crate::file::Values;
use crate::paths::absolute;
use crate::s3_flags::S3Flags;
use crate::snapshots::DEFAULT_SNAPSHOT_RETENTION;
use crate::{ConfigError, layers};

const AMAZON: &str = "s3.amazonaws.com";
/// Their buckets are found as parts of the host's name.
const AMAZON_DOMAIN: &str = ".amazonaws.com";
const DEFAULT_REGION: &str = "us-east-1";
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(5);
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_hours(24);
const BUCKET_BYTES: std::ops::RangeInclusive<usize> = 3..=63;
/// A key has 1024 bytes, and the names of snapshots need some.
const FOLDER_BYTES_MAX: usize = 512;

/// Where a bucket's name stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketLookup {
    Host,
    Path,
}

/// A bucket, and how it is reached. Its `Debug` shows no key.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Config {
    /// Host, perhaps with a port.
    pub endpoint: String,
    pub is_plain: bool,
    pub authority_file: Option<PathBuf>,
    pub believes_anybody: bool,
    pub access_key: String,
    pub secret_key: String,
    pub session_token: Option<String>,
    pub bucket: String,
    pub lookup: BucketLookup,
    pub region: String,
    /// Empty, or with a slash at its end only.
    pub folder: String,
    /// What somebody said; 0 keeps all.
    pub retention: Option<usize>,
    /// `None`: as the environment says.
    pub proxy: Option<String>,
    pub timeout: Duration,
}

impl fmt::Debug for S3Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl fmt::Display for S3Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bucket, folder, endpoint) = (&self.bucket, &self.folder, &self.endpoint);
        write!(formatter, "s3://{bucket}/{folder} at {endpoint}")
    }
}

impl S3Config {
    /// `None`: no copies are made.
    pub fn from_flags(said: S3Flags) -> Result<Option<Self>, ConfigError> {
        if !said.etcd_s3 {
            return match said.is_about_a_bucket() {
                false => Ok(None),
                true => Err(ConfigError::Missing {
                    flag: "etcd-s3",
                    why: "the other flags about S3 are of no use without it",
                }),
            };
        }
        let bucket = bucket(said.etcd_s3_bucket)?;
        let region = said.etcd_s3_region.filter(|region| !region.is_empty());
        let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
        let is_plain_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if !region.bytes().all(is_plain_word) {
            return Err(invalid(
                "etcd-s3-region",
                region,
                "it is no name of a region",
            ));
        }
        let endpoint = endpoint(said.etcd_s3_endpoint, &region)?;
        let lookup = lookup(said.etcd_s3_bucket_lookup_type, &endpoint, &bucket)?;
        Ok(Some(Self {
            is_plain: said.etcd_s3_insecure,
            authority_file: said.etcd_s3_endpoint_ca.map(absolute),
            believes_anybody: said.etcd_s3_skip_ssl_verify,
            access_key: key("etcd-s3-access-key", said.etcd_s3_access_key)?,
            secret_key: key("etcd-s3-secret-key", said.etcd_s3_secret_key)?,
            session_token: said.etcd_s3_session_token.filter(|token| !token.is_empty()),
            folder: folder(said.etcd_s3_folder)?,
            retention: said.etcd_s3_retention,
            proxy: proxy(said.etcd_s3_proxy)?,
            timeout: timeout(said.etcd_s3_timeout.as_deref())?,
            endpoint,
            bucket,
            lookup,
            region,
        }))
    }

    /// How many are kept of a series and a node; `None`: all.
    pub fn keep(&self) -> Option<usize> {
        Some(self.retention.unwrap_or(DEFAULT_SNAPSHOT_RETENTION)).filter(|keep| *keep > 0)
    }
}

impl S3Flags {
    /// What was typed or stands in variables, and of the rest what the files of `config` say.
    pub fn or_in_files(self, values: &BTreeMap<String, Vec<String>>) -> Result<Self, ConfigError> {
        let mut words: Vec<OsString> = Vec::new();
        let command = Self::augment_args(Command::new("s3").no_binary_name(true));
        // What is typed counts, and what is in variables was read with it.
        let command = command.mut_args(|arg| arg.env(clap::builder::Resettable::Reset));
        for arg in command.get_arguments() {
            let name = arg.get_long().unwrap_or_default();
            let Some([value]) = values.get(name).map(Vec::as_slice) else {
                continue;
            };
            words.extend(layers::words_of(arg, &Values::One(value.clone())).unwrap_or_default());
        }
        let matches = command.try_get_matches_from(words);
        let files = matches.and_then(|matches| Self::from_arg_matches(&matches));
        // The reason alone: a value can be a key.
        let files = files.map_err(|_error| ConfigError::SecretFlag {
            flag: "etcd-s3",
            why: "a value of etcd-s3-* in the configuration file is not one that its flag has"
                .to_owned(),
        })?;
        Ok(Self {
            etcd_s3: self.etcd_s3 || files.etcd_s3,
            etcd_s3_endpoint: self.etcd_s3_endpoint.or(files.etcd_s3_endpoint),
            etcd_s3_endpoint_ca: self.etcd_s3_endpoint_ca.or(files.etcd_s3_endpoint_ca),
            etcd_s3_skip_ssl_verify: self.etcd_s3_skip_ssl_verify || files.etcd_s3_skip_ssl_verify,
            etcd_s3_access_key: self.etcd_s3_access_key.or(files.etcd_s3_access_key),
            etcd_s3_secret_key: self.etcd_s3_secret_key.or(files.etcd_s3_secret_key),
            etcd_s3_session_token: self.etcd_s3_session_token.or(files.etcd_s3_session_token),
            etcd_s3_bucket: self.etcd_s3_bucket.or(files.etcd_s3_bucket),
            etcd_s3_bucket_lookup_type: self
                .etcd_s3_bucket_lookup_type
                .or(files.etcd_s3_bucket_lookup_type),
            etcd_s3_region: self.etcd_s3_region.or(files.etcd_s3_region),
            etcd_s3_folder: self.etcd_s3_folder.or(files.etcd_s3_folder),
            etcd_s3_retention: self.etcd_s3_retention.or(files.etcd_s3_retention),
            etcd_s3_proxy: self.etcd_s3_proxy.or(files.etcd_s3_proxy),
            etcd_s3_insecure: self.etcd_s3_insecure || files.etcd_s3_insecure,
            etcd_s3_timeout: self.etcd_s3_timeout.or(files.etcd_s3_timeout),
        })
    }

    /// Credentials alone say nothing: they stand in the environment for other programs, too.
    fn is_about_a_bucket(&self) -> bool {
        let only_credentials = Self {
            etcd_s3_access_key: self.etcd_s3_access_key.clone(),
            etcd_s3_secret_key: self.etcd_s3_secret_key.clone(),
            etcd_s3_session_token: self.etcd_s3_session_token.clone(),
            ..Self::default()
        };
        *self != only_credentials
    }
}

fn key(flag: &'static str, said: Option<String>) -> Result<String, ConfigError> {
    said.filter(|key| !key.is_empty())
        .ok_or(ConfigError::Missing {
            flag,
            why: "requests to S3 are signed: give it here, in the configuration file, or in AWS_ACCESS_KEY_ID and \
                  AWS_SECRET_ACCESS_KEY",
        })
}

fn bucket(said: Option<String>) -> Result<String, ConfigError> {
    let bucket = said.filter(|bucket| !bucket.is_empty());
    let bucket = bucket.ok_or(ConfigError::Missing {
        flag: "etcd-s3-bucket",
        why: "snapshots are copied to a bucket that is there already",
    })?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = BUCKET_BYTES.contains(&bucket.len())
        && bucket.bytes().all(is_plain)
        && !bucket.contains("..")
        && bucket.starts_with(|first: char| first.is_ascii_alphanumeric());
    if is_name {
        return Ok(bucket);
    }
    let why = "it is no name of a bucket: 3 to 63 letters, digits, dots and dashes";
    Err(invalid("etcd-s3-bucket", bucket, why))
}

fn endpoint(said: Option<String>, region: &str) -> Result<String, ConfigError> {
    let said = said.filter(|endpoint| !endpoint.is_empty());
    let endpoint = said.unwrap_or_else(|| AMAZON.to_owned());
    // Amazon's first host sends everybody with a bucket elsewhere to another one.
    if endpoint == AMAZON && region != DEFAULT_REGION {
        return Ok(format!("s3.{region}{AMAZON_DOMAIN}"));
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if endpoint.bytes().all(is_plain) {
        return Ok(endpoint);
    }
    let why = "it is a host, perhaps with a port, such as minio.example:9000; --etcd-s3-insecure chooses http";
    // A URL may hold a password.
    Err(ConfigError::SecretFlag {
        flag: "etcd-s3-endpoint",
        why: why.to_owned(),
    })
}

fn lookup(said: Option<String>, endpoint: &str, bucket: &str) -> Result<BucketLookup, ConfigError> {
    // A certificate's star stands for one part of a name.
    let fits_in_host = endpoint.ends_with(AMAZON_DOMAIN) && !bucket.contains('.');
    match said.as_deref().unwrap_or("auto") {
        "auto" if fits_in_host => Ok(BucketLookup::Host),
        "auto" | "path" => Ok(BucketLookup::Path),
        "dns" => Ok(BucketLookup::Host),
        other => Err(invalid(
            "etcd-s3-bucket-lookup-type",
            other,
            "it is auto, dns or path",
        )),
    }
}

/// With a slash at its end, unless it is the bucket itself.
fn folder(said: Option<String>) -> Result<String, ConfigError> {
    let said = said.unwrap_or_default();
    let folder = said.trim_matches('/');
    if folder.is_empty() {
        return Ok(String::new());
    }
    let is_plain = |part: &str| {
        !part.is_empty() && part != "." && part != ".." && !part.contains(char::is_control)
    };
    if folder.len() <= FOLDER_BYTES_MAX && folder.split('/').all(is_plain) {
        return Ok(format!("{folder}/"));
    }
    let why = format!(
        "it is no folder in a bucket: names with / between, none of them . or .., at most {FOLDER_BYTES_MAX} bytes"
    );
    Err(invalid("etcd-s3-folder", folder, &why))
}

fn proxy(said: Option<String>) -> Result<Option<String>, ConfigError> {
    let Some(proxy) = said.filter(|proxy| !proxy.is_empty()) else {
        return Ok(None);
    };
    kube_client::Dialer::through(&proxy, "").map_err(|why| ConfigError::SecretFlag {
        flag: "etcd-s3-proxy",
        why,
    })?;
    Ok(Some(proxy))
}

fn timeout(said: Option<&str>) -> Result<Duration, ConfigError> {
    let Some(text) = said else {
        return Ok(DEFAULT_TIMEOUT);
    };
    let nanos = schema::parse_duration(text).ok();
    let span = nanos.and_then(|nanos| u64::try_from(nanos).ok());
    span.map(Duration::from_nanos)
        .filter(|span| (TIMEOUT_MIN..=TIMEOUT_MAX).contains(span))
        .ok_or_else(|| {
            let why = "it is no duration such as 5m, from 1s to 24h";
            invalid("etcd-s3-timeout", text, why)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> S3Flags {
        S3Flags {
            etcd_s3: true,
            etcd_s3_access_key: Some("AK".to_owned()),
            etcd_s3_secret_key: Some("a-secret".to_owned()),
            etcd_s3_bucket: Some("backups".to_owned()),
            ..S3Flags::default()
        }
    }

    fn config(change: impl FnOnce(&mut S3Flags)) -> Result<Option<S3Config>, String> {
        let mut said = whole();
        change(&mut said);
        S3Config::from_flags(said).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bucket_is_found_where_its_store_has_it() {
        let found = |endpoint: Option<&str>, region: Option<&str>, bucket: &str| {
            let config = config(|said| {
                said.etcd_s3_endpoint = endpoint.map(str::to_owned);
                said.etcd_s3_region = region.map(str::to_owned);
                said.etcd_s3_bucket = Some(bucket.to_owned());
            });
            let config = config.unwrap().unwrap();
            (config.endpoint, config.lookup)
        };
        let (amazon, minio) = ("s3.amazonaws.com".to_owned(), "minio:9000");
        let europe = "s3.eu-west-1.amazonaws.com".to_owned();
        assert_eq!(
            found(None, None, "one"),
            (amazon.clone(), BucketLookup::Host)
        );
        assert_eq!(found(None, None, "o.ne"), (amazon, BucketLookup::Path));
        assert_eq!(
            found(None, Some("eu-west-1"), "one"),
            (europe, BucketLookup::Host)
        );
        assert_eq!(
            found(Some(minio), Some("x"), "one"),
            (minio.to_owned(), BucketLookup::Path)
        );
        let config = config(|said| said.etcd_s3_folder = Some("/a/b/".to_owned()));
        let config = config.unwrap().unwrap();
        assert_eq!((config.folder.as_str(), config.keep()), ("a/b/", Some(5)));
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn what_is_wrong_is_refused_and_no_key_is_shown() {
        type Change = fn(&mut S3Flags);
        let wrong: [(Change, &str); 10] = [
            (|said| said.etcd_s3 = false, "--etcd-s3 is missing"),
            (
                |said| said.etcd_s3_access_key = None,
                "--etcd-s3-access-key is missing",
            ),
            (
                |said| said.etcd_s3_secret_key = Some(String::new()),
                "--etcd-s3-secret-key is missing",
            ),
            (
                |said| said.etcd_s3_bucket = Some("a/../b".into()),
                "no name of a bucket",
            ),
            (
                |said| said.etcd_s3_endpoint = Some("https://u:secret@h".into()),
                "--etcd-s3-insecure chooses",
            ),
            (
                |said| said.etcd_s3_bucket_lookup_type = Some("x".into()),
                "auto, dns or path",
            ),
            (
                |said| said.etcd_s3_folder = Some("a/../b".into()),
                "no folder in a bucket",
            ),
            (
                |said| said.etcd_s3_region = Some("a b".into()),
                "no name of a region",
            ),
            (
                |said| said.etcd_s3_timeout = Some("5".into()),
                "no duration",
            ),
            (
                |said| said.etcd_s3_proxy = Some("socks5://u:secret@h".into()),
                "--etcd-s3-proxy",
            ),
        ];
        for (change, told) in wrong {
            let error = config(change).expect_err(told);
            assert!(
                error.contains(told) && !error.contains("secret@"),
                "{error}"
            );
            assert!(!error.contains("a-secret"), "{error}");
        }
        let keys = |said: &mut S3Flags| {
            *said = S3Flags {
                etcd_s3: false,
                etcd_s3_bucket: None,
                ..said.clone()
            };
        };
        assert_eq!(config(keys), Ok(None));
    }

    #[test]
    fn files_say_what_was_not_typed() {
        let values = [
            ("etcd-s3", "true"),
            ("etcd-s3-bucket", "files"),
            ("etcd-s3-region", "eu"),
        ];
        let mut values: BTreeMap<String, Vec<String>> = values
            .map(|(name, value)| (name.to_owned(), vec![value.to_owned()]))
            .into();
        let typed = S3Flags {
            etcd_s3_bucket: Some("typed".to_owned()),
            ..S3Flags::default()
        };
        let said = typed.clone().or_in_files(&values).unwrap();
        assert!(said.etcd_s3);
        assert_eq!(said.etcd_s3_bucket.as_deref(), Some("typed"));
        assert_eq!(said.etcd_s3_region.as_deref(), Some("eu"));
        values.insert("etcd-s3-retention".to_owned(), vec!["many".to_owned()]);
        assert!(typed.or_in_files(&values).is_err());
    }
}
