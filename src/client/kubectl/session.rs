//! What every command works with: the server, the namespace, the catalogue of resources, and where output goes.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use env::Clock;
use kube_client::{Client, ClientError, HttpTransport, Method, Request, Response};
use serde_json::Value;

use crate::catalogue::Catalogue;
use crate::error::{Error, Result};

/// The field manager of writes other than `apply`, and of `apply` unless told otherwise.
pub(crate) const FIELD_MANAGER: &str = "kubectl";

pub(crate) struct Session {
    pub(crate) client: Client,
    /// Long answers and upgraded connections need a connection of their own; a client in the same process has none.
    pub(crate) http: Option<HttpTransport>,
    pub(crate) namespace: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) out: Box<dyn Write + Send>,
    pub(crate) err: Box<dyn Write + Send>,
    catalogue: Option<Arc<Catalogue>>,
}

impl Session {
    pub(crate) fn new(client: &Client, namespace: &str, clock: Arc<dyn Clock>) -> Self {
        Self {
            client: client.with_field_manager(FIELD_MANAGER),
            http: None,
            namespace: namespace.to_owned(),
            clock,
            out: Box::new(std::io::stdout()),
            err: Box::new(std::io::stderr()),
            catalogue: None,
        }
    }

    /// What the server serves; asked for once.
    pub(crate) async fn catalogue(&mut self) -> Result<Arc<Catalogue>> {
        if let Some(catalogue) = &self.catalogue {
            return Ok(Arc::clone(catalogue));
        }
        let catalogue = Arc::new(Catalogue::discover(&self.client).await?);
        self.catalogue = Some(Arc::clone(&catalogue));
        Ok(catalogue)
    }

    pub(crate) fn http(&self) -> Result<HttpTransport> {
        self.http
            .clone()
            .ok_or_else(|| Error::usage("this needs a connection to a server"))
    }

    pub(crate) fn say(&mut self, line: impl AsRef<str>) -> Result<()> {
        writeln!(self.out, "{}", line.as_ref())?;
        Ok(self.out.flush()?)
    }

    pub(crate) fn print(&mut self, text: impl AsRef<[u8]>) -> Result<()> {
        self.out.write_all(text.as_ref())?;
        Ok(self.out.flush()?)
    }

    pub(crate) fn warn(&mut self, line: impl AsRef<str>) {
        // Who closed standard error does not want to hear this.
        let _unheard = writeln!(self.err, "{}", line.as_ref());
    }

    /// One call; warnings of the server go to standard error, a failure is the error.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: String,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<Value, ClientError> {
        let request = Request {
            method,
            path,
            content_type,
            body: Bytes::from(body),
        };
        let answer = self.client.transport().call(request).await?;
        self.read(&answer)
    }

    /// `GET` in one of the forms of `accept`.
    pub(crate) async fn get(
        &mut self,
        path: String,
        accept: &'static str,
    ) -> Result<Value, ClientError> {
        let request = Request {
            method: Method::Get,
            path,
            content_type: "",
            body: Bytes::new(),
        };
        let answer = self
            .client
            .transport()
            .call_accepting(request, accept)
            .await?;
        self.read(&answer)
    }

    fn read(&mut self, answer: &Response) -> Result<Value, ClientError> {
        for warning in &answer.warnings {
            self.warn(format!("Warning: {warning}"));
        }
        kube_client::answer(answer)
    }
}

/// The plain form of answers.
pub(crate) const PLAIN: &str = "application/json";
