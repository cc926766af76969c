//! One stream of requests, from empty servers on: every step goes to all of them, and what they answer must be the same.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use etcd_testing::pb;
use futures_util::future::join_all;

use crate::answers::Answer;
use crate::generate::{Known, STREAMS};
use crate::servers::Servers;
use crate::steps::{Request, Step};

/// A call that takes longer is a finding.
const CALL_TIME_MAX: Duration = Duration::from_secs(30);
/// A lease of the shortest life is over within this time.
const EXPIRY_TIME_MAX: Duration = Duration::from_secs(15);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

pub(crate) struct Episode {
    servers: Servers,
    pub(crate) known: Known,
    /// The latest revision at which a watch of a stream begins.
    begins: [i64; STREAMS],
}

impl Episode {
    pub(crate) async fn begin(program: &Path, tmpfs: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            servers: Servers::start(program, tmpfs).await?,
            known: Known::default(),
            begins: [0; STREAMS],
        })
    }

    /// Errors if the servers disagree.
    pub(crate) async fn step(&mut self, step: &Step) -> anyhow::Result<()> {
        match step {
            Step::Together(requests) => {
                if let [Request::Compact(_)] = requests.as_slice() {
                    // Watches that lag behind a compaction may or may not be in time for it.
                    if !self.settle().await? {
                        return Ok(());
                    }
                }
                self.call(requests).await
            }
            Step::Watch(stream, request) => self.watch(*stream, request).await,
            Step::Cancel(stream, id) => self.cancel(*stream, *id).await,
            Step::Settle => self.settle().await.map(|_all| ()),
            Step::Expire(id) => self.expire(*id).await,
            Step::Restart => {
                self.settle().await?;
                self.servers.restart().await?;
                self.known.watches = Default::default();
                self.begins = [0; STREAMS];
                Ok(())
            }
        }
    }

    async fn call(&mut self, requests: &[Request]) -> anyhow::Result<()> {
        let servers = self.servers.all.iter();
        let answers = join_all(servers.map(|server| {
            let calls = requests
                .iter()
                .map(|request| Answer::to(request, &server.client));
            env::timeout(CALL_TIME_MAX, join_all(calls))
        }));
        let mut answers = answers.await.into_iter().map(|answers| {
            answers.map_err(|_| anyhow::anyhow!("no answer within {CALL_TIME_MAX:?}"))
        });
        let wanted = answers
            .next()
            .context("there are servers")?
            .context("etcd")?;
        for (got, server) in answers.zip(&self.servers.all[1..]) {
            let got = got.context(server.name)?;
            for ((wanted, got), request) in wanted.iter().zip(&got).zip(requests) {
                same(server.name, request, wanted, got)?;
            }
        }
        for (request, answer) in requests.iter().zip(&wanted) {
            self.learn(request, answer);
        }
        Ok(())
    }

    fn learn(&mut self, request: &Request, answer: &Answer) {
        self.known.revision = answer.revision().unwrap_or(0).max(self.known.revision);
        match (request, answer) {
            (Request::Compact(request), Answer::Compact(_)) => {
                self.known.compacted = request.revision;
            }
            (_, Answer::Grant(granted)) => self.known.granted(granted.id),
            (Request::Revoke(request), Answer::Revoke(_)) => self.known.revoked(request.id),
            _ => {}
        }
    }

    async fn watch(
        &mut self,
        stream: usize,
        request: &pb::WatchCreateRequest,
    ) -> anyhow::Result<()> {
        let compacted = self.known.compacted;
        let mut wanted = None;
        for server in &mut self.servers.all {
            let watches = server.watches(stream);
            let said = watches.create(request, compacted).await;
            let said = said
                .with_context(|| format!("{request:?}"))
                .context(server.name)?;
            let wanted = wanted.get_or_insert_with(|| said.clone());
            same(server.name, request, wanted, &said)?;
        }
        if let Some([said]) = wanted.as_deref()
            && !said.canceled
        {
            self.known.watches[stream].insert(said.watch_id);
            self.begins[stream] = self.begins[stream].max(request.start_revision);
        }
        Ok(())
    }

    async fn cancel(&mut self, stream: usize, id: i64) -> anyhow::Result<()> {
        let is_there = self.known.watches[stream].contains(&id);
        if !is_there || !self.settle_stream(stream).await? {
            return Ok(());
        }
        self.known.watches[stream].remove(&id);
        let mut wanted = None;
        for server in &mut self.servers.all {
            let watches = server.watches(stream);
            let said = watches.cancel(id).await.context(server.name)?;
            let wanted = wanted.get_or_insert_with(|| said.clone());
            same(server.name, &id, wanted, &said)?;
        }
        Ok(())
    }

    /// Compares all events; tells whether none is still to come.
    async fn settle(&mut self) -> anyhow::Result<bool> {
        let mut all = true;
        for stream in 0..STREAMS {
            all &= self.settle_stream(stream).await?;
        }
        Ok(all)
    }

    async fn settle_stream(&mut self, stream: usize) -> anyhow::Result<bool> {
        if self.known.watches[stream].is_empty() {
            return Ok(true);
        }
        // While a watch is still to begin, nothing is said about the others.
        let revision = self.known.revision;
        if self.begins[stream] > revision {
            return Ok(false);
        }
        let mut wanted = None;
        for server in &mut self.servers.all {
            let watches = server.watches(stream);
            let events = watches.settle(revision).await.context(server.name)?;
            let wanted = wanted.get_or_insert_with(|| events.clone());
            same(
                server.name,
                &format!("events of stream {stream}"),
                wanted,
                &events,
            )?;
        }
        Ok(true)
    }

    /// A short lease with two keys goes, with both in one revision.
    async fn expire(&mut self, id: i64) -> anyhow::Result<()> {
        let grant = pb::LeaseGrantRequest { ttl: 1, id };
        self.call(&[Request::Grant(grant)]).await?;
        self.known.revoked(id);
        for key in ["a1", "expires"] {
            let put = pb::PutRequest {
                key: key.into(),
                lease: id,
                ..Default::default()
            };
            self.call(&[Request::Put(put)]).await?;
        }
        let gone = self.known.revision + 1;
        let read = pb::RangeRequest {
            key: b"expires".to_vec(),
            ..Default::default()
        };
        for server in &self.servers.all {
            let wait = async {
                while server.client.call(read.clone()).await?.count > 0 {
                    env::sleep(LOOK_AGAIN_AFTER).await;
                }
                Ok::<_, tonic::Status>(())
            };
            let waited = env::timeout(EXPIRY_TIME_MAX, wait).await;
            waited.map_err(|_| anyhow::anyhow!("{}: a lease never ends", server.name))??;
        }
        self.call(&[Request::Range(read)]).await?;
        let revision = self.known.revision;
        ensure!(
            revision == gone,
            "the end of a lease is at {revision}, not {gone}"
        );
        Ok(())
    }
}

fn same<T: PartialEq + std::fmt::Debug>(
    server: &str,
    request: &impl std::fmt::Debug,
    wanted: &T,
    got: &T,
) -> anyhow::Result<()> {
    ensure!(
        wanted == got,
        "{server} differs\n  asked: {request:?}\n  etcd:  {wanted:?}\n  ours:  {got:?}"
    );
    Ok(())
}
