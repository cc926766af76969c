//! `/exec`, `/attach`, `/portForward` and `/run`: streams into containers over whatever the client speaks.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::{ApiError, Reason};
use cri::{Attachment, ExecRequest, ExecSession, Stdio};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use streams::handshake::{self, PortForwardProtocol, Refusal, RemoteCommandProtocol, Upgrade};
use streams::port_forward::{ForwardRequest, PortForwardServer};
use streams::remote_command::{self, Outcome, RemoteCommandStreams, TerminalSize, WantedStreams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::kubelet::Kubelet;
use crate::pods::facts::uid;
use crate::server::answer::{Answer, empty_body, text, with_type};
use crate::server::route::{ContainerPath, PodPath};

/// A WebSocket client is pinged so often, so that dead ones are noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Output may still come this long after the command has ended (a descendant may hold the pipe).
const DRAIN_MAX: Duration = Duration::from_secs(2);
const COPY_BYTES: usize = 16 * 1024;

/// What a client wants of a container's streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamOptions {
    pub(crate) command: Vec<String>,
    pub(crate) wanted: WantedStreams,
}

impl StreamOptions {
    /// Both spellings are in use: the API server's (`stdin=true`) and the kubelet's (`input=1`).
    pub(crate) fn parse(query: &[(String, String)]) -> Result<Self, String> {
        let flag = |names: [&str; 2]| {
            let found = query
                .iter()
                .find(|(name, _)| names.contains(&name.as_str()));
            found.is_some_and(|(_, value)| {
                matches!(value.as_str(), "1" | "true" | "t" | "T" | "TRUE" | "True")
            })
        };
        let tty = flag(["tty", "tty"]);
        let wanted = WantedStreams {
            stdin: flag(["stdin", "input"]),
            stdout: flag(["stdout", "output"]),
            // A terminal has one output only.
            stderr: flag(["stderr", "error"]) && !tty,
            tty,
        };
        if !wanted.stdin && !wanted.stdout && !wanted.stderr {
            return Err("you must specify at least 1 of stdin, stdout, stderr".to_owned());
        }
        let command = query
            .iter()
            .filter(|(name, _)| name == "command")
            .map(|(_, value)| value.clone())
            .collect();
        Ok(Self { command, wanted })
    }
}

fn stdio(wanted: WantedStreams) -> Stdio {
    Stdio {
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
    }
}

fn refuse(refusal: Refusal) -> Answer {
    let headers = refusal.headers();
    let mut answer = text(refusal.status, refusal.message);
    answer.headers_mut().extend(headers);
    answer
}

