//! [`TracingEvents`]: finished records as events of the crate `tracing`.
#![cfg(all(feature = "client", any(feature = "ring", feature = "aws-lc-rs")))]

use std::sync::Mutex;
use std::time::Duration;
use std::{fs, io};

use nettrace::record::EndReason;
use nettrace::tls::Roots;
use nettrace::{Client, FinishedRecord, RecordKind, Subscriber as _, TraceSink, TracingEvents};
use tempfile::NamedTempFile;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, layer::SubscriberExt as _};

use test_support::check;
use test_support::collector::Collector;
use test_support::dns::DnsServer;
use test_support::pki::Authority;
use test_support::raw::Refused;
use test_support::web::{Web, redirect, reply, status};

fn collector_and_sink() -> (Collector, TraceSink) {
    (Collector::default(), TraceSink::builder().subscriber(TracingEvents::new()).build())
}

#[tokio::test]
async fn each_record_of_a_request_is_one_event() {
    let (collector, sink) = collector_and_sink();
    let _guard = tracing::subscriber::set_default(collector.clone());
    let authority = Authority::new("known");
    let web = Web::tls(authority.issue(&["web.test"]).server(), async |request| match request.path() {
        "/a" => redirect(302, "/b"),
        _ => reply("hello"),
    });
    let dns = DnsServer::answering(&["127.0.0.1"]).await;
    let roots = Roots::from_pem(authority.pem()).unwrap();
    let client = Client::builder(&sink).nameservers([dns.addr()]).roots(roots).build().unwrap();
    let port = web.addr().port();
    let url = format!("https://web.test:{port}/a?q=1");
    client.get(&url).await.unwrap().into_body().bytes().await.unwrap();
    client.close().await;

    let trace = sink.snapshot("");
    check::finished(&trace);
    let records = trace.http_requests.len()
        + trace.dials.len()
        + trace.tcp_conns.len()
        + trace.udp_conns.len()
        + trace.dns_queries.len()
        + trace.tls_tunnels.len();
    assert_eq!(collector.all().len(), records, "one event per record: {:#?}", collector.all());

    let [a, b] = &collector.events("nettrace::http")[..] else { panic!("not two hops") };
    assert_eq!((a.level, b.level), (Level::INFO, Level::INFO));
    for (field, value) in [
        ("http.request.method", "GET"),
        ("url.full", &*url),
        ("server.address", "web.test"),
        ("server.port", &port.to_string()),
        ("http.response.status_code", "302"),
        ("network.protocol.version", "1.1"),
        ("nettrace.end_reason", "closed"),
        ("error.type", ""),
        ("message", &format!("GET {url} 302")),
    ] {
        assert_eq!(a.get(field), value, "{field}");
    }
    let [dial] = &collector.events("nettrace::dial")[..] else { panic!("not one dial") };
    let [tls] = &collector.events("nettrace::tls")[..] else { panic!("not one tunnel") };
    let [tcp] = &collector.events("nettrace::tcp")[..] else { panic!("not one connection") };
    assert!([dial, tls, tcp].iter().all(|event| event.level == Level::DEBUG));
    // The events are linked like the records of the trace.
    assert_eq!(b.get("nettrace.prev_hop"), a.get("nettrace.id"));
    assert_eq!(dial.get("nettrace.request"), a.get("nettrace.id"));
    for event in [a, b, tls] {
        assert_eq!(event.get("nettrace.conn"), tcp.get("nettrace.id"));
    }
    assert_eq!(dial.get("nettrace.conn"), tcp.get("nettrace.id"));
    assert_eq!(a.get("nettrace.tunnel"), tls.get("nettrace.id"));
    assert_eq!(tcp.get("nettrace.dial"), dial.get("nettrace.id"));
    assert_eq!(a.get("nettrace.id"), trace.http_requests[0].trace_id.as_str());

    assert_eq!((tls.get("server.address"), tls.get("tls.protocol.version")), ("web.test", "1.3"));
    assert_eq!(tls.get("tls.server.hash.sha256"), trace.tls_tunnels[0].peer_certs[0].sha256);
    assert_eq!(
        (tcp.get("network.peer.address"), tcp.get("network.peer.port")),
        ("127.0.0.1", &*port.to_string())
    );
    let asked = collector.events("nettrace::dns");
    assert!(asked.iter().all(|event| event.get("dns.question.name") == "web.test."));
    assert!(asked.iter().any(|event| event.get("dns.answers") == "127.0.0.1"), "{asked:#?}");
    assert!(asked.iter().all(|event| event.get("nettrace.dial") == dial.get("nettrace.id")));
    let took: f64 = a.get("duration_ms").parse().unwrap();
    assert!(took > 0.0 && took < 60_000.0);
}

