use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::{Text, Timestamp};

/// Defines the struct. Whatever is listed is optional: `None` is left out of the JSON.
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
    /// What the kernel knew of a TCP connection at one moment: `TCP_INFO` of tcp(7), which `ss -ti` shows.
    ///
    /// Each field names its counterpart in `struct tcp_info` of the kernel's `linux/tcp.h`. A field is `None`
    /// where the kernel is too old to have it, and where the value stands for "not known" or "without limit".
    /// What is counted is counted since the connection began.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    #[non_exhaustive]
    pub struct TcpInfo {
        /// When it was read.
        pub at: Timestamp,
        /// What had just happened.
        pub event: TcpInfoEvent,
        ..
        /// The state of the connection (`tcpi_state`).
        pub state: TcpInfoState,
        /// What congestion control is about (`tcpi_ca_state`).
        pub congestion_state: CongestionState,
        /// The algorithm of congestion control, such as `cubic` (`TCP_CONGESTION`); said once, when connected.
        pub congestion_control: Text,

        /// Smoothed round-trip time, in microseconds (`tcpi_rtt`); none before the first measurement.
        pub rtt_us: u32,
        /// Mean deviation of the round-trip time, in microseconds (`tcpi_rttvar`); none before the first
        /// measurement.
        pub rttvar_us: u32,
        /// The least round-trip time of late, in microseconds (`tcpi_min_rtt`); none before the first measurement.
        pub min_rtt_us: u32,
        /// The receiver's estimate of the round-trip time, in microseconds (`tcpi_rcv_rtt`); none before there is
        /// one.
        pub rcv_rtt_us: u32,
        /// After how long without an acknowledgement a segment is sent again, in microseconds (`tcpi_rto`).
        pub rto_us: u32,
        /// The delay of our own acknowledgements, in microseconds (`tcpi_ato`).
        pub ato_us: u32,

        /// Timeouts in a row of the segment that is now waited for, SYNs included (`tcpi_retransmits`).
        pub retransmits: u8,
        /// Segments that were sent again, SYNs included (`tcpi_total_retrans`).
        pub total_retrans: u32,
        /// Segments in flight that were sent again (`tcpi_retrans`).
        pub retrans: u32,
        /// Segments in flight that are held to be lost (`tcpi_lost`).
        pub lost: u32,
        /// Segments in flight (`tcpi_unacked`).
        pub unacked: u32,
        /// Segments that the peer has beyond a hole (`tcpi_sacked`).
        pub sacked: u32,
        /// Window and keep-alive probes that were not answered (`tcpi_probes`).
        pub probes: u8,
        /// How often the timeout was doubled (`tcpi_backoff`).
        pub backoff: u8,
        /// Segments by which the order may change before that is taken for a loss (`tcpi_reordering`).
        pub reordering: u32,
        /// How often segments came out of order to the peer (`tcpi_reord_seen`).
        pub reord_seen: u32,
        /// Segments that came out of order to us (`tcpi_rcv_ooopack`).
        pub rcv_ooopack: u32,
        /// Segments that the peer received twice (`tcpi_dsack_dups`).
        pub dsack_dups: u32,
        /// Timeouts, all in all (`tcpi_total_rto`).
        pub total_rto: u16,
        /// How often the connection came back from timeouts (`tcpi_total_rto_recoveries`).
        pub total_rto_recoveries: u16,
        /// Time spent to come back from timeouts, in milliseconds (`tcpi_total_rto_time`).
        pub total_rto_time_ms: u32,
        /// How often another path was asked for by a new flow label or hash (`tcpi_rehash`).
        pub rehash: u32,

        /// Congestion window, in segments (`tcpi_snd_cwnd`).
        pub snd_cwnd: u32,
        /// Slow start threshold, in segments (`tcpi_snd_ssthresh`); none while nothing was lost.
        pub snd_ssthresh: u32,
        /// Slow start threshold of the receive window, in bytes (`tcpi_rcv_ssthresh`).
        pub rcv_ssthresh: u32,
        /// The peer's receive window, in bytes (`tcpi_snd_wnd`).
        pub snd_wnd: u32,
        /// Our receive window, in bytes (`tcpi_rcv_wnd`).
        pub rcv_wnd: u32,
        /// The receive buffer that the traffic asks for, in bytes (`tcpi_rcv_space`).
        pub rcv_space: u32,
        /// Log2 of the scale of the peer's window (`tcpi_snd_wscale`).
        pub snd_wscale: u8,
        /// Log2 of the scale of our window (`tcpi_rcv_wscale`).
        pub rcv_wscale: u8,

        /// The rate at which data reached the peer of late, in bytes per second (`tcpi_delivery_rate`).
        pub delivery_rate: u64,
        /// Whether that rate is low because there was nothing to send (`tcpi_delivery_rate_app_limited`).
        pub app_limited: bool,
        /// The rate at which segments are sent, in bytes per second (`tcpi_pacing_rate`); none without a limit.
        pub pacing_rate: u64,
        /// The most that the application allows, in bytes per second (`tcpi_max_pacing_rate`); none without a limit.
        pub max_pacing_rate: u64,
        /// Time during which there was something to send, in microseconds (`tcpi_busy_time`).
        pub busy_time_us: u64,
        /// Of the busy time: what the peer's window held back, in microseconds (`tcpi_rwnd_limited`).
        pub rwnd_limited_us: u64,
        /// Of the busy time: what our send buffer held back, in microseconds (`tcpi_sndbuf_limited`).
        pub sndbuf_limited_us: u64,

        /// The size of segments to the peer, in bytes (`tcpi_snd_mss`).
        pub snd_mss: u32,
        /// The size of segments from the peer, in bytes (`tcpi_rcv_mss`).
        pub rcv_mss: u32,
        /// The size of segments that we said we take, in bytes (`tcpi_advmss`).
        pub advmss: u32,
        /// What the path takes in one packet, in bytes (`tcpi_pmtu`).
        pub pmtu: u32,

        /// Bytes of data sent, those sent again included (`tcpi_bytes_sent`).
        pub bytes_sent: u64,
        /// Bytes of data sent again (`tcpi_bytes_retrans`).
        pub bytes_retrans: u64,
        /// Bytes that the peer acknowledged (`tcpi_bytes_acked`).
        pub bytes_acked: u64,
        /// Bytes that came and were acknowledged (`tcpi_bytes_received`).
        pub bytes_received: u64,
        /// Bytes that wait to be sent for the first time (`tcpi_notsent_bytes`).
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
        /// Of these, with a mark of congestion (`tcpi_delivered_ce`).
        pub delivered_ce: u32,

        /// For how long no data was sent, in milliseconds (`tcpi_last_data_sent`); as the other two, none before the
        /// first measurement of a round trip.
        pub last_data_sent_ms: u32,
        /// For how long no data was received, in milliseconds (`tcpi_last_data_recv`).
        pub last_data_recv_ms: u32,
        /// For how long no acknowledgement was received, in milliseconds (`tcpi_last_ack_recv`).
        pub last_ack_recv_ms: u32,
    }
}

