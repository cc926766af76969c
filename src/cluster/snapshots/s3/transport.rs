//! Requests to a bucket and their answers: what goes wrong, what is tried again, and how much is read.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use config::S3Config;
use reqwest::header::{CONTENT_LENGTH, ETAG, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Method, Proxy, Response, StatusCode, Url};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use crate::error::{Error, Result};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);
/// The times that a request is sent while the other side, or the way there, fails.
const TRIES_MAX: u32 = 4;
/// Before the second try; twice as long before each one after it.
const PAUSE: Duration = Duration::from_secs(1);
/// An error is shorter.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// Codes of S3 are words.
const CODE_BYTES_MAX: usize = 64;
const TAG_BYTES_MAX: usize = 256;
const READ_BYTES: usize = 256 << 10;

/// What a request carries, or asks for.
pub(super) enum Content {
    Nothing,
    Text(String),
    /// So many bytes of a file.
    Part {
        file: PathBuf,
        from: u64,
        bytes: u64,
    },
    /// No more than the first bytes of an object.
    First(usize),
}

impl Content {
    pub(super) fn part(file: &Path, from: u64, bytes: u64) -> Self {
        Self::Part {
            file: file.to_owned(),
            from,
            bytes,
        }
    }
}

pub(super) struct Transport {
    client: Client,
    place: String,
}

/// Why one try failed.
struct Failure {
    why: String,
    may_pass: bool,
}

impl Transport {
    pub(super) fn new(config: &S3Config) -> Result<Self> {
        static PROVIDER: Once = Once::new();
        // Another part of the process may have installed the same provider already.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let place = config.to_string();
        let failed = |why: String| Error::Bucket {
            doing: "use",
            place: place.clone(),
            why,
        };
        let mut builder = Client::builder()
            // A signature is for one host, and what is asked for is there.
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIME_MAX)
            .timeout(config.timeout)
            .tls_danger_accept_invalid_certs(config.believes_anybody);
        if let Some(path) = &config.authority_file {
            let pem = std::fs::read(path)
                .map_err(Error::file("read the store's authorities in", path))?;
            let authorities = Certificate::from_pem_bundle(&pem)
                .map_err(|_error| failed(format!("{} has no certificate", path.display())))?;
            builder = builder.tls_certs_only(authorities);
        }
        if let Some(proxy) = &config.proxy {
            let proxy = Proxy::all(proxy).map_err(|error| failed(without_url(error)))?;
            builder = builder.no_proxy().proxy(proxy);
        }
        let client = builder
            .build()
            .map_err(|error| failed(without_url(error)))?;
        Ok(Self { client, place })
    }

    pub(super) fn error(&self, doing: &'static str, why: String) -> Error {
        Error::Bucket {
            doing,
            place: self.place.clone(),
            why,
        }
    }

    /// Sends it, again if it may help, and returns an answer of success.
    pub(super) async fn send(
        &self,
        doing: &'static str,
        method: Method,
        url: Url,
        content: &Content,
    ) -> Result<Response> {
        let mut tried = 1;
        loop {
            let failure = match self.once(method.clone(), url.clone(), content).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if !failure.may_pass || tried == TRIES_MAX {
                return Err(self.error(doing, failure.why));
            }
            tracing::debug!(why = failure.why, doing, "a request to S3 is tried again");
            env::sleep(PAUSE * 2_u32.pow(tried - 1)).await;
            tried += 1;
        }
    }

    async fn once(
        &self,
        method: Method,
        url: Url,
        content: &Content,
    ) -> std::result::Result<Response, Failure> {
        let request = self.client.request(method, url);
        let request = match content {
            Content::Nothing => request,
            Content::Text(text) => request.body(text.clone()),
            Content::First(bytes) => request.header(RANGE, format!("bytes=0-{}", bytes - 1)),
            Content::Part { file, from, bytes } => {
                let part = part(file, *from, *bytes).await.map_err(|error| Failure {
                    why: format!("read {}: {error}", file.display()),
                    may_pass: false,
                })?;
                request.header(CONTENT_LENGTH, *bytes).body(part)
            }
        };
        let answer = request.send().await.map_err(|error| Failure {
            may_pass: !error.is_builder(),
            why: without_url(error),
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let may_pass = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        if status.is_redirection() {
            let why = format!(
                "it answers {status}, with another place: --etcd-s3-endpoint or --etcd-s3-region are not those of the bucket"
            );
            return Err(Failure { why, may_pass });
        }
        let text = read(answer, ERROR_BYTES_MAX).await.unwrap_or_default();
        let reason = reason(&String::from_utf8_lossy(&text));
        Err(Failure {
            why: format!("it answers {status}, {reason}"),
            may_pass,
        })
    }

    /// A whole answer that may not be longer.
    pub(super) async fn text(
        &self,
        doing: &'static str,
        answer: Response,
        bytes_max: usize,
    ) -> Result<String> {
        let read = read(answer, bytes_max + 1).await;
        let bytes = read.map_err(|why| self.error(doing, why))?;
        if bytes.len() > bytes_max {
            let why = format!("its answer is longer than {bytes_max} bytes");
            return Err(self.error(doing, why));
        }
        String::from_utf8(bytes)
            .map_err(|_error| self.error(doing, "its answer is no text".to_owned()))
    }

    /// The first bytes of an answer, however long it is.
    pub(super) async fn first(
        &self,
        doing: &'static str,
        answer: Response,
        bytes_max: usize,
    ) -> Result<Vec<u8>> {
        let read = read(answer, bytes_max).await;
        read.map_err(|why| self.error(doing, why))
    }

    /// Writes an answer to a new file, if it is as long as it says and not longer than it may be.
    pub(super) async fn save(
        &self,
        doing: &'static str,
        mut answer: Response,
        target: &Path,
        bytes_max: u64,
    ) -> Result<()> {
        let said = length(&answer)
            .filter(|bytes| *bytes <= bytes_max)
            .ok_or_else(|| {
                let why = format!("its answer does not say a length of at most {bytes_max} bytes");
                self.error(doing, why)
            })?;
        let written = Error::file("write", target);
        let file = tokio::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(target)
            .await;
        let mut file = file.map_err(&written)?;
        let mut bytes = 0;
        loop {
            let chunk = answer.chunk().await.map_err(|error| {
                let why = format!("after {bytes} of {said} bytes: {}", without_url(error));
                self.error(doing, why)
            })?;
            let Some(chunk) = chunk else { break };
            bytes += chunk.len() as u64;
            file.write_all(&chunk).await.map_err(&written)?;
        }
        file.flush().await.map_err(&written)?;
        if bytes == said {
            return Ok(());
        }
        Err(self.error(doing, format!("it said {said} bytes, and sent {bytes}")))
    }
}

async fn part(file: &Path, from: u64, bytes: u64) -> std::io::Result<reqwest::Body> {
    let mut file = tokio::fs::File::open(file).await?;
    file.seek(std::io::SeekFrom::Start(from)).await?;
    let stream = ReaderStream::with_capacity(file.take(bytes), READ_BYTES);
    Ok(reqwest::Body::wrap_stream(stream))
}

/// As much as `bytes_max`; what comes after it is not read.
async fn read(mut answer: Response, bytes_max: usize) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while bytes.len() < bytes_max {
        match answer.chunk().await.map_err(without_url)? {
            Some(chunk) => bytes.extend_from_slice(&chunk),
            None => break,
        }
    }
    bytes.truncate(bytes_max);
    Ok(bytes)
}

