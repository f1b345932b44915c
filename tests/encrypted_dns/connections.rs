//! The connections that lookups share: how long they are used, who dials them, and how they end.

use std::{pin::pin, sync::Mutex};

use futures_util::FutureExt;
use tokio::{runtime::Runtime, task::JoinHandle};

use super::*;

type Lookup = JoinHandle<Result<Vec<IpAddr>, ResolveError>>;

/// Begins to look up a name in a task.
fn spawn(resolver: &StubResolver, name: &'static str) -> Lookup {
    let resolver = resolver.clone();
    tokio::spawn(async move { resolver.lookup(name).await })
}

async fn give_up(lookup: Lookup) {
    lookup.abort();
    assert!(lookup.await.unwrap_err().is_cancelled());
}

/// Returns a resolver that asks for IPv4 addresses, so that there is one query.
fn ipv4(fixture: &Fixture, servers: impl IntoIterator<Item = Nameserver>) -> StubResolver {
    fixture.builder(servers).ip_strategy(IpStrategy::Ipv4Only).build().unwrap()
}

/// Answers all names except for `silent.test`.
fn answer_others(query: &ReceivedQuery) -> Action {
    match query.name().as_str() {
        "silent.test" => Action::Silence,
        _ => query.addresses(&["192.0.2.1"]).into(),
    }
}

#[tokio::test]
async fn a_silent_connection_is_replaced_although_its_lookups_are_given_up() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, answer_others).await;
    let resolver = ipv4(&fixture, [tls(&server)]);
    for connections in 1..=3 {
        let lookup = spawn(&resolver, "silent.test");
        server.wait_for_queries(connections).await;
        assert_eq!(server.accepted(), connections);
        give_up(lookup).await;
        pass(Duration::from_secs(3)).await;
    }
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["192.0.2.1"]));
    assert_eq!(server.accepted(), 4);
    fixture.finish();
}

#[tokio::test]
async fn one_slow_name_does_not_end_the_connection() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, answer_others).await;
    let resolver = ipv4(&fixture, [tls(&server)]);
    let slow = spawn(&resolver, "silent.test");
    server.wait_for_queries(1).await;
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["192.0.2.1"]));
    pass(LONG).await;
    assert_eq!(slow.await.unwrap().unwrap_err().failure(), Failure::GenericTimeoutError);
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["192.0.2.1"]));
    assert_eq!(server.accepted(), 1);
    fixture.finish();
}

#[tokio::test]
async fn the_number_of_open_queries_is_bounded() {
    const MAX_OPEN: usize = 1000;
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |_| Action::Silence).await;
    let resolver = ipv4(&fixture, [tls(&server)]);
    let mut lookups: Vec<_> = (0..MAX_OPEN + 50).map(|_| spawn(&resolver, "web.test")).collect();
    server.wait_for_queries(MAX_OPEN).await;
    wait::settle().await;
    assert_eq!(server.queries().len(), MAX_OPEN);
    give_up(lookups.remove(0)).await;
    server.wait_for_queries(MAX_OPEN + 1).await;
    for lookup in lookups {
        give_up(lookup).await;
    }
    assert_eq!(server.accepted(), 1);
    fixture.finish();
}

#[tokio::test]
async fn a_query_that_shared_a_fresh_connection_is_repeated() {
    let fixture = Fixture::new();
    let first = Mutex::new(None);
    let asked = AtomicUsize::new(0);
    // The first connection is closed after one reply to two queries.
    let server = tls_server(&fixture, move |query| {
        let reply = query.addresses(&["192.0.2.1", "2001:db8::1"]);
        match asked.fetch_add(1, Relaxed) {
            0 => {
                *first.lock().unwrap() = Some(reply);
                Action::Silence
            }
            1 => Action::RawAndClose(framed(&first.lock().unwrap().take().unwrap())),
            _ => reply.into(),
        }
    })
    .await;
    let mut found = fixture.resolver([tls(&server)]).lookup("web.test").await.unwrap();
    found.sort();
    assert_eq!(found, ips(&["192.0.2.1", "2001:db8::1"]));
    assert_eq!((server.accepted(), server.queries().len()), (2, 3));
    let trace = fixture.finish();
    let mut failures = failures(&trace);
    failures.sort_unstable();
    assert_eq!(failures, ["", "", "eof_error"]);
}

/// Returns a nameserver by name, and a plain one that answers with its address after `silent` queries.
async fn slowly_resolved(server: &EncryptedDnsServer, silent: usize) -> (Nameserver, DnsServer) {
    let asked = AtomicUsize::new(0);
    let plain = DnsServer::start(move |query| match asked.fetch_add(1, Relaxed) < silent {
        true => Action::Silence,
        false => query.addresses(&["127.0.0.1"]).into(),
    })
    .await;
    (format!("tls://{NAME}:{}", server.addr().port()).parse().unwrap(), plain)
}

#[tokio::test]
async fn a_lookup_that_joined_a_dial_has_its_own_deadline() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| query.addresses(&["192.0.2.1"])).await;
    let (by_name, plain) = slowly_resolved(&server, 1).await;
    let resolver = ipv4(&fixture, [by_name, plain.addr().into()]);
    let first = spawn(&resolver, "web.test");
    plain.wait_for_queries(1).await;
    pass(LONG * 2 / 3).await;
    let mut second = pin!(resolver.lookup("web.test"));
    assert!(second.as_mut().now_or_never().is_none());
    pass(LONG / 2).await;
    // The time of the first one is over, and it asks the next nameserver.
    assert_eq!(first.await.unwrap().unwrap(), ips(&["127.0.0.1"]));
    assert_eq!(second.await.unwrap(), ips(&["192.0.2.1"]));
    fixture.finish();
}