open_enum! {
    /// What happened to a connection just before its [`TcpInfo`] was read.
    pub enum TcpInfoEvent {
        /// The handshake was complete.
        #[default]
        Connected = "connected",
        /// The handshake failed, or was given up.
        ConnectFailed = "connect-failed",
        /// The first byte came from the peer.
        FirstByte = "first-byte",
        /// Our side was about to close the connection.
        Closing = "closing",
    }
}

open_enum! {
    /// The state of a TCP connection (RFC 9293 section 3.3.2; the kernel's `net/tcp_states.h`).
    pub enum TcpInfoState {
        /// Data goes both ways.
        Established = "established",
        /// The SYN was sent.
        SynSent = "syn-sent",
        /// A SYN was answered.
        SynRecv = "syn-recv",
        /// Our FIN was sent.
        FinWait1 = "fin-wait-1",
        /// Our FIN was acknowledged.
        FinWait2 = "fin-wait-2",
        /// Both FINs were acknowledged; late segments are waited for.
        TimeWait = "time-wait",
        /// There is no connection, or none any more.
        #[default]
        Close = "close",
        /// The peer's FIN came.
        CloseWait = "close-wait",
        /// The peer's FIN came, and ours was sent.
        LastAck = "last-ack",
        /// Connections are waited for.
        Listen = "listen",
        /// Both FINs were sent at once.
        Closing = "closing",
    }
}

open_enum! {
    /// What congestion control is about (`enum tcp_ca_state` in the kernel's `linux/tcp.h`).
    pub enum CongestionState {
        /// Nothing is amiss.
        #[default]
        Open = "open",
        /// Acknowledgements came twice, or segments out of order.
        Disorder = "disorder",
        /// The window shrinks because a router or the peer asked for it.
        Cwr = "cwr",
        /// The window was reduced, and lost segments are sent again.
        Recovery = "recovery",
        /// A timeout, or the peer threw away what it had.
        Loss = "loss",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_written() {
        let empty = serde_json::to_value(TcpInfo::default()).unwrap();
        assert_eq!(empty, serde_json::json!({"at": "undefined", "event": "connected"}));
        let zero = TcpInfo { lost: Some(0), rtt_us: Some(7), ..TcpInfo::default() };
        let json = serde_json::to_string(&zero).unwrap();
        assert_eq!(json, r#"{"at":"undefined","event":"connected","rttUs":7,"lost":0}"#);
        assert_eq!(serde_json::from_str::<TcpInfo>(&json).unwrap(), zero);
    }
}
