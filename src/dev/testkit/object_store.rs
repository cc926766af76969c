//! A store of objects for tests: S3's API as far as snapshots need it, on a port of loopback.
//!
//! Every request's signature is computed anew, as Amazon describes it; what is not signed, or signed wrongly, is refused.

mod request;
mod signature;

use std::collections::BTreeMap;
use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use request::{Request, encoded};

/// So few that tests see more than one page.
const PAGE_OBJECTS: usize = 2;

/// Answers instead of the store, with a whole HTTP answer, where it returns one.
pub type Mischief = Box<dyn Fn(&str, &str) -> Option<Vec<u8>> + Send>;

pub struct ObjectStore {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    /// Method and target of each request that was signed well.
    requests: Vec<String>,
    mischief: Option<Mischief>,
}

impl ObjectStore {
    pub const ACCESS_KEY: &str = "AKTESTTESTTEST";
    pub const SECRET_KEY: &str = "a-secret-key/that+nobody=shows";
    pub const SESSION_TOKEN: &str = "a-session-token";
    pub const BUCKET: &str = "backups";

    /// It ends with the process.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { address, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The keys in the bucket.
    pub fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    pub fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.state().objects.get(key).cloned()
    }

    pub fn put(&self, key: &str, content: Vec<u8>) {
        self.state().objects.insert(key.to_owned(), content);
    }

    /// Copies that were begun and not ended.
    pub fn uploads(&self) -> usize {
        self.state().uploads.len()
    }

    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    /// Is given method and target.
    pub fn misbehave(&self, how: impl Fn(&str, &str) -> Option<Vec<u8>> + Send + 'static) {
        self.state().mischief = Some(Box::new(how));
    }

    pub fn behave(&self) {
        self.state().mischief = None;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no thread of it panics")
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader) {
        let mut state = lock(state);
        let mischief = state.mischief.as_ref();
        let answer = match mischief.and_then(|how| how(&request.method, &request.target)) {
            Some(answer) => answer,
            None => state.answer(&request),
        };
        drop(state);
        if (&*stream).write_all(&answer).is_err() {
            return;
        }
    }
}

impl State {
    fn answer(&mut self, request: &Request) -> Vec<u8> {
        if let Err(code) = signature::check(request) {
            return error(403, code);
        }
        self.requests
            .push(format!("{} {}", request.method, request.path));
        let below = request.path.strip_prefix('/').unwrap_or_default();
        let (bucket, key) = below.split_once('/').unwrap_or((below, ""));
        if bucket != ObjectStore::BUCKET {
            return error(404, "NoSuchBucket");
        }
        let upload = request.query.get("uploadId");
        match (request.method.as_str(), upload) {
            ("GET", None) if key.is_empty() => self.list(request),
            ("GET" | "HEAD", None) => self.get(request, key),
            ("PUT", None) => {
                self.objects.insert(key.to_owned(), request.body.clone());
                ok("ETag: \"whole\"\r\n", b"")
            }
            ("DELETE", None) => {
                self.objects.remove(key);
                answer("204 No Content", "", b"")
            }
            ("POST", None) if request.query.contains_key("uploads") => {
                let id = format!("upload-{}", self.requests.len());
                self.uploads.insert(id.clone(), BTreeMap::new());
                let text = format!("<UploadId>{id}</UploadId>");
                xml("InitiateMultipartUploadResult", &text)
            }
            (method, Some(upload)) => self.of_upload(method, request, key, upload),
            _ => error(405, "MethodNotAllowed"),
        }
    }

    fn of_upload(&mut self, method: &str, request: &Request, key: &str, upload: &str) -> Vec<u8> {
        let Some(parts) = self.uploads.get_mut(upload) else {
            return error(404, "NoSuchUpload");
        };
        match method {
            "PUT" => {
                let number = request.query.get("partNumber");
                let number: u32 = number.and_then(|text| text.parse().ok()).unwrap_or(0);
                parts.insert(number, request.body.clone());
                ok(&format!("ETag: \"part-{number}\"\r\n"), b"")
            }
            "DELETE" => {
                self.uploads.remove(upload);
                answer("204 No Content", "", b"")
            }
            _ => {
                let said = String::from_utf8_lossy(&request.body);
                let is_named = |number: &u32| {
                    let tag = format!("part-{number}");
                    said.contains(&tag) && said.contains(&format!("<PartNumber>{number}<"))
                };
                if !parts.keys().all(is_named) {
                    return error(400, "InvalidPart");
                }
                let parts = self.uploads.remove(upload).unwrap_or_default();
                let whole = parts.into_values().flatten().collect();
                self.objects.insert(key.to_owned(), whole);
                xml("CompleteMultipartUploadResult", "<ETag>\"whole\"</ETag>")
            }
        }
    }

    fn get(&self, request: &Request, key: &str) -> Vec<u8> {
        let Some(object) = self.objects.get(key) else {
            return error(404, "NoSuchKey");
        };
        if request.method == "HEAD" {
            let length = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                object.len()
            );
            return length.into_bytes();
        }
        let last = request
            .headers
            .get("range")
            .and_then(|range| range.strip_prefix("bytes=0-")?.parse::<usize>().ok());
        match last {
            Some(last) => answer(
                "206 Partial Content",
                "",
                &object[..object.len().min(last + 1)],
            ),
            None => ok("", object),
        }
    }

    fn list(&self, request: &Request) -> Vec<u8> {
        let said = |name: &str| request.query.get(name).cloned().unwrap_or_default();
        let (prefix, after) = (said("prefix"), said("continuation-token"));
        let after = if after.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(after)
        };
        let delimiter = said("delimiter");
        let is_listed = |key: &str| {
            let below = key.strip_prefix(&prefix);
            below.is_some_and(|below| delimiter.is_empty() || !below.contains(&delimiter))
        };
        let found = self.objects.range((after, Bound::Unbounded));
        let found: Vec<_> = found.filter(|(key, _)| is_listed(key)).collect();
        let mut text = format!("<IsTruncated>{}</IsTruncated>", found.len() > PAGE_OBJECTS);
        for (at, (key, object)) in found.iter().take(PAGE_OBJECTS).enumerate() {
            let (shown, bytes) = (encoded(key), object.len());
            text.push_str(&format!(
                "<Contents><Key>{shown}</Key><Size>{bytes}</Size></Contents>"
            ));
            if at + 1 == PAGE_OBJECTS && found.len() > PAGE_OBJECTS {
                let token = format!("<NextContinuationToken>{key}</NextContinuationToken>");
                text.push_str(&token);
            }
        }
        text.push_str("<EncodingType>url</EncodingType>");
        xml("ListBucketResult", &text)
    }
}

/// An answer of S3's own form.
pub fn xml(root: &str, content: &str) -> Vec<u8> {
    let space = "http://s3.amazonaws.com/doc/2006-03-01/";
    let text = format!("<?xml version=\"1.0\"?><{root} xmlns=\"{space}\">{content}</{root}>");
    ok("", text.as_bytes())
}

/// As S3 says it, with the key and a signature in the text.
pub fn error(status: u16, code: &str) -> Vec<u8> {
    let key = ObjectStore::ACCESS_KEY;
    let text = format!(
        "<Error><Code>{code}</Code><Message>no</Message><AWSAccessKeyId>{key}</AWSAccessKeyId></Error>"
    );
    answer(&format!("{status} Refused"), "", text.as_bytes())
}

fn ok(headers: &str, body: &[u8]) -> Vec<u8> {
    answer("200 OK", headers, body)
}

pub fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}