pub(crate) async fn exec(
    kubelet: &Kubelet,
    path: &ContainerPath,
    query: &[(String, String)],
    request: Request<Incoming>,
) -> Answer {
    let options = match StreamOptions::parse(query) {
        Ok(options) if options.command.is_empty() => {
            return text(StatusCode::BAD_REQUEST, "you must specify a command");
        }
        Ok(options) => options,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let container = match kubelet.find_running(path).await {
        Ok((_, container)) => container,
        Err((status, why)) => return text(status, why),
    };
    let runtime = Arc::clone(&kubelet.services.runtime);
    let wanted = options.wanted;
    upgrade(request, wanted, move |streams| async move {
        let asked = ExecRequest {
            command: options.command,
            tty: wanted.tty,
            stdio: stdio(wanted),
        };
        // A command that cannot be started is the client's to see, as an exit code or a failure.
        let session = runtime.exec(&container.id, asked).await;
        serve_session(session, streams).await;
    })
}

pub(crate) async fn attach(
    kubelet: &Kubelet,
    path: &ContainerPath,
    query: &[(String, String)],
    request: Request<Incoming>,
) -> Answer {
    let mut options = match StreamOptions::parse(query) {
        Ok(options) => options,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let (pod, container) = match kubelet.find_running(path).await {
        Ok(found) => found,
        Err((status, why)) => return text(status, why),
    };
    // Whether there is a terminal was decided when the container was made.
    options.wanted.tty = has_terminal(&pod, &path.container);
    options.wanted.stderr &= !options.wanted.tty;
    let runtime = Arc::clone(&kubelet.services.runtime);
    let wanted = options.wanted;
    upgrade(request, wanted, move |streams| async move {
        let session = runtime
            .attach(
                &container.id,
                Attachment {
                    stdio: stdio(wanted),
                },
            )
            .await;
        serve_session(session, streams).await;
    })
}

fn has_terminal(pod: &Pod, container: &str) -> bool {
    crate::pods::facts::find_container(pod, container)
        .is_some_and(|(_, container)| container.tty == Some(true))
}

/// Answers 101 and serves the streams on the connection then.
fn upgrade<F, W>(mut request: Request<Incoming>, wanted: WantedStreams, work: W) -> Answer
where
    W: FnOnce(RemoteCommandStreams) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let Upgrade { protocol, response } = match handshake::remote_command(request.headers()) {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refuse(refusal),
    };
    let upgraded = hyper::upgrade::on(&mut request);
    env::spawn(async move {
        match open(upgraded, protocol, wanted).await {
            Ok(streams) => work(streams).await,
            Err(error) => tracing::debug!(error, "the streams of a client are not opened"),
        }
    });
    response.map(|()| empty_body())
}

async fn open(
    upgraded: hyper::upgrade::OnUpgrade,
    protocol: RemoteCommandProtocol,
    wanted: WantedStreams,
) -> Result<RemoteCommandStreams, String> {
    let io = TokioIo::new(upgraded.await.map_err(|error| error.to_string())?);
    remote_command::serve(io, protocol, wanted, Some(KEEP_ALIVE))
        .await
        .map_err(|error| error.to_string())
}

/// Copies between a session and its client until the command ends or the client goes; then tells how it ended.
async fn serve_session(session: cri::Result<ExecSession>, streams: RemoteCommandStreams) {
    let RemoteCommandStreams {
        stdin,
        stdout,
        stderr,
        resize,
        disconnected,
        error,
    } = streams;
    let ended = match session {
        Err(failure) => Ended::of_error(&failure),
        Ok(session) => {
            let ExecSession {
                stdin: to_process,
                stdout: from_process,
                stderr: errors,
                resize: set_size,
                exit,
            } = session;
            let input = env::spawn(copy_input(stdin, to_process));
            let resizing = env::spawn(async move {
                let (Some(mut sizes), Some(set_size)) = (resize, set_size) else {
                    return;
                };
                while let Some(TerminalSize { width, height }) = sizes.recv().await {
                    if let Err(error) = set_size(cri::TerminalSize { width, height }) {
                        tracing::debug!(%error, "a terminal is not resized");
                    }
                }
            });
            let output = async {
                tokio::join!(
                    copy_output(from_process, stdout),
                    copy_output(errors, stderr)
                )
            };
            let code = tokio::select! {
                biased;
                code = exit_after_output(exit, output) => Some(code),
                () = disconnected.wait() => None,
            };
            input.abort();
            resizing.abort();
            match code {
                Some(Ok(code)) => Ended::of_code(code),
                Some(Err(failure)) => Ended::of_error(&failure),
                None => Ended::of_code(0),
            }
        }
    };
    let status = ended.status.to_string();
    let outcome = Outcome {
        status_json: status.as_bytes(),
        failure: ended.failure.as_deref(),
    };
    if let Err(error) = error.finish(outcome).await {
        tracing::debug!(%error, "a client is not told how its command ended");
    }
}

/// The exit of a command once its output is copied, or did not come in time.
async fn exit_after_output<E, O>(
    exit: impl Future<Output = E>,
    output: impl Future<Output = O>,
) -> E {
    tokio::pin!(output, exit);
    let mut is_copied = false;
    let code = loop {
        tokio::select! {
            biased;
            _copied = &mut output, if !is_copied => is_copied = true,
            code = &mut exit => break code,
        }
    };
    if !is_copied {
        // What the command wrote last is on its way still.
        let _late = env::timeout(DRAIN_MAX, &mut output).await;
    }
    code
}

async fn copy_input(from: Option<streams::ByteReader>, to: Option<cri::ByteWriter>) {
    let (Some(mut from), Some(mut to)) = (from, to) else {
        return;
    };
    // Either end may go first; the process sees end-of-file in any case.
    let _copied = copy(&mut from, &mut to).await;
    let _shut = to.shutdown().await;
}

async fn copy_output(from: Option<cri::ByteReader>, to: Option<streams::ByteWriter>) {
    let (Some(mut from), Some(mut to)) = (from, to) else {
        return;
    };
    let _copied = copy(&mut from, &mut to).await;
    let _shut = to.shutdown().await;
}

async fn copy(
    from: &mut (dyn tokio::io::AsyncRead + Send + Unpin),
    to: &mut (dyn tokio::io::AsyncWrite + Send + Unpin),
) -> std::io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
    }
}

/// How a command ended, as clients are told.
struct Ended {
    status: Value,
    failure: Option<String>,
}

