//! Copies of snapshots in a bucket of S3, or of what speaks as it does.
//!
//! The other side is not believed: what it answers has limits, and a snapshot is only used when its own checksum says that
//! it is whole. URLs are signed for one request each, with the body left out of the signature: TLS protects it on its way.

mod transport;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::{BucketLookup, S3Config};
use env::Clock;
use reqwest::{Method, Url};
use rusty_s3::actions::{CreateMultipartUpload, ListObjectsV2, S3Action};
use rusty_s3::{Credentials, UrlStyle};

use crate::container::{self, HEAD_BYTES_MAX};
use crate::error::{Error, Result};
use crate::folder::{Listed, SUFFIX, surplus};
use transport::{Content, Transport};

/// A larger snapshot goes in parts: what breaks off is sent again from its part on, and no proxy on the way has to take
/// more than this at once.
const PART_BYTES: u64 = 64 << 20;
/// A bucket that sends more is not read to its end.
const SNAPSHOT_BYTES_MAX: u64 = 64 << 30;
/// A page names a thousand objects, with some hundred bytes for each.
const PAGE_BYTES_MAX: usize = 4 << 20;
const PAGES_MAX: usize = 100;
/// How long a signature holds: a request begins at once, and is tried again for some seconds.
const SIGNATURE_LIFE: Duration = Duration::from_mins(15);

/// The folder in a bucket that holds copies.
pub struct Bucket {
    transport: Transport,
    bucket: rusty_s3::Bucket,
    credentials: Credentials,
    /// Empty, or with a slash at its end.
    folder: String,
    clock: Arc<dyn Clock>,
}

impl Bucket {
    /// Asks nobody yet.
    pub fn open(config: &S3Config, clock: Arc<dyn Clock>) -> Result<Self> {
        let failed = |why: String| Error::Bucket {
            doing: "use",
            place: config.to_string(),
            why,
        };
        let scheme = if config.is_plain { "http" } else { "https" };
        let endpoint = Url::parse(&format!("{scheme}://{}", config.endpoint))
            .map_err(|error| failed(format!("its host: {error}")))?;
        let style = match config.lookup {
            BucketLookup::Host => UrlStyle::VirtualHost,
            BucketLookup::Path => UrlStyle::Path,
        };
        let (name, region) = (config.bucket.clone(), config.region.clone());
        let bucket = rusty_s3::Bucket::new(endpoint, style, name, region)
            .map_err(|error| failed(format!("its host: {error}")))?;
        let (access, secret) = (config.access_key.as_str(), config.secret_key.as_str());
        let credentials = match &config.session_token {
            Some(token) => Credentials::new_with_token(access, secret, token),
            None => Credentials::new(access, secret),
        };
        Ok(Self {
            transport: Transport::new(config)?,
            bucket,
            credentials,
            folder: config.folder.clone(),
            clock,
        })
    }

    /// Copies a snapshot there; tells where it is.
    pub async fn upload(&self, snapshot: &Path) -> Result<String> {
        let name = snapshot.file_name().unwrap_or_default().to_string_lossy();
        let key = self.key(&name)?;
        let failed = Error::file("read the snapshot", snapshot);
        let bytes = std::fs::metadata(snapshot).map_err(failed)?.len();
        if bytes <= PART_BYTES {
            let put = self.bucket.put_object(Some(&self.credentials), &key);
            let whole = Content::part(snapshot, 0, bytes);
            self.send("copy a snapshot to", Method::PUT, &put, &whole)
                .await?;
        } else {
            self.upload_parts(&key, snapshot, bytes).await?;
        }
        let head = self.bucket.head_object(Some(&self.credentials), &key);
        let answer = self
            .send("look at", Method::HEAD, &head, &Content::Nothing)
            .await?;
        let there = transport::length(&answer);
        if there == Some(bytes) {
            return Ok(format!("s3://{}/{key}", self.bucket.name()));
        }
        let there = there.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
        let why = format!("{key} has {there} bytes there, and {bytes} here");
        Err(self.transport.error("copy a snapshot to", why))
    }

    async fn upload_parts(&self, key: &str, snapshot: &Path, bytes: u64) -> Result<()> {
        let doing = "begin a copy in";
        let create = self
            .bucket
            .create_multipart_upload(Some(&self.credentials), key);
        let answer = self
            .send(doing, Method::POST, &create, &Content::Nothing)
            .await?;
        let answer = self.transport.text(doing, answer, PAGE_BYTES_MAX).await?;
        let created = CreateMultipartUpload::parse_response(&answer).map_err(|_error| {
            self.transport
                .error(doing, "its answer is no XML of S3".into())
        })?;
        let upload = created.upload_id();
        let sent = self.send_parts((key, upload), snapshot, bytes).await;
        if sent.is_err() {
            // Parts that are left are paid for.
            let abort = self
                .bucket
                .abort_multipart_upload(Some(&self.credentials), key, upload);
            let doing = "take back a copy in";
            let aborted = self.send(doing, Method::DELETE, &abort, &Content::Nothing);
            if let Err(error) = aborted.await {
                tracing::warn!(%error, "parts of a snapshot stay in the bucket");
            }
        }
        sent
    }