#[tokio::test]
async fn failures_are_warnings_with_their_code() {
    let (collector, sink) = collector_and_sink();
    let _guard = tracing::subscriber::set_default(collector.clone());
    let refused = Refused::on("127.0.0.1:0");
    let client = Client::builder(&sink).build().unwrap();
    client.get(format!("http://joe:secret@{}/", refused.addr)).await.unwrap_err();
    for target in ["nettrace::http", "nettrace::dial", "nettrace::tcp"] {
        let [event] = &collector.events(target)[..] else { panic!("{target}") };
        assert_eq!((event.level, event.get("error.type")), (Level::WARN, "connection_refused"), "{target}");
        assert!(event.get("error.message").contains("Connection refused"), "{target}");
    }
    assert!(!format!("{:?}", collector.all()).contains("secret"));

    // A response with an error status is no failure, and a cancelled request is none either.
    let web = Web::start(async |_| status(503));
    client.get(web.url("/")).await.unwrap();
    drop(client.get(web.url("/")).await);
    let last = collector.events("nettrace::http").pop().unwrap();
    assert_eq!((last.level, last.get("error.type")), (Level::INFO, "503"));
    let hanging = test_support::raw::Server::start(async |conn| conn.hang().await);
    let mut sent = Box::pin(client.get(format!("http://{}/", hanging.addr())));
    assert!(futures_util::poll!(&mut sent).is_pending());
    drop(sent);
    let last = collector.events("nettrace::http").pop().unwrap();
    assert_eq!((last.level, last.get("nettrace.end_reason")), (Level::INFO, "cancelled"));
    client.close().await;
}

#[tokio::test]
async fn the_event_of_a_request_says_where_its_time_went() {
    let (collector, sink) = collector_and_sink();
    let _guard = tracing::subscriber::set_default(collector.clone());
    let web = Web::start(async |_| reply("hello"));
    let client = Client::builder(&sink).build().unwrap();
    for _ in 0..2 {
        client.get(web.url("/")).await.unwrap().into_body().bytes().await.unwrap();
    }
    client.close().await;
    let trace = sink.snapshot("");
    let [first, second] = &collector.events("nettrace::http")[..] else { panic!("not two requests") };
    for (event, record) in [first, second].into_iter().zip(&trace.http_requests) {
        let timings = record.timings(&trace);
        let expected = [
            ("blocked_ms", timings.blocked),
            ("dns_ms", timings.dns),
            ("connect_ms", timings.connect),
            ("proxy_ms", timings.proxy),
            ("tls_ms", timings.tls),
            ("send_ms", timings.send),
            ("wait_ms", timings.wait),
            ("receive_ms", timings.receive),
        ];
        for (field, time) in expected {
            let text = time.map(|time| format!("{:?}", time.as_secs_f64() * 1e3)).unwrap_or_default();
            assert_eq!(event.get(field), text, "{field}");
        }
        assert_eq!(event.get("network.peer.address"), "127.0.0.1");
        assert_eq!(event.get("network.peer.port"), web.addr().port().to_string());
        assert_eq!((event.get("nettrace.cause"), event.get("nettrace.verdict")), ("", ""));
    }
    assert_eq!((first.get("nettrace.conn_reused"), second.get("nettrace.conn_reused")), ("false", "true"));
    assert!(!first.get("connect_ms").is_empty() && second.get("connect_ms").is_empty());
}

