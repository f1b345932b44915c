//! Tests readings of `TCP_INFO` against ss(8).

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nettrace::connect::TcpConnector;
use nettrace::linux::TcpInfoProbe;
use nettrace::record::{TcpConnTrace, TcpInfo, TcpInfoEvent, TcpInfoState};
use nettrace::{ConnRef, Probe, ProbeEvent, ProbeSocket, TraceSink};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::drawn;
use test_support::check;
use test_support::lab::{Delay, Hook, Ns, Pair, Routed};
use test_support::require::{require_lab, require_tool};

fn sink() -> TraceSink {
    TraceSink::builder().probe(TcpInfoProbe::new()).build()
}

fn the_conn(sink: &TraceSink) -> TcpConnTrace {
    let trace = sink.snapshot("all");
    check::finished(&trace);
    let [conn] = &trace.tcp_conns[..] else { panic!("one connection: {trace:#?}") };
    conn.clone()
}

fn events(conn: &TcpConnTrace) -> Vec<TcpInfoEvent> {
    conn.tcp_info.iter().map(|info| info.event.clone()).collect()
}

/// 50 ms of delay, and every twentieth segment is lost.
#[test]
fn round_trips_and_retransmissions_are_those_of_ss() {
    require_lab!();
    require_tool!("ss");
    let net = Routed::with_delay(Delay::All(Duration::from_millis(25)));
    net.client.sh("ip link set c0 gso_max_segs 1"); // that one packet is one segment
    // The first one is not among them: to send it again would take a second.
    net.router.nft(Hook::Forward, "tcp dport 7 numgen inc mod 20 19 drop");
    for ip in Routed::SERVER.ips() {
        let (addr, server) = swallowing(&net.server, ip);
        let sink = sink();
        let seen = net.client.block_on(async {
            let mut stream = TcpConnector::new(&sink).connect(addr).await.expect("a connection");
            stream.write_all(&[7; BULK]).await.expect("sent");
            assert_eq!(stream.read_u8().await.expect("the confirmation"), 7);
            // No segment is in flight any more.
            ss(&net.client, addr)
        });
        server.join().expect("the server");

        let conn = the_conn(&sink);
        assert_eq!(events(&conn), [TcpInfoEvent::Connected, TcpInfoEvent::FirstByte, TcpInfoEvent::Closing]);
        let [connected, first, closing] = &conn.tcp_info[..] else { unreachable!() };
        assert_eq!(connected.congestion_control.as_deref(), Some(seen.algorithm.as_str()));
        assert_eq!(connected.state, Some(TcpInfoState::Established));
        for info in [connected, first, closing] {
            let rtt = info.rtt_us.expect("a round trip was measured");
            assert!((50_000..200_000).contains(&rtt), "{rtt} µs");
            assert!(info.min_rtt_us.expect("it, too") >= 50_000);
        }
        assert_eq!(connected.total_retrans, Some(0));

        let lost = BULK / closing.snd_mss.expect("the size of a segment") as usize / 20;
        let again = closing.total_retrans.expect("it is counted") as usize;
        assert!((lost / 2..lost * 4).contains(&again), "{again} segments were sent again, of about {lost}");
        assert_eq!(seen.pair("retrans"), (0.0, again as f64));
        assert_eq!(seen.pair("rtt"), (ms(closing.rtt_us), ms(closing.rttvar_us)));
        let expected = [
            ("minrtt", ms(closing.min_rtt_us)),
            ("mss", closing.snd_mss.unwrap().into()),
            ("pmtu", closing.pmtu.unwrap().into()),
            ("cwnd", closing.snd_cwnd.unwrap().into()),
            ("bytes_sent", closing.bytes_sent.unwrap() as f64),
            ("bytes_retrans", closing.bytes_retrans.unwrap() as f64),
            ("bytes_acked", closing.bytes_acked.unwrap() as f64),
            ("bytes_received", closing.bytes_received.unwrap() as f64),
            ("data_segs_out", closing.data_segs_out.unwrap().into()),
            ("data_segs_in", closing.data_segs_in.unwrap().into()),
            ("delivered", closing.delivered.unwrap().into()),
            ("delivery_rate", closing.delivery_rate.unwrap() as f64 * 8.0),
            ("busy", (closing.busy_time_us.unwrap() / 1000) as f64),
        ];
        let said = expected.map(|(name, _)| (name, seen.number(name)));
        assert_eq!(said, expected, "{}", seen.text);
        // Some algorithms, such as bbr, have none.
        assert_eq!(seen.fields.contains_key("ssthresh"), closing.snd_ssthresh.is_some(), "{}", seen.text);
        let sent = closing.bytes_sent.unwrap() - closing.bytes_retrans.unwrap();
        assert_eq!(sent, BULK as u64);

        let drawn = drawn(&sink.snapshot("all"));
        assert!(drawn.contains(&format!("{again} segments sent again")), "{drawn}");
        assert!(drawn.contains(" · rtt "), "{drawn}");
    }
    const BULK: usize = 400_000;
}