    async fn send_parts(
        &self,
        (key, upload): (&str, &str),
        snapshot: &Path,
        bytes: u64,
    ) -> Result<()> {
        let doing = "copy a part of a snapshot to";
        let mut tags = Vec::new();
        for (number, from) in (1..=u16::MAX).zip((0..bytes).step_by(PART_BYTES as usize)) {
            let part = Content::part(snapshot, from, PART_BYTES.min(bytes - from));
            let put = self
                .bucket
                .upload_part(Some(&self.credentials), key, number, upload);
            let answer = self.send(doing, Method::PUT, &put, &part).await?;
            let tag = transport::tag(&answer);
            tags.push(tag.ok_or_else(|| {
                self.transport
                    .error(doing, "its answer has no ETag of a usual length".to_owned())
            })?);
        }
        let doing = "end a copy in";
        let complete = || {
            let tags = tags.iter().map(String::as_str);
            self.bucket
                .complete_multipart_upload(Some(&self.credentials), key, upload, tags)
        };
        let list = Content::Text(complete().body());
        let answer = self.send(doing, Method::POST, &complete(), &list).await?;
        let answer = self.transport.text(doing, answer, PAGE_BYTES_MAX).await?;
        // An error can come after the status. What is no error is judged by the length of what is there.
        match answer.contains("<Error") {
            false => Ok(()),
            true => Err(self.transport.error(doing, transport::reason(&answer))),
        }
    }

    /// The snapshots there whose names begin so, the newest first; those that cannot be read come last.
    pub async fn list(&self, beginning: &str) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for (name, bytes) in self.names(beginning).await? {
            listed.push(Listed {
                location: format!("s3://{}/{}{name}", self.bucket.name(), self.folder),
                header: self.header(&name).await?,
                name,
                bytes,
            });
        }
        Listed::sort(&mut listed);
        Ok(listed)
    }

    /// Names and sizes of what looks like a snapshot.
    async fn names(&self, beginning: &str) -> Result<Vec<(String, u64)>> {
        let doing = "list";
        let mut names = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut page = self.bucket.list_objects_v2(Some(&self.credentials));
            page.with_prefix(format!("{}{beginning}", self.folder));
            page.with_delimiter("/");
            if let Some(token) = token {
                page.with_continuation_token(token);
            }
            let answer = self
                .send(doing, Method::GET, &page, &Content::Nothing)
                .await?;
            let answer = self.transport.text(doing, answer, PAGE_BYTES_MAX).await?;
            let page = ListObjectsV2::parse_response(&answer)
                .map_err(|_error| self.transport.error(doing, "its answer is no list".into()))?;
            for object in page.contents {
                let Some(name) = object.key.strip_prefix(&self.folder) else {
                    let why = "it lists what was not asked for: a key outside of the folder";
                    return Err(self.transport.error(doing, why.to_owned()));
                };
                if is_name(name) {
                    names.push((name.to_owned(), object.size.unwrap_or(0)));
                }
            }
            token = page.next_continuation_token;
            if token.is_none() {
                return Ok(names);
            }
        }
        let why = format!(
            "it has more than {PAGES_MAX} pages of objects: give snapshots a folder of their own"
        );
        Err(self.transport.error(doing, why))
    }

    /// What a copy says of itself.
    async fn header(&self, name: &str) -> Result<Result<container::Header>> {
        let doing = "read a snapshot in";
        let key = self.key(name)?;
        let get = self.bucket.get_object(Some(&self.credentials), &key);
        let first = Content::First(HEAD_BYTES_MAX);
        let answer = self.send(doing, Method::GET, &get, &first).await?;
        let head = self.transport.first(doing, answer, HEAD_BYTES_MAX).await?;
        let place = PathBuf::from(&key);
        Ok(container::header_of(&mut head.as_slice(), &place).map(|(header, _)| header))
    }

    /// Removes all but the newest `keep` of a series, of each node by itself; tells which.
    pub async fn prune(&self, series: &str, keep: usize) -> Result<Vec<String>> {
        let listed = self.list(&format!("{series}-")).await?;
        let names: Vec<String> = surplus(&listed, series, keep)
            .map(|listed| listed.name.clone())
            .collect();
        for name in &names {
            self.remove(name).await?;
        }
        Ok(names)
    }

    /// Removes one by its name; tells whether it was there.
    pub async fn delete(&self, name: &str) -> Result<bool> {
        let names = self.names(name).await?;
        let is_there = names.iter().any(|(found, _)| found == name);
        if is_there {
            self.remove(name).await?;
        }
        Ok(is_there)
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let key = self.key(name)?;
        let delete = self.bucket.delete_object(Some(&self.credentials), &key);
        self.send(
            "remove a snapshot in",
            Method::DELETE,
            &delete,
            &Content::Nothing,
        )
        .await
        .map(drop)
    }

    /// Writes a copy to a new file. Nothing of it is checked yet but its length.
    pub async fn download(&self, name: &str, target: &Path) -> Result<()> {
        let doing = "read a snapshot in";
        let key = self.key(name)?;
        let get = self.bucket.get_object(Some(&self.credentials), &key);
        let answer = self
            .send(doing, Method::GET, &get, &Content::Nothing)
            .await?;
        self.transport
            .save(doing, answer, target, SNAPSHOT_BYTES_MAX)
            .await
    }

    fn key(&self, name: &str) -> Result<String> {
        if is_name(name) {
            return Ok(format!("{}{name}", self.folder));
        }
        let why = format!(
            "{name:?} is no name of a snapshot: those end in {SUFFIX}, and have no / in them"
        );
        Err(self.transport.error("find a snapshot in", why))
    }

    async fn send<'a>(
        &self,
        doing: &'static str,
        method: Method,
        action: &impl S3Action<'a>,
        content: &Content,
    ) -> Result<reqwest::Response> {
        let now = self.clock.now().to_jiff();
        let url = action.sign_with_time(SIGNATURE_LIFE, &now);
        self.transport.send(doing, method, url, content).await
    }
}

/// Whether an object can be a snapshot of ours; no such name leads anywhere else in a URL or a folder.
fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.ends_with(SUFFIX) && !name.starts_with('.') && name.bytes().all(is_plain)
}