#[tokio::test]
async fn close_waits_for_a_dial_that_was_given_up() {
    let fixture = Fixture::new();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server: Nameserver = format!("tls://{}#{NAME}", silent.local_addr().unwrap()).parse().unwrap();
    let resolver = fixture.resolver([server]);
    let mut lookup = Box::pin(resolver.lookup("web.test"));
    assert!(lookup.as_mut().now_or_never().is_none());
    let (mut stream, _) = silent.accept().await.unwrap();
    tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap();
    drop(lookup);
    resolver.close_connections().await;
    check::finished(&fixture.sink.snapshot("closed"));
}

#[tokio::test]
async fn a_connection_that_was_dialled_before_the_close_is_not_kept() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| query.addresses(&["192.0.2.1"])).await;
    let resolver = ipv4(&fixture, [tls(&server)]);
    let mut first = pin!(resolver.lookup("first.test"));
    assert!(first.as_mut().now_or_never().is_none());
    resolver.close_connections().await;
    let mut second = pin!(resolver.lookup("second.test"));
    assert!(second.as_mut().now_or_never().is_none());
    first.await.unwrap();
    second.await.unwrap();
    resolver.lookup("third.test").await.unwrap();
    assert_eq!(server.accepted(), 2);
    let trace = fixture.finish();
    let conn = |name: &str| {
        let query = trace.dns_queries.iter().find(|query| query.dns_query_msgs[0].questions[0].name == name);
        &query.unwrap().connection
    };
    assert_eq!(conn("third.test."), conn("second.test."));
    assert_ne!(conn("first.test."), conn("second.test."));
}

#[tokio::test]
async fn a_connection_is_shared_as_soon_as_it_is_open() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| query.addresses(&["192.0.2.1"])).await;
    let resolver = ipv4(&fixture, [tls(&server)]);
    let mut first = pin!(resolver.lookup("first.test"));
    assert!(first.as_mut().now_or_never().is_none());
    let tunnels = || fixture.sink.snapshot("").tls_tunnels.into_vec();
    wait::until("a handshake", || tunnels().iter().any(|tunnel| !tunnel.handshake_end_at.is_undefined()))
        .await;
    wait::settle().await;
    // The one that began the dial has not noticed.
    resolver.lookup("second.test").await.unwrap();
    first.await.unwrap();
    assert_eq!(server.accepted(), 1);
    fixture.finish();
}

fn client_runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Returns a runtime whose tasks run by themselves.
fn server_runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn connections_can_be_closed_outside_a_runtime() {
    let (fixture, servers, client) = (Fixture::new(), server_runtime(), client_runtime());
    let server = servers.block_on(tls_server(&fixture, answer_others));
    let resolver = fixture.resolver([tls(&server)]);
    client.block_on(resolver.lookup("web.test")).unwrap();
    wait::now(resolver.close_connections());
    let is_over = || fixture.sink.snapshot("").tcp_conns.iter().all(|conn| conn.end_reason.is_some());
    client.block_on(wait::until("the end", is_over));
    fixture.finish();
}

#[test]
fn a_query_is_repeated_if_the_runtime_of_its_connection_ends() {
    let (fixture, servers, client) = (Fixture::new(), server_runtime(), client_runtime());
    let asked = AtomicUsize::new(0);
    let behaviour = move |query: &ReceivedQuery| match asked.fetch_add(1, Relaxed) {
        1 => Action::Silence,
        _ => query.addresses(&["192.0.2.1"]).into(),
    };
    let server = servers.block_on(tls_server(&fixture, behaviour));
    let resolver = ipv4(&fixture, [tls(&server)]);
    client.block_on(resolver.lookup("web.test")).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client_runtime().block_on(resolver.lookup("web.test")));
        client.block_on(server.wait_for_queries(2));
        drop(client);
        assert_eq!(waiting.join().unwrap().unwrap(), ips(&["192.0.2.1"]));
    });
    assert_eq!(server.accepted(), 2);
    fixture.finish();
}

#[test]
fn a_dial_is_repeated_if_its_runtime_ends() {
    let (fixture, servers, client) = (Fixture::new(), server_runtime(), client_runtime());
    let (server, by_name, plain) = servers.block_on(async {
        let server = tls_server(&fixture, answer_others).await;
        let (by_name, plain) = slowly_resolved(&server, 2).await;
        (server, by_name, plain)
    });
    let resolver = fixture.resolver([by_name, plain.addr().into()]);
    client.spawn({
        let resolver = resolver.clone();
        async move { resolver.lookup("web.test").await }
    });
    client.block_on(plain.wait_for_queries(2));
    std::thread::scope(|scope| {
        let (joined, has_joined) = std::sync::mpsc::channel();
        let resolver = &resolver;
        let waiting = scope.spawn(move || {
            client_runtime().block_on(async {
                let mut lookup = pin!(resolver.lookup("web.test"));
                assert!(lookup.as_mut().now_or_never().is_none());
                joined.send(()).unwrap();
                lookup.await
            })
        });
        has_joined.recv().unwrap();
        drop(client);
        assert_eq!(waiting.join().unwrap().unwrap(), ips(&["192.0.2.1"]));
    });
    assert_eq!(server.accepted(), 1);
    fixture.finish();
}
