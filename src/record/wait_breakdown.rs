//! How the wait of a request divides, according to the kernel's time stamps.
//!
//! The stamps are those of a connection. Over HTTP/1 it carries one request at a time, so that those of a request are
//! found by their times. Over HTTP/2 they are exact only if a single write and a single read took place while the
//! request waited.

use std::fmt;
use std::time::Duration;

#[cfg(feature = "explain")]
use super::Timestamp;
use super::phases::TimeAxis;
use super::timings::HumanDuration;
use super::{HttpReqTrace, KernelTimes, NetTrace, ReadTimes, WriteTimes};

/// The parts of the `wait` of a request (see [`Timings`](super::Timings)), which add up to it.
///
/// The wait begins when the program has written the whole request, and ends when the head of the response is available.
///
/// [`Display`](fmt::Display) prints one line: `left this host after 21 µs · acknowledged after 9.1 ms · server 250.3 ms ·
/// read after 40 µs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitBreakdown {
    /// The time until the last byte of the request left this host. It includes scheduling in the process, the send buffer,
    /// which waits for the receive and congestion windows, and the packet scheduler.
    pub own_stack: Duration,
    /// The time from departure until the acknowledgement arrived: a round trip, with retransmissions. A peer may delay an
    /// acknowledgement by some tens of milliseconds, to send it with its response.
    pub network: Duration,
    /// The time from the acknowledgement until the kernel received the response: what the server took at least.
    pub server: Duration,
    /// The time from when the kernel received the response until the program read it.
    pub read_delay: Duration,
    /// The time from that read until the head was complete and passed to whoever sent the request.
    pub head: Duration,
}

/// The stamps that belong to a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestStamps<'a> {
    /// The write with the last byte of the request.
    pub(crate) write: &'a WriteTimes,
    /// The read with the response; `None` if nothing arrived.
    pub(crate) read: Option<&'a ReadTimes>,
}

impl HttpReqTrace {
    /// Returns how the wait of the request divides. Returns `None` if the connection has no
    /// [`kernel_times`](super::TcpConnTrace::kernel_times) of the request and its response, or, over HTTP/2, if more
    /// than one write and one read took place meanwhile.
    pub fn wait_breakdown(&self, trace: &NetTrace) -> Option<WaitBreakdown> {
        let RequestStamps { write, read } = self.stamps(trace)?;
        let axis = TimeAxis::new(trace);
        let (begin, end) = (axis.at(self.req_body_end_at)?, axis.at(self.resp_recv_at)?);
        let left = axis.at(write.sent_at).or(axis.at(write.scheduled_at))?;
        let acked = axis.at(write.acked_at)?;
        let received = axis.at(read?.received_at)?;
        let read = axis.at(read?.read_at)?;
        if begin > end {
            return None; // the response came before the whole request was sent
        }
        let left = left.clamp(begin, end);
        let received = received.clamp(left, end);
        // The acknowledgement may have come with the response.
        let acked = acked.clamp(left, received);
        let read = read.clamp(received, end);
        let [own_stack, network, server, read_delay, head] =
            [(begin, left), (left, acked), (acked, received), (received, read), (read, end)]
                .map(|(from, to)| Duration::from_nanos(u64::try_from(to - from).unwrap_or(u64::MAX)));
        Some(WaitBreakdown { own_stack, network, server, read_delay, head })
    }

    /// Returns the stamps of the request and its response.
    pub(crate) fn stamps<'a>(&self, trace: &'a NetTrace) -> Option<RequestStamps<'a>> {
        if self.accepted {
            return None;
        }
        let times = trace.tcp_conns.get(&self.tcp_conn)?.kernel_times.as_deref()?;
        let axis = TimeAxis::new(trace);
        let (begin, response) = (axis.at(self.conn_acquired_at)?, axis.at(self.resp_recv_at));
        let until = response.or(axis.at(self.end_at))?;
        let writes = times.writes_between(axis, begin, until)?;
        // Over HTTP/1 what comes after the end of an unanswered request is its response, over HTTP/2 that of another one.
        let is_late_own = response.is_none() && self.proto_major < 2;
        let reads = times.reads_between(axis, begin, if is_late_own { i128::MAX } else { until })?;
        if self.proto_major >= 2 {
            return match (writes, reads) {
                ([write], [read]) => Some(RequestStamps { write, read: Some(read) }),
                ([write], []) if response.is_none() => Some(RequestStamps { write, read: None }),
                _ => None,
            };
        }
        let is_plain = self.tls_tunnel.is_undefined() && !self.req_url.starts_with("https:");
        // Over TLS the first bytes may be those of a session ticket.
        let first_byte = response.and(axis.at(self.first_byte_at)).filter(|_| is_plain);
        let read = match first_byte {
            Some(first_byte) => until_at(reads, first_byte, |read| axis.at(read.read_at)).last(),
            None => reads.last(),
        };
        if read.is_none() && response.is_some() {
            return None;
        }
        let until = read.and_then(|read| axis.at(read.read_at)).unwrap_or(until);
        let write = until_at(writes, until, |write| axis.at(write.written_at)).last()?;
        Some(RequestStamps { write, read })
    }
}