#[cfg(feature = "explain")]
#[tokio::test]
async fn the_event_of_a_request_that_failed_says_why() {
    let (collector, sink) = collector_and_sink();
    let _guard = tracing::subscriber::set_default(collector.clone());
    let refused = Refused::on("127.0.0.1:0");
    let client = Client::builder(&sink).build().unwrap();
    client.get(format!("http://{}/", refused.addr)).await.unwrap_err();
    let [event] = &collector.events("nettrace::http")[..] else { panic!("not one request") };
    assert_eq!(event.get("nettrace.cause"), "tcp_refused");
    assert!(event.get("nettrace.verdict").contains(&refused.addr.to_string()), "{event:?}");
}

/// A slow success has the code of the cause, without the sentence. Here every request counts as slow.
#[cfg(feature = "explain")]
#[tokio::test]
async fn the_event_of_a_slow_request_names_the_cause() {
    for brief in [false, true] {
        let collector = Collector::default();
        let _guard = tracing::subscriber::set_default(collector.clone());
        let events = TracingEvents::new().explain_slower_than(Duration::ZERO).brief(brief);
        let sink = TraceSink::builder().subscriber(events).build();
        let web = Web::start(async |request| match request.path() {
            "/5" => reply("hello"),
            path => redirect(302, &format!("/{}", path[1..].parse::<u32>().unwrap() + 1)),
        });
        let client = Client::builder(&sink).build().unwrap();
        client.get(web.url("/1")).await.unwrap().into_body().bytes().await.unwrap();
        let last = collector.events("nettrace::http").pop().unwrap();
        assert_eq!(last.get("nettrace.cause"), "http_redirect_detour", "{last:?}");
        assert_eq!((last.level, last.get("nettrace.verdict")), (Level::INFO, ""));
        client.close().await;
    }
}

/// A subscriber that passes records on to another one passes requests on, too.
#[tokio::test]
async fn a_record_that_is_passed_on_is_an_event() {
    let collector = Collector::default();
    let _guard = tracing::subscriber::set_default(collector.clone());
    let passes_on = |record: &FinishedRecord| TracingEvents::new().finished(record);
    let sink = TraceSink::builder().subscriber(passes_on).build();
    let web = Web::start(async |_| reply("hello"));
    let client = Client::builder(&sink).build().unwrap();
    client.get(web.url("/")).await.unwrap().into_body().bytes().await.unwrap();
    let [event] = &collector.events("nettrace::http")[..] else { panic!("not one request") };
    assert_eq!((event.get("http.response.status_code"), event.get("network.peer.port")), ("200", ""));
    client.close().await;
}

#[tokio::test]
async fn a_brief_event_has_few_fields_unless_the_request_failed() {
    let collector = Collector::default();
    let sink = TraceSink::builder().subscriber(TracingEvents::new().brief(true)).build();
    let _guard = tracing::subscriber::set_default(collector.clone());
    let web = Web::start(async |_| status(404));
    let client = Client::builder(&sink).build().unwrap();
    let url = web.url("/a?b");
    client.get(&url).await.unwrap().into_body().bytes().await.unwrap();
    let [event] = &collector.events("nettrace::http")[..] else { panic!("not one request") };
    let fields: Vec<_> = event.fields.keys().map(String::as_str).collect();
    assert_eq!(fields, ["duration_ms", "message", "nettrace.id", "url.full"]);
    assert_eq!((event.level, event.get("message"), event.get("url.full")), (Level::INFO, "GET 404", &*url));

    let refused = Refused::on("127.0.0.1:0");
    client.get(format!("http://{}/", refused.addr)).await.unwrap_err();
    let failed = collector.events("nettrace::http").pop().unwrap();
    assert_eq!((failed.level, failed.get("error.type")), (Level::WARN, "connection_refused"));
    assert_eq!(failed.get("http.request.method"), "GET");
    client.close().await;
}

