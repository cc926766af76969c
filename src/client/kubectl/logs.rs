//! `logs`: what containers wrote, of one pod or of many.

use apimachinery::Object;
use bytes::Bytes;
use clap::Args;
use http_body_util::BodyExt;
use kube_client::{HttpTransport, Method, Request, object_path, with_query};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::session::Session;
use crate::times;
use crate::workloads::{container, containers, pod_behind, pods, pods_behind, pods_of};

/// Lines read ahead while several logs are followed.
const LINES_AHEAD: usize = 64;
/// The longest line that is kept together; a longer one is cut.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Lines of each log where a selector chooses the pods.
const TAIL_OF_MANY: i64 = 10;

#[derive(Args)]
pub(crate) struct LogsCommand {
    /// POD, or TYPE/NAME of what made it
    #[arg(value_name = "POD")]
    pod: Option<String>,
    /// The container
    #[arg(value_name = "CONTAINER")]
    container_argument: Option<String>,
    /// The container
    #[arg(long, short = 'c', value_name = "NAME")]
    container: Option<String>,
    /// Of every container
    #[arg(long)]
    all_containers: bool,
    /// Of every pod of the workload
    #[arg(long)]
    all_pods: bool,
    /// Of pods with these labels
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    /// Go on with what is written from now on
    #[arg(long, short = 'f')]
    follow: bool,
    /// Of the container's instance before this one
    #[arg(long, short = 'p')]
    previous: bool,
    /// Not older than this: 5s, 2m, 3h
    #[arg(long, value_name = "DURATION")]
    since: Option<String>,
    /// Not older than this moment (RFC 3339)
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "TIME"
    )]
    since_time: String,
    /// The last lines only; -1 shows all
    #[arg(long, allow_hyphen_values = true, value_name = "LINES")]
    tail: Option<i64>,
    /// With the time of each line
    #[arg(long)]
    timestamps: bool,
    /// At most so many bytes
    #[arg(long, value_name = "BYTES")]
    limit_bytes: Option<u64>,
    /// With pod and container before each line
    #[arg(long)]
    prefix: bool,
    /// A log that cannot be read does not end the others
    #[arg(long)]
    ignore_errors: bool,
    /// Logs followed at a time
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    max_log_requests: usize,
}

/// One log.
#[derive(Clone, Debug)]
struct Source {
    pod: String,
    container: String,
    path: String,
}

impl LogsCommand {
    pub(crate) async fn run(self, session: &mut Session) -> Result<()> {
        let sources = self.sources(session).await?;
        if self.follow && sources.len() > 1 {
            return self.follow_all(sources, session).await;
        }
        let mut errors = Vec::new();
        for source in sources {
            if let Err(error) = self.copy(&source, session).await {
                if matches!(error, Error::Output(_)) {
                    return Err(error);
                }
                errors.push(error);
                if !self.ignore_errors {
                    break;
                }
            }
        }
        if self.ignore_errors {
            for error in &errors {
                session.warn(error.to_string());
            }
            return Ok(());
        }
        Error::all(errors)
    }

    async fn sources(&self, session: &mut Session) -> Result<Vec<Source>> {
        if self.since.is_some() && !self.since_time.is_empty() {
            return Err(Error::usage(
                "at most one of `sinceTime` or `sinceSeconds` may be specified",
            ));
        }
        if self.container.is_some() && self.container_argument.is_some() {
            return Err(Error::usage(
                "only one of -c or an inline [CONTAINER] arg is allowed",
            ));
        }
        let found = match (&self.pod, &self.selector) {
            (Some(_), Some(_)) => {
                return Err(Error::usage(
                    "only a selector (-l) or a POD name is allowed",
                ));
            }
            (None, Some(selector)) => {
                let namespace = session.namespace.clone();
                let found = pods_of(selector, &namespace, session).await?;
                if found.is_empty() {
                    session.warn(format!("No resources found in {namespace} namespace."));
                }
                found
            }
            (Some(pod), None) if self.all_pods => pods_behind(pod, session).await?,
            (Some(pod), None) => vec![
                pod_behind(pod, session)
                    .await
                    .map_err(|error| missing(error, session))?,
            ],
            (None, None) => {
                return Err(Error::usage(
                    "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command",
                ));
            }
        };
        let mut sources = Vec::new();
        for pod in &found {
            for container in self.containers(pod, session)? {
                let path = self.path(pod, &container)?;
                sources.push(Source {
                    pod: pod.name().to_owned(),
                    container,
                    path,
                });
            }
        }
        Ok(sources)
    }

    fn containers(&self, pod: &Object, session: &mut Session) -> Result<Vec<String>> {
        if self.all_containers {
            return Ok(containers(
                pod,
                &["initContainers", "containers", "ephemeralContainers"],
            ));
        }
        let named = self
            .container
            .as_deref()
            .or(self.container_argument.as_deref());
        Ok(vec![container(pod, named, session)?])
    }

