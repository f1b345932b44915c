//! Runs a plan, and checks the trace in between and at the end.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use nettrace::{FinishedRecord, NetTrace, TraceId};
use tokio::runtime::Builder;

use crate::{
    fixture::Fixture,
    plan::{Plan, Step},
};
use test_support::{
    check,
    history::{History, records, settled},
};

/// Runs a plan. Returns the kind and the end reason of each record that ended, and `"plan drained"` if all tasks were
/// polled to their end.
pub(crate) fn run(plan: Plan) -> Vec<String> {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut run = Run::new(&plan).await;
        for step in plan.steps {
            run.step(step).await;
        }
        let is_drained = plan.drain && run.drain().await;
        let mut ends = run.finish();
        ends.extend(is_drained.then(|| "plan drained".to_owned()));
        ends
    })
}

struct Run {
    fixture: Arc<Fixture>,
    tasks: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
    history: History,
    /// The snapshot that was taken when the sink was closed.
    closed: Option<NetTrace>,
    cleared: bool,
}

impl Run {
    async fn new(plan: &Plan) -> Self {
        let fixture = Fixture::new().await;
        let tasks = plan.requests.iter().map(|request| fixture.request(request.clone())).collect();
        Run { fixture, tasks, history: History::default(), closed: None, cleared: false }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Poll(_) | Step::Drop(_) if self.tasks.is_empty() => {}
            Step::Poll(index) => self.poll(index.index(self.tasks.len())),
            Step::Drop(index) => drop(self.tasks.swap_remove(index.index(self.tasks.len()))),
            Step::Wait(millis) => tokio::time::sleep(Duration::from_millis(millis.into())).await,
            Step::Look => drop(self.check_snapshot()),
            Step::Enable(on) => self.fixture.sink.set_enabled(on),
            Step::Clear => {
                self.fixture.sink.clear();
                self.history.forget();
                self.cleared = true;
                // Clearing also removes the records of a closed sink.
                self.closed = self.closed.take().map(|_| self.check_snapshot());
            }
            Step::Close => {
                self.fixture.sink.close();
                let trace = self.check_snapshot();
                assert!(records(&trace).iter().all(|(_, end)| end.is_some()), "a record is open: {trace:#?}");
                self.closed = Some(trace);
            }
        }
    }

    /// Polls a task once. Removes it if it has completed.
    fn poll(&mut self, index: usize) {
        let mut cx = Context::from_waker(Waker::noop());
        if self.tasks[index].as_mut().poll(&mut cx).is_ready() {
            drop(self.tasks.swap_remove(index));
        }
        self.tasks.append(&mut self.fixture.detached.lock().unwrap());
    }

    /// Polls all tasks until they have completed, for at most 400 rounds. Returns `false` if some have not: they wait
    /// for a peer that stays silent, without a timeout.
    async fn drain(&mut self) -> bool {
        for round in 0..400 {
            (0..self.tasks.len()).rev().for_each(|index| self.poll(index));
            if self.tasks.is_empty() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(round)).await;
        }
        false
    }

    /// Takes a snapshot and checks it against the earlier ones.
    fn check_snapshot(&mut self) -> NetTrace {
        let trace = self.fixture.sink.snapshot("meanwhile");
        self.history.check(&trace);
        trace
    }

    /// Drops what is left, checks the final trace, and returns the ends of its records.
    fn finish(mut self) -> Vec<String> {
        self.tasks.clear();
        self.fixture.drop_left_over();
        self.fixture.detached.lock().unwrap().clear();
        let trace = self.check_snapshot();
        match &self.closed {
            Some(closed) => {
                check::running(&trace);
                let mut closed = closed.clone();
                closed.trace_end_at = trace.trace_end_at;
                assert_eq!(closed, trace, "the trace does not change after the sink was closed");
            }
            None => check::finished(&trace),
        }
        self.assert_published(&trace);
        records(&trace)
            .iter()
            .filter_map(|(record, end)| Some(format!("{} {}", kind(record), end.as_ref()?)))
            .collect()
    }

    /// Asserts that subscribers received each ended record once, equal to the one in the trace.
    fn assert_published(&self, trace: &NetTrace) {
        let mut published = HashMap::<TraceId, FinishedRecord>::new();
        for record in std::mem::take(&mut *self.fixture.published.lock().unwrap()) {
            let again = published.insert(record.trace_id().clone(), record);
            assert!(again.is_none(), "published twice: {again:?}");
        }
        if self.cleared {
            return;
        }
        for (record, end) in records(trace) {
            let received = published.remove(record.trace_id());
            if end == Some(nettrace::record::EndReason::SinkClosed) {
                assert!(received.is_none(), "the end of the sink is not published: {received:?}");
            } else {
                assert_eq!(received.map(settled), Some(settled(record)));
            }
        }
        assert!(published.is_empty(), "published, but not in the trace: {published:?}");
    }
}

fn kind(record: &FinishedRecord) -> &'static str {
    match record {
        FinishedRecord::Dial(_) => "dial",
        FinishedRecord::TcpConn(_) | FinishedRecord::UdpConn(_) => "connection",
        FinishedRecord::DnsQuery(_) => "look-up",
        FinishedRecord::TlsTunnel(_) => "tunnel",
        FinishedRecord::HttpRequest(_) => "request",
        _ => "something new",
    }
}