impl KernelTimes {
    /// Returns the writes in a time. Returns `None` if some of them may have been dropped.
    fn writes_between(&self, axis: TimeAxis, begin: i128, end: i128) -> Option<&[WriteTimes]> {
        self.between(&self.writes, self.dropped_writes, begin, end, |write| axis.at(write.written_at))
    }

    /// Returns the reads in a time. What was never read counts as read at its end. Returns `None` if some of them may
    /// have been dropped.
    fn reads_between(&self, axis: TimeAxis, begin: i128, end: i128) -> Option<&[ReadTimes]> {
        self.between(&self.reads, self.dropped_reads, begin, end, |read| axis.at(read.read_at))
    }

    fn between<'a, T>(
        &self,
        list: &'a [T],
        dropped: u64,
        begin: i128,
        end: i128,
        at: impl Fn(&T) -> Option<i128>,
    ) -> Option<&'a [T]> {
        let first = list.partition_point(|item| at(item).is_some_and(|at| at < begin));
        let last = until_at(list, end, at).len();
        let gap = usize::try_from(self.dropped_after).unwrap_or(usize::MAX);
        if dropped > 0 && (first..=last).contains(&gap) {
            return None;
        }
        list.get(first..last)
    }
}

/// Returns the items until a time. Those without a time come last.
fn until_at<T>(list: &[T], end: i128, at: impl Fn(&T) -> Option<i128>) -> &[T] {
    let count = list.partition_point(|item| at(item).unwrap_or(i128::MAX) <= end);
    &list[..count]
}

impl fmt::Display for WaitBreakdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [own_stack, network, server, read_delay] =
            [self.own_stack, self.network, self.server, self.read_delay].map(HumanDuration);
        write!(f, "left this host after {own_stack} · acknowledged after {network}")?;
        write!(f, " · server {server} · read after {read_delay}")
    }
}

