//! Records dials to nameservers whose connection several lookups share.
//!
//! Such a connection outlives the dial whose lookup needed it first. So it is made by a dial of its own, with a group
//! of its own, and the groups of the lookups refer to that.

use super::{
    lookup::ResolverDialRecorder,
    recorder::{DialRecorder, DialRef, begin_alone},
    shared_connection::SharedConnection,
};
use crate::{
    error::FailureDetail,
    record::{EndReason, Text},
    sink::{
        conn::conn_ref::ConnRef,
        dns::{carrier::DnsCarrier, recorder::DnsRecorder},
        request::handle::RequestHandle,
        trace_sink::TraceSink,
    },
};
use std::sync::{Arc, OnceLock};

impl TraceSink {
    /// Begins a dial to a nameserver (`host:port`). It belongs to no request.
    pub(crate) fn nameserver_dial(&self, destination: impl FnOnce() -> Text) -> DialRecorder {
        let Some(records) = self.active() else { return DialRecorder::default() };
        let (group, recorder) = begin_alone(&records.core, &records.group_alloc, destination());
        records.add_group(group);
        recorder
    }
}

impl DialRef {
    /// Begins a record of the DNS messages of this dial's lookup that `conn` carries.
    pub(crate) fn dns_over(&self, conn: Option<&ConnRef>) -> DnsRecorder {
        let (Some(group), Some(conn)) = (&self.0, conn) else { return DnsRecorder::off() };
        if !conn.is_of(&group.core) {
            return DnsRecorder::off();
        }
        let recorder = DnsRecorder::begin(group, conn.record_id());
        if let Some((_, index)) = recorder.place() {
            conn.group.retain();
            let shared = SharedConnection { group: conn.group.clone(), http: OnceLock::new() };
            let carrier: Arc<dyn DnsCarrier> = Arc::new(shared);
            if !group.set_carrier(index, &carrier) {
                carrier.release();
            }
        }
        recorder
    }
}

impl ResolverDialRecorder {
    /// Records that a shared connection is being made by `dial`.
    pub(crate) fn shares(&self, dial: &DialRef) {
        let (Some((group, index)), Some(shared)) = (&self.0, &dial.0) else { return };
        if Arc::ptr_eq(&group.core, &shared.core) {
            group.set_shared_dial(*index, shared);
        }
    }

    /// Records that the nameserver can be asked over a shared connection. That ends the dial.
    pub(crate) fn connected_to(mut self, conn: Option<&ConnRef>) {
        self.end(EndReason::Closed, conn.and_then(ConnRef::record_id), || None);
    }

    /// Records why the nameserver cannot be asked. That ends the dial.
    pub(crate) fn failed_with(mut self, fault: impl FnOnce() -> FailureDetail) {
        let fault = self.0.is_some().then(fault);
        let reason = fault.as_ref().map_or(EndReason::Failed, FailureDetail::end_reason);
        self.end(reason, None, || fault);
    }
}

impl DnsRecorder {
    /// Records that the messages are the bodies of this HTTP request and its response.
    pub(crate) fn carried_by(&self, request: &RequestHandle) {
        let Some(request) = request.last_hop() else { return };
        let Some((group, index)) = self.place() else { return };
        if !request.is_of(&group.core) || !request.add_follower() {
            return;
        }
        let is_linked = group.with_carrier(index, |carrier| {
            SharedConnection::of(carrier).is_some_and(|shared| shared.http.set(request.clone()).is_ok())
        });
        if !is_linked {
            request.remove_follower();
        }
    }
}