impl Ended {
    fn of_code(code: i32) -> Self {
        if code == 0 {
            return Self {
                status: json!({"metadata": {}, "status": "Success"}),
                failure: None,
            };
        }
        let message = format!(
            "command terminated with non-zero exit code: error executing command, exit code {code}"
        );
        let status = json!({"metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]}});
        Self {
            status,
            failure: Some(message),
        }
    }

    fn of_error(error: &cri::Error) -> Self {
        let message =
            format!("Internal error occurred: error executing command in container: {error}");
        let status = ApiError::new(500, Reason::InternalError, message.clone()).to_status();
        Self {
            status,
            failure: Some(message),
        }
    }
}

pub(crate) async fn port_forward(
    kubelet: &Kubelet,
    path: &PodPath,
    query: &[(String, String)],
    mut request: Request<Incoming>,
) -> Answer {
    let ports: Result<Vec<u16>, _> = named_ports(query);
    let ports = match ports {
        Ok(ports) => ports,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let sandbox = match sandbox_of(kubelet, path).await {
        Ok(sandbox) => sandbox,
        Err((status, why)) => return text(status, why),
    };
    let Upgrade { protocol, response } = match handshake::port_forward(request.headers()) {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refuse(refusal),
    };
    let runtime = Arc::clone(&kubelet.services.runtime);
    let upgraded = hyper::upgrade::on(&mut request);
    env::spawn(async move {
        if let Err(error) = forward(upgraded, protocol, &ports, runtime, sandbox).await {
            tracing::debug!(error, "a port-forward ended with an error");
        }
    });
    response.map(|()| empty_body())
}

fn named_ports(query: &[(String, String)]) -> Result<Vec<u16>, String> {
    let named = query
        .iter()
        .filter(|(name, _)| name == "port" || name == "ports")
        .flat_map(|(_, value)| value.split(','));
    named
        .map(|port| {
            port.parse::<u16>()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| format!("port {port:?} must be > 0 and <= 65535"))
        })
        .collect()
}

async fn sandbox_of(
    kubelet: &Kubelet,
    path: &PodPath,
) -> Result<cri::PodSandboxId, (StatusCode, String)> {
    let (_, pod) = kubelet.find_pod(path)?;
    let observed = kubelet.observe(&pod).await?;
    let sandbox = observed.ready_sandbox().map(|sandbox| sandbox.id.clone());
    sandbox.ok_or_else(|| {
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("pod {:?} ({}) is not running", path.name, uid(&pod)),
        )
    })
}

async fn forward(
    upgraded: hyper::upgrade::OnUpgrade,
    protocol: PortForwardProtocol,
    ports: &[u16],
    runtime: Arc<dyn cri::RuntimeService>,
    sandbox: cri::PodSandboxId,
) -> Result<(), String> {
    let io = TokioIo::new(upgraded.await.map_err(|error| error.to_string())?);
    let mut server = PortForwardServer::new(io, protocol, ports)
        .await
        .map_err(|error| error.to_string())?;
    while let Some(request) = server.next().await {
        let (runtime, sandbox) = (Arc::clone(&runtime), sandbox.clone());
        env::spawn(async move { forward_one(request, runtime, &sandbox).await });
    }
    server.close().await;
    Ok(())
}

async fn forward_one(
    request: ForwardRequest,
    runtime: Arc<dyn cri::RuntimeService>,
    sandbox: &cri::PodSandboxId,
) {
    let ForwardRequest {
        port,
        mut reader,
        mut writer,
        error,
    } = request;
    let stream = match runtime.port_forward(sandbox, port).await {
        Ok(stream) => stream,
        Err(failure) => {
            let why = format!("error forwarding port {port} to pod {sandbox}: {failure}");
            return error.fail(&why).await;
        }
    };
    let (mut from_pod, mut to_pod) = tokio::io::split(stream);
    let outward = async {
        let copied = copy(&mut from_pod, &mut writer).await;
        // The pod has said all it has to say.
        let _shut = writer.shutdown().await;
        copied
    };
    let inward = async {
        let copied = copy(&mut reader, &mut to_pod).await;
        let _shut = to_pod.shutdown().await;
        copied
    };
    // A client that has nothing more to send may still wait for the answer; one whose pod has closed gets nothing more.
    tokio::pin!(outward, inward);
    tokio::select! {
        biased;
        _ended = &mut outward => {}
        _ended = &mut inward => { drop(outward.await); }
    }
    // Dropped at the end: its end tells the client that there was no error.
    drop(error);
}

/// `/run`: a command without streams, for old tools.
pub(crate) async fn run(
    kubelet: &Kubelet,
    path: &ContainerPath,
    query: &[(String, String)],
) -> Answer {
    let command = query
        .iter()
        .find(|(name, _)| name == "cmd")
        .map(|(_, value)| value.split(' ').map(str::to_owned).collect());
    let Some(command) = command else {
        return text(StatusCode::BAD_REQUEST, "you must specify a command");
    };
    let container = match kubelet.find_running(path).await {
        Ok((_, container)) => container,
        Err((status, why)) => return text(status, why),
    };
    match kubelet
        .services
        .runtime
        .exec_sync(&container.id, command, None)
        .await
    {
        Ok(output) => {
            let status = if output.exit_code == 0 {
                StatusCode::OK
            } else {
                StatusCode::INTERNAL_SERVER_ERROR
            };
            with_type(
                status,
                "text/plain",
                [output.stdout, output.stderr].concat(),
            )
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