#[cfg(feature = "explain")]
impl ReadTimes {
    /// Returns when the bytes were read, or else the given time.
    pub(crate) fn read_or(&self, otherwise: Timestamp) -> Timestamp {
        if self.read_at.is_undefined() { otherwise } else { self.read_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn breakdown(trace: Value) -> Option<String> {
        let trace: NetTrace = serde_json::from_value(trace).unwrap();
        trace.http_requests[0].wait_breakdown(&trace).map(|parts| {
            let sum = parts.own_stack + parts.network + parts.server + parts.read_delay + parts.head;
            assert_eq!(Some(sum), trace.http_requests[0].timings(&trace).wait);
            parts.to_string()
        })
    }

    /// Two requests on a connection. The first waits from 10 to 100 ms.
    fn trace() -> Value {
        json!({
            "traceBeginAt": "2026-01-01T00:00:00Z",
            "tcpConns": [{"traceID": "c", "connected": true, "kernelTimes": {
                "writes": [
                    {"sentBytes": 5, "writtenAt": "+3ms"},
                    {"sentBytes": 80, "writtenAt": "+10ms", "scheduledAt": "+11ms", "sentAt": "+12ms", "ackedAt": "+20ms"},
                    {"sentBytes": 160, "writtenAt": "+110ms", "scheduledAt": "+110ms", "sentAt": "+110ms", "ackedAt": "+111ms"},
                ],
                "reads": [
                    {"recvBytes": 0, "receivedAt": "+4ms", "readAt": "+4ms"},
                    {"recvBytes": 7, "receivedAt": "+90ms", "readAt": "+97ms"},
                    {"recvBytes": 300, "receivedAt": "+98ms", "readAt": "+99ms"},
                    {"recvBytes": 900, "receivedAt": "+120ms", "readAt": "+121ms"},
                ],
            }}],
            "httpRequests": [
                {"traceID": "r", "tcpConn": "c", "protoMajor": 1, "reqURL": "http://h/", "reqSentAt": "+9ms",
                 "connAcquiredAt": "+10ms", "reqBodyEndAt": "+10ms", "firstByteAt": "+97ms", "respRecvAt": "+100ms",
                 "respBodyEndAt": "+101ms", "endAt": "+101ms", "respStatusCode": 200},
                {"traceID": "r2", "tcpConn": "c", "protoMajor": 1, "reqURL": "http://h/", "reqSentAt": "+110ms",
                 "connAcquiredAt": "+110ms", "reqBodyEndAt": "+110ms", "respRecvAt": "+122ms", "endAt": "+122ms"},
            ],
        })
    }

    fn changed(pointer: &str, value: Value) -> Value {
        let mut trace = trace();
        let (record, field) = pointer.rsplit_once('/').unwrap();
        trace.pointer_mut(record).unwrap()[field] = value;
        trace
    }

    #[test]
    fn a_wait_divides_into_its_parts() {
        let parts = breakdown(trace()).unwrap();
        let expected =
            "left this host after 2.0 ms · acknowledged after 8.0 ms · server 70.0 ms · read after 7.0 ms";
        assert_eq!(parts, expected);
    }

    #[test]
    fn an_acknowledgement_may_come_with_the_response() {
        let parts = breakdown(changed("/tcpConns/0/kernelTimes/writes/1/ackedAt", json!("+91ms"))).unwrap();
        assert!(parts.contains("acknowledged after 78.0 ms · server 0 · read after 7.0 ms"), "{parts}");
    }

    #[test]
    fn over_tls_the_read_before_the_head_counts() {
        let parts = breakdown(changed("/httpRequests/0/reqURL", json!("https://h/"))).unwrap();
        assert!(parts.contains("server 78.0 ms · read after 1.0 ms"), "{parts}");
    }

    #[test]
    fn without_the_stamps_of_both_there_is_no_division() {
        for (pointer, value) in [
            ("/tcpConns/0/kernelTimes", Value::Null),
            ("/tcpConns/0/kernelTimes/reads", json!([])),
            ("/tcpConns/0/kernelTimes/writes/1/ackedAt", json!("undefined")),
            ("/httpRequests/0/accepted", json!(true)),
            ("/httpRequests/0/reqBodyEndAt", json!("+200ms")),
            ("/httpRequests/0/protoMajor", json!(2)),
        ] {
            assert_eq!(breakdown(changed(pointer, value)), None, "{pointer}");
        }
    }

    #[test]
    fn a_gap_in_the_stamps_of_a_request_makes_them_unknown() {
        for (gap, is_known) in [(0, true), (1, false), (2, false), (3, true)] {
            let mut trace = changed("/tcpConns/0/kernelTimes/droppedWrites", json!(4));
            trace["tcpConns"][0]["kernelTimes"]["droppedAfter"] = json!(gap);
            assert_eq!(breakdown(trace).is_some(), is_known, "{gap}");
        }
    }

    #[test]
    fn over_http2_a_single_write_and_a_single_read_are_exact() {
        let mut trace = changed("/httpRequests/0/protoMajor", json!(2));
        trace["tcpConns"][0]["kernelTimes"]["reads"].as_array_mut().unwrap().remove(2);
        assert!(breakdown(trace).unwrap().contains("server 70.0 ms"));
    }

    #[test]
    fn what_was_never_read_belongs_to_the_request_that_was_given_up() {
        let mut trace = changed("/tcpConns/0/kernelTimes/reads/3/readAt", Value::Null);
        trace["httpRequests"][1]["respRecvAt"] = Value::Null;
        let trace: NetTrace = serde_json::from_value(trace).unwrap();
        let stamps = trace.http_requests[1].stamps(&trace).unwrap();
        assert_eq!((stamps.write.sent_bytes, stamps.read.unwrap().recv_bytes), (160, 900));
    }
}