/// Starts a server that reads `BULK` bytes and then sends one.
fn swallowing(ns: &Ns, ip: IpAddr) -> (SocketAddr, JoinHandle<()>) {
    let listener: TcpListener = ns.listen(&SocketAddr::new(ip, 7).to_string());
    let addr = listener.local_addr().expect("it listens");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.read_exact(&mut vec![0; 400_000]).expect("the bytes");
        stream.write_all(&[7]).expect("the confirmation");
        assert_eq!(stream.read(&mut [0]).expect("its end"), 0);
    });
    (addr, server)
}

/// The output of `ss -ti` for the one connection to an address.
struct SsOutput {
    text: String,
    algorithm: String,
    fields: HashMap<String, String>,
}

/// Returns what `ss -ti` says of the only connection to that address.
fn ss(ns: &Ns, to: SocketAddr) -> SsOutput {
    let text = ns.sh(&format!("ss -Htin dst '{to}'"));
    let (_, details) = text.trim_end().split_once("\n\t ").unwrap_or_else(|| panic!("no details: {text}"));
    let words: Vec<&str> = details.split_whitespace().collect();
    let pairs = words.iter().filter_map(|word| word.split_once(':'));
    // Rates follow their names.
    let rates = words.windows(2).filter_map(|pair| Some((pair[0], pair[1].strip_suffix("bps")?)));
    let fields = pairs.chain(rates).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    SsOutput { algorithm: words[0].to_owned(), fields, text }
}

impl SsOutput {
    #[track_caller]
    fn number(&self, name: &str) -> f64 {
        let value = self.fields.get(name).unwrap_or_else(|| panic!("no {name}: {}", self.text));
        value.trim_end_matches("ms").parse().unwrap_or_else(|_| panic!("{name} {value}: {}", self.text))
    }

    #[track_caller]
    fn pair(&self, name: &str) -> (f64, f64) {
        let (a, b) = self.fields.get(name).and_then(|value| value.split_once('/')).expect(name);
        (a.parse().expect(name), b.parse().expect(name))
    }
}

/// Returns milliseconds, as ss prints them.
fn ms(micros: Option<u32>) -> f64 {
    f64::from(micros.expect("it was measured")) / 1000.0
}

#[test]
fn retransmitted_syns_are_counted() {
    require_lab!();
    let net = Pair::new();
    net.server.nft(Hook::Input, "tcp dport 9 drop");
    net.client.sysctl("net/ipv4/tcp_syn_retries", "1");
    let addrs = Pair::SERVER.ips().map(|ip| SocketAddr::new(ip, 9));
    // After one second the SYN is sent again, after three the kernel gives up.
    for (own_timeout, state) in
        [(Some(Duration::from_millis(1500)), TcpInfoState::SynSent), (None, TcpInfoState::Close)]
    {
        let sinks = [sink(), sink()];
        net.client.block_on(async {
            let connect = |i: usize| {
                let connector = TcpConnector::new(&sinks[i]).handshake_timeout(own_timeout);
                async move { connector.connect(addrs[i]).await.unwrap_err() }
            };
            tokio::join!(connect(0), connect(1))
        });
        for sink in sinks {
            let conn = the_conn(&sink);
            assert_eq!(events(&conn), [TcpInfoEvent::ConnectFailed]);
            let info = &conn.tcp_info[0];
            let again = info.total_retrans.expect("they are counted");
            assert_eq!((info.state.as_ref(), info.segs_out), (Some(&state), Some(1 + again)), "{info:?}");
            assert!(again >= 1, "{info:?}");
            let of_an_exchange =
                [info.rtt_us, info.min_rtt_us, info.last_data_sent_ms, info.last_ack_recv_ms];
            assert_eq!(of_an_exchange, [None; 4]);
            assert_eq!(conn.icmp_error, None);
            let drawn = drawn(&sink.snapshot("all"));
            let syns = if again == 1 { "SYN" } else { "SYNs" };
            assert!(drawn.contains(&format!("{again} {syns} sent again")), "{drawn}");
        }
    }
}

/// A probe that gives more readings than are kept.
struct Eager;

impl Probe for Eager {
    fn event(&self, conn: &ConnRef, event: ProbeEvent, _: ProbeSocket<'_>) {
        for lost in 0..3 {
            let mut info = TcpInfo::default();
            info.lost = Some(lost);
            conn.tcp_info(event, info);
        }
    }
}

#[tokio::test]
async fn the_first_reading_of_each_event_is_kept() {
    let sink = TraceSink::builder().probe(Eager).build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpConnector::new(&sink).connect(listener.local_addr().unwrap()).await.unwrap();
    let conn = stream.conn_ref().unwrap().clone();
    drop(stream);
    let trace = sink.snapshot("all");
    conn.tcp_info(ProbeEvent::FirstByte, TcpInfo::default()); // too late
    let mut again = sink.snapshot("all");
    again.trace_end_at = trace.trace_end_at;
    assert_eq!(again, trace);

    let conn = the_conn(&sink);
    assert_eq!(events(&conn), [TcpInfoEvent::Connected, TcpInfoEvent::Closing]);
    assert!(conn.tcp_info.iter().all(|info| info.lost == Some(0) && !info.at.is_undefined()));
}

#[tokio::test]
async fn without_the_probe_there_are_no_readings() {
    let sink = TraceSink::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    drop(TcpConnector::new(&sink).connect(listener.local_addr().unwrap()).await.unwrap());
    let conn = the_conn(&sink);
    assert!(conn.tcp_info.is_empty() && conn.icmp_error.is_none());
}
