//! The metrics, read by a parser of another project.

use std::{collections::BTreeMap, io::ErrorKind};

use nettrace::{
    Retention, TraceSink,
    debug_page::{DebugPage, Metrics},
};
use prometheus_parse::{Scrape, Value};

use crate::fixture::{fail, fetch, get, serve};

fn page(retention: Retention) -> (TraceSink, DebugPage) {
    let metrics = Metrics::new();
    let sink = TraceSink::builder().retention(retention).subscriber(metrics.clone()).build();
    let page = DebugPage::new(&sink).metrics(&metrics);
    (sink, page)
}

/// Returns the samples that go up alone, and the others, by name and labels.
async fn scrape(page: &DebugPage) -> (BTreeMap<String, f64>, BTreeMap<String, f64>) {
    let response = get(page, "/metrics").await;
    assert_eq!(response.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let scrape = Scrape::parse(response.text.lines().map(|line| Ok(line.to_owned()))).unwrap();
    let (mut counters, mut gauges) = (BTreeMap::new(), BTreeMap::new());
    for sample in scrape.samples {
        let labels: BTreeMap<_, _> = sample.labels.iter().collect();
        let name = format!("{} {labels:?}", sample.metric);
        match sample.value {
            Value::Counter(value) => assert!(counters.insert(name, value).is_none()),
            Value::Gauge(value) => assert!(gauges.insert(name, value).is_none()),
            Value::Histogram(buckets) => {
                let mut below = 0.0;
                for bucket in buckets {
                    assert!(bucket.count >= below, "{name}: buckets are cumulative");
                    below = bucket.count;
                    counters.insert(format!("{name} {}", bucket.less_than), bucket.count);
                }
            }
            // The sum and the count of a histogram have no type of their own.
            Value::Untyped(value) => {
                assert!(sample.metric.ends_with("_sum") || sample.metric.ends_with("_count"), "{name}");
                counters.insert(name, value);
            }
            Value::Summary(_) => panic!("there is no summary"),
        }
    }
    (counters, gauges)
}

#[tokio::test]
async fn requests_are_counted_by_host_and_outcome() {
    let (sink, page) = page(Retention::bounded());
    for status in [200, 204, 404, 503] {
        fetch(&sink, "http://a.test:81/", status).await;
    }
    fail(&sink, "http://a.test:81/", ErrorKind::ConnectionRefused, "refused").await;
    serve(&sink, "/order", 200).await;
    let (counters, gauges) = scrape(&page).await;
    let of = |name: &str, labels: &[(&str, &str)]| {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let name = format!("{name} {labels:?}");
        counters.get(&name).or_else(|| gauges.get(&name)).copied()
    };
    let a = [("host", "a.test:81"), ("side", "client")];
    let with = |label: (&'static str, &'static str)| [&a[..], &[label]].concat();
    assert_eq!(of("nettrace_requests_total", &a), Some(5.0));
    assert_eq!(of("nettrace_requests_total", &[("host", "shop.test"), ("side", "server")]), Some(1.0));
    let failures = of("nettrace_request_failures_total", &with(("code", "connection_refused")));
    assert_eq!(failures, Some(1.0));
    for (class, count) in [("2xx", 2.0), ("4xx", 1.0), ("5xx", 1.0)] {
        assert_eq!(of("nettrace_responses_total", &with(("class", class))), Some(count));
    }
    assert_eq!(of("nettrace_request_phase_seconds_count", &with(("phase", "total"))), Some(5.0));
    assert_eq!(of("nettrace_recording", &[]), Some(1.0));
    assert_eq!(of("nettrace_kept_records", &[("kind", "http_request")]), Some(7.0));
    assert_eq!(of("nettrace_dropped_records", &[("kind", "http_request")]), Some(0.0));
    assert_eq!(of("nettrace_requests_in_flight", &[("side", "client")]), Some(0.0));
    assert_eq!(of("nettrace_open_connections", &[("side", "client")]), Some(0.0));
}

/// Eviction, `clear` and the end of recording do not take anything away from counters.
#[tokio::test]
async fn counters_never_go_down() {
    let (sink, page) = page(Retention::bounded().requests(64));
    let mut before = BTreeMap::new();
    for round in 0..40 {
        for number in 0..25 {
            fetch(&sink, &format!("http://h{}.test/", number % 3), [200, 404, 500][round % 3]).await;
        }
        fail(&sink, "http://h0.test/", ErrorKind::ConnectionReset, "reset").await;
        match round {
            20 => sink.clear(),
            30 => sink.set_enabled(false),
            _ => {}
        }
        let (now, _) = scrape(&page).await;
        for (name, value) in &before {
            assert!(
                now.get(name) >= Some(value),
                "{name} was {value} and is {:?} in round {round}",
                now.get(name)
            );
        }
        before = now;
    }
    let total: f64 =
        before.iter().filter(|(name, _)| name.starts_with("nettrace_requests_total")).map(|(_, n)| n).sum();
    assert_eq!(total, 31.0 * 26.0, "all that were recorded");
    let (_, gauges) = scrape(&page).await;
    assert_eq!(gauges["nettrace_recording {}"], 0.0);
}

#[tokio::test]
async fn without_counts_there_is_the_state_of_the_sink() {
    let sink = TraceSink::new();
    fetch(&sink, "http://a.test/", 200).await;
    let page = DebugPage::new(&sink);
    let (counters, gauges) = scrape(&page).await;
    assert_eq!((counters.len(), gauges["nettrace_recording {}"]), (0, 1.0));
    assert!(get(&page, "/metrics").await.text.contains("# Requests are not counted"));
}
