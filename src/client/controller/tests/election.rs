//! One of several candidates leads, and no two at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use apimachinery::ApiError;
use controller::Election;
use env::{
    Clock, JoinHandle, ManualClock, SeededRng, Shutdown, ShutdownTrigger, SystemClock, Timestamp,
};
use kube_client::Method;
use kube_client::fake::FakeApi;

const DEADLINE: Duration = Duration::from_secs(20);

struct Candidate {
    /// Terms that run now.
    leads: Arc<AtomicUsize>,
    trigger: ShutdownTrigger,
    task: JoinHandle<()>,
}

impl Candidate {
    fn start(api: &Arc<FakeApi>, identity: &str, clock: Arc<dyn Clock>) -> Self {
        let (trigger, shutdown) = Shutdown::new();
        let leads = Arc::new(AtomicUsize::new(0));
        let election = Election {
            client: api.client(),
            name: "test",
            identity: identity.to_owned(),
            clock,
            rng: SeededRng::shared(1),
        };
        let counted = Arc::clone(&leads);
        let start = move |term: Shutdown| {
            let counted = Arc::clone(&counted);
            counted.fetch_add(1, Ordering::SeqCst);
            env::spawn(async move {
                term.requested().await;
                counted.fetch_sub(1, Ordering::SeqCst);
            });
        };
        let task = env::spawn(async move { election.run(shutdown, start).await });
        Self {
            leads,
            trigger,
            task,
        }
    }

    fn leads(&self) -> bool {
        self.leads.load(Ordering::SeqCst) > 0
    }

    async fn until(&self, leads: bool) {
        let wait = async {
            while self.leads() != leads {
                env::sleep(Duration::from_millis(5)).await;
            }
        };
        env::timeout(DEADLINE, wait).await.expect("in time");
    }
}

#[tokio::test]
async fn one_leads_until_it_ends_and_then_the_other_does() {
    let api = FakeApi::new(SystemClock::shared());
    let first = Candidate::start(&api, "first", SystemClock::shared());
    first.until(true).await;
    let second = Candidate::start(&api, "second", SystemClock::shared());
    // The first one renews meanwhile.
    env::sleep(Duration::from_secs(5)).await;
    assert!(first.leads() && !second.leads());
    first.trigger.trigger();
    first.task.await.expect("it ends");
    second.until(true).await;
    assert_eq!(first.leads.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_holder_that_cannot_renew_stops_before_another_may_take_over() {
    let api = FakeApi::new(SystemClock::shared());
    let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
    let holder = Candidate::start(&api, "holder", Arc::clone(&clock) as Arc<dyn Clock>);
    holder.until(true).await;
    api.refuse(Box::new(|request| {
        (request.method == Method::Put).then(|| ApiError::internal("no quorum"))
    }));
    clock.advance(Duration::from_secs(11));
    holder.until(false).await;
}