#[tokio::test]
async fn events_contain_no_header_fields() {
    let collector = Collector::default();
    let sink = TraceSink::builder().headers(nettrace::HeaderCapture::Values).mask_query(true);
    let sink = sink.subscriber(TracingEvents::new()).build();
    let _guard = tracing::subscriber::set_default(collector.clone());
    let web = Web::start(async |_| reply("hello"));
    let client = Client::builder(&sink).build().unwrap();
    let mut request =
        http::Request::get(web.url("/?token=secret")).body(nettrace::client::Body::empty()).unwrap();
    request.headers_mut().insert("x-key", "secret".parse().unwrap());
    client.request(request).await.unwrap().into_body().bytes().await.unwrap();
    client.close().await;
    assert!(
        serde_json::to_string(&sink.snapshot("")).unwrap().contains("secret"),
        "the trace contains header values"
    );
    assert_eq!(collector.events("nettrace::http")[0].get("url.full"), web.url("/?***"));
    assert!(!format!("{:?}", collector.all()).contains("secret"));
}

#[tokio::test]
async fn an_address_family_without_addresses_is_no_warning() {
    let (collector, sink) = collector_and_sink();
    let _guard = tracing::subscriber::set_default(collector.clone());
    let web = Web::start(async |_| reply("hello"));
    let dns = DnsServer::answering(&["127.0.0.1"]).await;
    let client = Client::builder(&sink).nameservers([dns.addr()]).build().unwrap();
    let url = format!("http://web.test:{}/", web.addr().port());
    client.get(&url).await.unwrap().into_body().bytes().await.unwrap();
    let asked = collector.events("nettrace::dns");
    assert_eq!(asked.len(), 2);
    let [none] = &asked.iter().filter(|event| event.get("dns.answers").is_empty()).collect::<Vec<_>>()[..]
    else {
        panic!("{asked:#?}")
    };
    assert_eq!((none.get("nettrace.dns.types"), none.get("error.type")), ("AAAA", "dns_no_answer"));
    assert!(collector.all().iter().all(|event| event.level != Level::WARN), "{:#?}", collector.all());

    // If neither family has addresses, the dial fails, and the dial is the warning.
    let nothing = DnsServer::answering(&[]).await;
    let client = Client::builder(&sink).nameservers([nothing.addr()]).build().unwrap();
    client.get(&url).await.unwrap_err();
    let warned: Vec<_> = collector.all().into_iter().filter(|event| event.level == Level::WARN).collect();
    let warned: Vec<_> =
        warned.iter().map(|event| (event.target.as_str(), event.get("error.type"))).collect();
    assert_eq!(warned, [("nettrace::dial", "dns_no_answer"), ("nettrace::http", "dns_no_answer")]);
}

/// A filter of a single layer keeps its answer about an event until that event comes: here for a record that would be a
/// warning, and is none.
#[test]
fn asking_for_interest_hides_no_event_of_the_program() {
    let log = NamedTempFile::new().unwrap();
    let errors = fmt::layer().with_writer(Mutex::new(log.reopen().unwrap())).with_filter(LevelFilter::ERROR);
    let others = fmt::layer().with_writer(io::sink).with_filter(LevelFilter::INFO);
    let _guard = tracing_subscriber::registry().with(errors).with(others).set_default();
    assert!(TracingEvents::new().is_interested(RecordKind::DnsQuery, &EndReason::Failed));
    tracing::error!("the program's own");
    assert!(fs::read_to_string(log.path()).unwrap().contains("the program's own"));
}

#[test]
fn events_that_nobody_takes_are_of_no_interest() {
    let events = TracingEvents::new();
    let is_interested = |kind| events.is_interested(kind, &EndReason::Closed);
    for (directives, request, dial) in
        [("info", true, false), ("debug", true, true), ("debug,nettrace=off", false, false)]
    {
        let _guard =
            tracing_subscriber::fmt().with_env_filter(directives).with_writer(io::sink).set_default();
        assert_eq!(is_interested(RecordKind::HttpRequest), request, "{directives}");
        assert_eq!(is_interested(RecordKind::Dial), dial, "{directives}");
    }
    // Without a subscriber, `tracing` may hand events to the crate `log`.
    assert!(is_interested(RecordKind::Dial));
}
