//! Carries out a plan and checks the trace along the way.

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

/// Runs a plan. Returns which kinds of records ended, and how.
pub(crate) fn run(plan: Plan) -> Vec<String> {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut run = Run::new(&plan).await;
        for step in plan.steps {
            run.step(step).await;
        }
        if plan.drain {
            run.drain().await;
        }
        run.finish()
    })
}

struct Run {
    fixture: Arc<Fixture>,
    tasks: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
    history: History,
    /// The trace when the sink was closed.
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
            Step::Look => drop(self.look()),
            Step::Enable(on) => self.fixture.sink.set_enabled(on),
            Step::Clear => {
                self.fixture.sink.clear();
                self.history.forget();
                self.cleared = true;
                // A closed sink that is cleared keeps nothing.
                self.closed = self.closed.take().map(|_| self.look());
            }
            Step::Close => {
                self.fixture.sink.close();
                let trace = self.look();
                assert!(records(&trace).iter().all(|(_, end)| end.is_some()), "all is closed: {trace:#?}");
                self.closed = Some(trace);
            }
        }
    }

    fn poll(&mut self, index: usize) {
        let mut cx = Context::from_waker(Waker::noop());
        if self.tasks[index].as_mut().poll(&mut cx).is_ready() {
            drop(self.tasks.swap_remove(index));
        }
        self.tasks.append(&mut self.fixture.detached.lock().unwrap());
    }

    async fn drain(&mut self) {
        for round in 0..400 {
            (0..self.tasks.len()).rev().for_each(|index| self.poll(index));
            if self.tasks.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(round)).await;
        }
    }

    fn look(&mut self) -> NetTrace {
        let trace = self.fixture.sink.snapshot("meanwhile");
        self.history.look(&trace);
        trace
    }

    fn finish(mut self) -> Vec<String> {
        self.tasks.clear();
        self.fixture.drop_left_over();
        self.fixture.detached.lock().unwrap().clear();
        let trace = self.look();
        match &self.closed {
            Some(closed) => {
                check::running(&trace);
                let mut closed = closed.clone();
                closed.trace_end_at = trace.trace_end_at;
                assert_eq!(closed, trace, "nothing changes after the sink was closed");
            }
            None => check::finished(&trace),
        }
        self.published(&trace);
        records(&trace)
            .iter()
            .filter_map(|(record, end)| Some(format!("{} {}", kind(record), end.as_ref()?)))
            .collect()
    }

    /// Asserts that subscribers got each ended record once, as the trace has it.
    fn published(&self, trace: &NetTrace) {
        let mut published = HashMap::<TraceId, FinishedRecord>::new();
        for record in std::mem::take(&mut *self.fixture.published.lock().unwrap()) {
            let again = published.insert(record.trace_id().clone(), record);
            assert!(again.is_none(), "handed out twice: {again:?}");
        }
        if self.cleared {
            return;
        }
        for (record, end) in records(trace) {
            let was = published.remove(record.trace_id());
            if end == Some(nettrace::record::EndReason::SinkClosed) {
                assert!(was.is_none(), "subscribers hear nothing of the close: {was:?}");
            } else {
                assert_eq!(was.map(settled), Some(settled(record)));
            }
        }
        assert!(published.is_empty(), "handed out, but not in the trace: {published:?}");
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