    fn path(&self, pod: &Object, container: &str) -> Result<String> {
        let flag = |on: bool| if on { "true" } else { "" };
        let tail = match self.tail {
            None if self.selector.is_some() => TAIL_OF_MANY,
            None => -1,
            Some(lines) => lines,
        };
        if tail < -1 {
            return Err(Error::usage("--tail must be greater than or equal to -1"));
        }
        let since = match &self.since {
            Some(text) => times::parse_duration(text)?.as_secs().max(1).to_string(),
            None => String::new(),
        };
        let path = object_path(&pods(), Some(pod.namespace()), pod.name(), "log");
        let path = with_query(path, "container", container);
        let path = with_query(path, "follow", flag(self.follow));
        let path = with_query(path, "previous", flag(self.previous));
        let path = with_query(path, "timestamps", flag(self.timestamps));
        let path = with_query(path, "sinceSeconds", &since);
        let path = with_query(path, "sinceTime", &self.since_time);
        let path = with_query(
            path,
            "tailLines",
            &if tail < 0 {
                String::new()
            } else {
                tail.to_string()
            },
        );
        let limit = self
            .limit_bytes
            .map(|bytes| bytes.to_string())
            .unwrap_or_default();
        Ok(with_query(path, "limitBytes", &limit))
    }

    /// Copies one log as it comes.
    async fn copy(&self, source: &Source, session: &mut Session) -> Result<()> {
        let Ok(http) = session.http() else {
            let text = session.client.get_raw(&source.path).await?;
            return self.write(source, &text, &mut Vec::new(), session);
        };
        let mut body = http.open_accepting(request(&source.path), "*/*").await?;
        let mut partial = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|error| Error::usage(format!("the log broke off: {error}")))?;
            if let Ok(data) = frame.into_data() {
                self.write(source, &data, &mut partial, session)?;
            }
        }
        if !partial.is_empty() {
            partial.push(b'\n');
            session.print(prefixed(source, &partial))?;
        }
        Ok(())
    }

    fn write(
        &self,
        source: &Source,
        data: &[u8],
        partial: &mut Vec<u8>,
        session: &mut Session,
    ) -> Result<()> {
        if !self.prefix {
            return session.print(data);
        }
        partial.extend_from_slice(data);
        for line in complete_lines(partial) {
            session.print(prefixed(source, &line))?;
        }
        Ok(())
    }

    /// Follows several logs at once, line by line.
    async fn follow_all(&self, sources: Vec<Source>, session: &mut Session) -> Result<()> {
        if sources.len() > self.max_log_requests {
            return Err(Error::usage(format!(
                "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, use \
                 --max-log-requests to increase the limit",
                sources.len(),
                self.max_log_requests
            )));
        }
        let http = session.http()?;
        let (sender, mut lines) = mpsc::channel(LINES_AHEAD);
        for source in sources {
            env::spawn(follow(http.clone(), source, self.prefix, sender.clone()));
        }
        drop(sender);
        while let Some(line) = lines.recv().await {
            match line {
                Ok(line) => session.print(line)?,
                Err(error) if self.ignore_errors => session.warn(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

async fn follow(
    http: HttpTransport,
    source: Source,
    with_prefix: bool,
    lines: mpsc::Sender<Result<Vec<u8>>>,
) {
    let mut body = match http.open_accepting(request(&source.path), "*/*").await {
        Ok(body) => body,
        Err(error) => {
            // Nobody listens any more: then nobody has to hear this.
            let _unheard = lines.send(Err(error.into())).await;
            return;
        }
    };
    let mut partial = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        partial.extend_from_slice(&data);
        for line in complete_lines(&mut partial) {
            let line = if with_prefix {
                prefixed(&source, &line)
            } else {
                line
            };
            if lines.send(Ok(line)).await.is_err() {
                return;
            }
        }
    }
}

/// A pod that is missing is told with its namespace.
fn missing(error: Error, session: &Session) -> Error {
    match &error {
        Error::Client(kube_client::ClientError::Api(api)) if api.is_not_found() => {
            Error::usage(format!(
                "error from server (NotFound): {} in namespace {:?}",
                api.message, session.namespace
            ))
        }
        _ => error,
    }
}

fn request(path: &str) -> Request {
    Request {
        method: Method::Get,
        path: path.to_owned(),
        content_type: "",
        body: Bytes::new(),
    }
}

/// Takes the complete lines out of `partial`.
fn complete_lines(partial: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    while let Some(end) = partial.iter().position(|byte| *byte == b'\n') {
        lines.push(partial.drain(..=end).collect());
    }
    if partial.len() > LINE_BYTES_MAX {
        partial.push(b'\n');
        lines.push(std::mem::take(partial));
    }
    lines
}

fn prefixed(source: &Source, line: &[u8]) -> Vec<u8> {
    [
        format!("[pod/{}/{}] ", source.pod, source.container).as_bytes(),
        line,
    ]
    .concat()
}
