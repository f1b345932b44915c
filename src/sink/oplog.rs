//! The operations of one connection.

use super::{clock::Tick, core::Timeline, settings::Retention};
use crate::record::{SocketOp, SocketOpType, SocketOps, SocketTrace};
use std::{
    io,
    sync::{Mutex, PoisonError},
};

#[derive(Clone, Copy, Debug)]
pub(crate) enum OpKind {
    Read,
    Write,
}

#[derive(Debug)]
pub(crate) struct OpLog(Mutex<Vec<(OpKind, Tick, Tick, u32, String)>>);

impl OpLog {
    pub(crate) fn new(_: Retention) -> Self {
        OpLog(Mutex::default())
    }

    pub(crate) fn export(&self, times: &Timeline) -> SocketTrace {
        let ops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut trace = SocketTrace::default();
        let one = |(kind, call, ret, len, err): &(OpKind, Tick, Tick, u32, String)| {
            let mut op = SocketOp::default();
            op.r#type = match kind {
                OpKind::Read => SocketOpType::Read,
                OpKind::Write => SocketOpType::Write,
            };
            (op.call_at, op.return_at, op.data_len, op.return_err) =
                (times.at(*call), times.at(*ret), *len, err.clone());
            op
        };
        trace.socket_ops = SocketOps::from(ops.iter().map(one).collect::<Vec<_>>());
        trace
    }
}

pub(crate) struct OpWriter(bool);

impl OpWriter {
    pub(crate) fn new(log: Option<&OpLog>) -> Self {
        OpWriter(log.is_some())
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0
    }

    pub(crate) fn push(
        &mut self,
        log: &OpLog,
        kind: OpKind,
        call: Tick,
        now: impl FnOnce() -> Tick,
        result: Result<usize, &io::Error>,
    ) {
        let ret = now().max(call);
        let err = result.err().map(|e| e.to_string()).unwrap_or_default();
        log.0.lock().unwrap_or_else(PoisonError::into_inner).push((
            kind,
            call,
            ret,
            result.unwrap_or(0) as u32,
            err,
        ));
    }
}
