//! Questions that are not about the cluster go to the machine's own resolvers, with a bounded cache.
//!
//! Without a resolver, or while none answers, a client hears of it at once instead of waiting for its own time-out.

use crate::message::Upstream;
use env::Clock;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use parking_lot::Mutex;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

/// Answers that are kept.
const CACHE_ANSWERS_MAX: u64 = 1024;
const CACHE_POSITIVE_MAX: Duration = Duration::from_hours(1);
const CACHE_NEGATIVE_MAX: Duration = Duration::from_secs(30);
/// Questions that wait for an answer at one time; more are refused.
const WAITING_MAX: usize = 512;
/// How long one resolver is waited for, and all of them together: less than a client's own five seconds.
const TRY_MAX: Duration = Duration::from_secs(2);
const ANSWER_MAX: Duration = Duration::from_millis(4500);
/// So many questions in a row that nobody answered mean that there is nobody; one alone may be about a broken domain.
const UNANSWERED_MAX: u32 = 3;
/// While there is nobody, one question is sent after each such time to find out, and the others fail at once.
const SILENT_FOR: Duration = Duration::from_secs(5);

/// Asks the machine's resolvers, which it finds in a file of the form of `/etc/resolv.conf`.
pub(crate) struct Forwarder {
    path: PathBuf,
    /// The cluster DNS itself: asking it would go in circles.
    own: Vec<IpAddr>,
    state: Mutex<State>,
    waiting: Semaphore,
    clock: Arc<dyn Clock>,
}

struct State {
    modified: Option<SystemTime>,
    resolver: Option<Arc<TokioResolver>>,
    unanswered: u32,
    /// When nobody answered last, on the monotonic clock.
    silent_since: Duration,
    is_probing: bool,
}

/// Whether a question may be sent.
enum Permission {
    Ask(Arc<TokioResolver>),
    /// The one question that finds out whether somebody answers again.
    Probe(Arc<TokioResolver>),
    Nobody,
}

impl Forwarder {
    pub(crate) fn new(path: PathBuf, own: Vec<IpAddr>, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            modified: None,
            resolver: None,
            unanswered: 0,
            silent_since: Duration::ZERO,
            is_probing: false,
        };
        let waiting = Semaphore::new(WAITING_MAX);
        Self {
            path,
            own,
            state: Mutex::new(state),
            waiting,
            clock,
        }
    }

    pub(crate) async fn ask(&self, name: &Name, kind: RecordType) -> Upstream {
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Upstream::failed(ResponseCode::Refused);
        };
        let (resolver, is_probe) = match self.permission() {
            Permission::Ask(resolver) => (resolver, false),
            Permission::Probe(resolver) => (resolver, true),
            Permission::Nobody => return Upstream::failed(ResponseCode::ServFail),
        };
        let probe = Probe {
            forwarder: self,
            is_probe,
        };
        let mut name = name.clone();
        name.set_fqdn(true);
        // On the heap: the resolver's future is large, and there are many of these.
        let answer = env::timeout(ANSWER_MAX, Box::pin(resolver.lookup(name, kind))).await;
        let upstream = match answer {
            Ok(Ok(lookup)) => Some(Upstream {
                code: ResponseCode::NoError,
                answers: lookup.answers().to_vec(),
                authorities: Vec::new(),
            }),
            Ok(Err(NetError::Dns(error))) => Some(negative(&error)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no resolver answered");
                None
            }
            Err(_timed_out) => None,
        };
        probe.end(upstream.is_some());
        upstream.unwrap_or_else(|| Upstream::failed(ResponseCode::ServFail))
    }

    fn permission(&self) -> Permission {
        let mut state = self.state.lock();
        self.refresh(&mut state);
        let Some(resolver) = state.resolver.clone() else {
            return Permission::Nobody;
        };
        let now = self.clock.monotonic();
        if state.unanswered < UNANSWERED_MAX {
            return Permission::Ask(resolver);
        }
        if state.is_probing || now.saturating_sub(state.silent_since) < SILENT_FOR {
            return Permission::Nobody;
        }
        state.is_probing = true;
        Permission::Probe(resolver)
    }

    /// Reads the file again if it changed; a look at its time is cheap against a question to others.
    fn refresh(&self, state: &mut State) {
        let modified = std::fs::metadata(&self.path)
            .and_then(|metadata| metadata.modified())
            .ok();
        if modified.is_some() && modified == state.modified {
            return;
        }
        state.modified = modified;
        state.unanswered = 0;
        state.resolver = std::fs::read(&self.path)
            .ok()
            .and_then(|text| self.resolver_of(&text));
        if state.resolver.is_none() {
            tracing::info!(path = %self.path.display(), "no resolver for names outside of the cluster");
        }
    }

    fn resolver_of(&self, text: &[u8]) -> Option<Arc<TokioResolver>> {
        let (config, _options) = hickory_resolver::system_conf::parse_resolv_conf(text).ok()?;
        let servers: Vec<NameServerConfig> = config
            .name_servers()
            .iter()
            .filter(|server| !self.own.contains(&server.ip))
            .cloned()
            .collect();
        if servers.is_empty() {
            return None;
        }
        let config = ResolverConfig::from_name_servers(servers);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        set_options(builder.options_mut());
        builder.build().ok().map(Arc::new)
    }
}

fn set_options(options: &mut ResolverOpts) {
    options.timeout = TRY_MAX;
    options.attempts = 1;
    options.cache_size = CACHE_ANSWERS_MAX;
    options.positive_max_ttl = Some(CACHE_POSITIVE_MAX);
    options.negative_max_ttl = Some(CACHE_NEGATIVE_MAX);
    options.use_hosts_file = ResolveHosts::Never;
    options.preserve_intermediates = true;
    options.edns0 = true;
}

fn negative(error: &DnsError) -> Upstream {
    match error {
        DnsError::NoRecordsFound(nothing) => {
            let authority = nothing
                .soa
                .as_ref()
                .map(|soa| (**soa).clone().into_record_of_rdata());
            Upstream {
                code: nothing.response_code,
                answers: Vec::new(),
                authorities: authority.into_iter().collect(),
            }
        }
        DnsError::ResponseCode(code) => Upstream::failed(*code),
        _ => Upstream::failed(ResponseCode::ServFail),
    }
}

/// Remembers how a question went, also when the client's task is dropped in between.
struct Probe<'a> {
    forwarder: &'a Forwarder,
    is_probe: bool,
}

impl Probe<'_> {
    fn end(&self, was_answered: bool) {
        let mut state = self.forwarder.state.lock();
        if was_answered {
            state.unanswered = 0;
        } else {
            state.unanswered = state.unanswered.saturating_add(1);
            state.silent_since = self.forwarder.clock.monotonic();
        }
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            self.forwarder.state.lock().is_probing = false;
        }
    }
}
