//! The kernel's `TCP_INFO` of a connection.

use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::{Text, Timestamp};

/// Defines the struct. Fields after `..` are optional: `None` is left out of the JSON.
macro_rules! optional {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$always_meta:meta])* pub $always:ident: $always_type:ty, )+
            ..
            $( $(#[$field_meta:meta])* pub $field:ident: $type:ty, )+
        }
    ) => {
        $(#[$meta])*
        pub struct $name {
            $( $(#[$always_meta])* pub $always: $always_type, )+
            $( $(#[$field_meta])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$type>, )+
        }
    };
}

optional! {
    /// The kernel's information about a TCP connection at one moment: `TCP_INFO` of tcp(7), as `ss -ti` shows it.
    ///
    /// Each field names its counterpart in `struct tcp_info` of the kernel's `linux/tcp.h`. A field is `None` if the
    /// kernel is too old to have it, or if its value means "unknown" or "unlimited". Counters count from the begin of
    /// the connection.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    #[non_exhaustive]
    pub struct TcpInfo {
        /// When the information was read.
        pub at: Timestamp,
        /// The event after which the information was read.
        pub event: TcpInfoEvent,
        ..
        /// The state of the connection (`tcpi_state`).
        pub state: TcpInfoState,
        /// The state of congestion control (`tcpi_ca_state`).
        pub congestion_state: CongestionState,
        /// The congestion control algorithm, such as `cubic` (`TCP_CONGESTION`). Only recorded when connected.
        pub congestion_control: Text,

        /// Smoothed round-trip time, in microseconds (`tcpi_rtt`); none before the first measurement.
        pub rtt_us: u32,
        /// Mean deviation of the round-trip time, in microseconds (`tcpi_rttvar`); none before the first
        /// measurement.
        pub rttvar_us: u32,
        /// The minimum of recent round-trip times, in microseconds (`tcpi_min_rtt`); none before the first measurement.
        pub min_rtt_us: u32,
        /// The receiver's estimate of the round-trip time, in microseconds (`tcpi_rcv_rtt`); none before there is
        /// one.
        pub rcv_rtt_us: u32,
        /// The retransmission timeout, in microseconds (`tcpi_rto`).
        pub rto_us: u32,
        /// The delay of this side's acknowledgements, in microseconds (`tcpi_ato`).
        pub ato_us: u32,

        /// Consecutive timeouts of the segment that is unacknowledged now, SYNs included (`tcpi_retransmits`).
        pub retransmits: u8,
        /// Retransmitted segments, SYNs included (`tcpi_total_retrans`).
        pub total_retrans: u32,
        /// Retransmitted segments in flight (`tcpi_retrans`).
        pub retrans: u32,
        /// Segments in flight that are considered lost (`tcpi_lost`).
        pub lost: u32,
        /// Segments in flight (`tcpi_unacked`).
        pub unacked: u32,
        /// Segments that the peer received out of order and acknowledged selectively (`tcpi_sacked`).
        pub sacked: u32,
        /// Unanswered window and keep-alive probes (`tcpi_probes`).
        pub probes: u8,
        /// How often the timeout was doubled (`tcpi_backoff`).
        pub backoff: u8,
        /// The reordering, in segments, that is tolerated before a loss is assumed (`tcpi_reordering`).
        pub reordering: u32,
        /// How often the peer received segments out of order (`tcpi_reord_seen`).
        pub reord_seen: u32,
        /// Segments received out of order (`tcpi_rcv_ooopack`).
        pub rcv_ooopack: u32,
        /// Segments that the peer received twice (`tcpi_dsack_dups`).
        pub dsack_dups: u32,
        /// The total number of timeouts (`tcpi_total_rto`).
        pub total_rto: u16,
        /// How often the connection recovered from timeouts (`tcpi_total_rto_recoveries`).
        pub total_rto_recoveries: u16,
        /// The total time of recovery from timeouts, in milliseconds (`tcpi_total_rto_time`).
        pub total_rto_time_ms: u32,
        /// How often another path was requested by a new flow label or hash (`tcpi_rehash`).
        pub rehash: u32,

        /// Congestion window, in segments (`tcpi_snd_cwnd`).
        pub snd_cwnd: u32,
        /// Slow start threshold, in segments (`tcpi_snd_ssthresh`); none before the first loss.
        pub snd_ssthresh: u32,
        /// Slow start threshold of the receive window, in bytes (`tcpi_rcv_ssthresh`).
        pub rcv_ssthresh: u32,
        /// The peer's receive window, in bytes (`tcpi_snd_wnd`).
        pub snd_wnd: u32,
        /// This side's receive window, in bytes (`tcpi_rcv_wnd`).
        pub rcv_wnd: u32,
        /// The receive buffer that the traffic needs, in bytes (`tcpi_rcv_space`).
        pub rcv_space: u32,
        /// Log2 of the scale of the peer's window (`tcpi_snd_wscale`).
        pub snd_wscale: u8,
        /// Log2 of the scale of this side's window (`tcpi_rcv_wscale`).
        pub rcv_wscale: u8,

        /// The recent rate at which data reached the peer, in bytes per second (`tcpi_delivery_rate`).
        pub delivery_rate: u64,
        /// Whether that rate is limited because the application sent too little (`tcpi_delivery_rate_app_limited`).
        pub app_limited: bool,
        /// The rate at which segments are sent, in bytes per second (`tcpi_pacing_rate`); none without a limit.
        pub pacing_rate: u64,
        /// The maximum rate set by the application, in bytes per second (`tcpi_max_pacing_rate`); none without a limit.
        pub max_pacing_rate: u64,
        /// Time during which there was something to send, in microseconds (`tcpi_busy_time`).
        pub busy_time_us: u64,
        /// The part of the busy time in which the peer's window limited sending, in microseconds (`tcpi_rwnd_limited`).
        pub rwnd_limited_us: u64,
        /// The part of the busy time in which the send buffer limited sending, in microseconds (`tcpi_sndbuf_limited`).
        pub sndbuf_limited_us: u64,

        /// The size of segments to the peer, in bytes (`tcpi_snd_mss`).
        pub snd_mss: u32,
        /// The size of segments from the peer, in bytes (`tcpi_rcv_mss`).
        pub rcv_mss: u32,
        /// The maximum segment size that this side advertised, in bytes (`tcpi_advmss`).
        pub advmss: u32,
        /// The path MTU, in bytes (`tcpi_pmtu`).
        pub pmtu: u32,

        /// Bytes of data sent, retransmissions included (`tcpi_bytes_sent`).
        pub bytes_sent: u64,
        /// Bytes of data retransmitted (`tcpi_bytes_retrans`).
        pub bytes_retrans: u64,
        /// Bytes that the peer acknowledged (`tcpi_bytes_acked`).
        pub bytes_acked: u64,
        /// Bytes received and acknowledged (`tcpi_bytes_received`).
        pub bytes_received: u64,
        /// Bytes not sent yet (`tcpi_notsent_bytes`).
        pub notsent_bytes: u32,
        /// Segments sent (`tcpi_segs_out`).
        pub segs_out: u32,
        /// Segments received (`tcpi_segs_in`).
        pub segs_in: u32,
        /// Segments with data sent (`tcpi_data_segs_out`).
        pub data_segs_out: u32,
        /// Segments with data received (`tcpi_data_segs_in`).
        pub data_segs_in: u32,
        /// Segments with data that reached the peer (`tcpi_delivered`).
        pub delivered: u32,
        /// Delivered segments with a congestion mark (`tcpi_delivered_ce`).
        pub delivered_ce: u32,

        /// The time since data was last sent, in milliseconds (`tcpi_last_data_sent`). Like the next two, none before
        /// the first round-trip measurement.
        pub last_data_sent_ms: u32,
        /// The time since data was last received, in milliseconds (`tcpi_last_data_recv`).
        pub last_data_recv_ms: u32,
        /// The time since an acknowledgement was last received, in milliseconds (`tcpi_last_ack_recv`).
        pub last_ack_recv_ms: u32,
    }
}

open_enum! {
    /// The event of a connection at which its [`TcpInfo`] was read.
    pub enum TcpInfoEvent {
        /// The handshake was complete.
        #[default]
        Connected = "connected",
        /// The handshake failed or was cancelled.
        ConnectFailed = "connect-failed",
        /// The first byte from the peer arrived.
        FirstByte = "first-byte",
        /// A request on the connection failed, timed out or was given up.
        RequestFailed = "request-failed",
        /// A request on the connection made no progress.
        Stalled = "stalled",
        /// This side was about to close the connection.
        Closing = "closing",
    }
}

open_enum! {
    /// The state of a TCP connection (RFC 9293 section 3.3.2; the kernel's `net/tcp_states.h`).
    pub enum TcpInfoState {
        /// The connection is established.
        Established = "established",
        /// The SYN was sent.
        SynSent = "syn-sent",
        /// A SYN was received and answered.
        SynRecv = "syn-recv",
        /// This side sent its FIN.
        FinWait1 = "fin-wait-1",
        /// This side's FIN was acknowledged.
        FinWait2 = "fin-wait-2",
        /// Both FINs were acknowledged. The socket waits for late segments.
        TimeWait = "time-wait",
        /// There is no connection.
        #[default]
        Close = "close",
        /// The peer's FIN was received.
        CloseWait = "close-wait",
        /// The peer's FIN was received, and this side sent its own.
        LastAck = "last-ack",
        /// The socket listens for connections.
        Listen = "listen",
        /// Both sides sent a FIN at the same time.
        Closing = "closing",
    }
}

open_enum! {
    /// The state of congestion control (`enum tcp_ca_state` in the kernel's `linux/tcp.h`).
    pub enum CongestionState {
        /// No congestion.
        #[default]
        Open = "open",
        /// Duplicate acknowledgements, or reordered segments.
        Disorder = "disorder",
        /// The window is reduced because a router or the host signalled congestion.
        Cwr = "cwr",
        /// The window was reduced, and lost segments are retransmitted.
        Recovery = "recovery",
        /// A timeout expired, or the peer discarded data that it had acknowledged selectively.
        Loss = "loss",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_values_are_not_written() {
        let empty = serde_json::to_value(TcpInfo::default()).unwrap();
        assert_eq!(empty, serde_json::json!({"at": "undefined", "event": "connected"}));
        let zero = TcpInfo { lost: Some(0), rtt_us: Some(7), ..TcpInfo::default() };
        let json = serde_json::to_string(&zero).unwrap();
        assert_eq!(json, r#"{"at":"undefined","event":"connected","rttUs":7,"lost":0}"#);
        assert_eq!(serde_json::from_str::<TcpInfo>(&json).unwrap(), zero);
    }
}