pub(super) fn length(answer: &Response) -> Option<u64> {
    let said = answer.headers().get(CONTENT_LENGTH)?;
    said.to_str().ok()?.parse().ok()
}

pub(super) fn tag(answer: &Response) -> Option<String> {
    let tag = answer.headers().get(ETAG)?.to_str().ok()?;
    (1..=TAG_BYTES_MAX)
        .contains(&tag.len())
        .then(|| tag.to_owned())
}

/// What an error of S3 means. Its own text is not passed on: keys and signatures stand in it.
pub(super) fn reason(text: &str) -> String {
    let code = text
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map(|(code, _)| code)
        .filter(|code| {
            code.len() <= CODE_BYTES_MAX && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
    let Some(code) = code else {
        return "and gives no reason".to_owned();
    };
    let hint = match code {
        "AccessDenied" => ": the key may not do that in the bucket",
        "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            ": --etcd-s3-region is not that of the bucket"
        }
        "InvalidAccessKeyId" => ": it does not know --etcd-s3-access-key",
        "NoSuchBucket" => ": there is no such bucket; make it first",
        "NoSuchKey" => {
            ": there is no such snapshot; `combo snapshot list` lists those that there are"
        }
        "RequestTimeTooSkewed" => ": the clock of this machine is wrong",
        "SignatureDoesNotMatch" => ": --etcd-s3-secret-key does not belong to the access key",
        "ExpiredToken" | "InvalidToken" => ": --etcd-s3-session-token does not hold any more",
        _ => "",
    };
    format!("{code}{hint}")
}

/// Signatures stand in URLs.
fn without_url(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
