//! Servers and nameservers on the loopback interface, and a service that makes the planned dials to them.

use std::{
    error::Error,
    io,
    net::{IpAddr, SocketAddr, TcpStream as StdTcpStream},
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use futures_util::future::{BoxFuture, join_all};
use hickory_proto::op::ResponseCode;
use http::{Extensions, Request, Response, Uri};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::rt;
use hyper_util::{client::legacy::connect::Connection, rt::TokioIo};
use nettrace::{
    FinishedRecord, HeaderCapture, RequestHandle, TraceSink,
    connect::{TcpConnector, TraceConnectLayer},
    request::{TraceBody, TraceRequestLayer},
    resolve::{StubResolver, TraceResolveLayer},
    tls::TraceTlsLayer,
};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tower::{Layer, Service, service_fn};

use crate::{
    mock::{MockBody, MockIo, pauses},
    plan::{self, Afterwards, Answer, By, Host, Limit, Names, Nameserver, Use},
};
use test_support::dns::{Action, ClosedPort, DnsServer, ReceivedQuery};

type BoxError = Box<dyn Error + Send + Sync>;
type Task = BoxFuture<'static, ()>;

/// Any stream that a dial returns.
pub(crate) trait Stream: rt::Read + rt::Write + Connection + Send + Unpin {}
impl<T: rt::Read + rt::Write + Connection + Send + Unpin> Stream for T {}
type Conn = Box<dyn Stream>;

pub(crate) struct Fixture {
    pub(crate) sink: TraceSink,
    pub(crate) published: Arc<Mutex<Vec<FinishedRecord>>>,
    /// Dials that outlive the request that began them.
    pub(crate) detached: Mutex<Vec<Task>>,
    /// Connections that a later request may take.
    left_over: Mutex<Vec<Conn>>,
    /// The handle of all requests that follow a redirect.
    hops: RequestHandle,
    hosts: Hosts,
    nameservers: [(Nameserver, DnsServer); 5],
    closed_port: ClosedPort,
}

impl Fixture {
    pub(crate) async fn new() -> Arc<Self> {
        let published = Arc::<Mutex<Vec<FinishedRecord>>>::default();
        let subscriber = published.clone();
        let sink = TraceSink::builder()
            .headers(HeaderCapture::Values)
            .subscriber(move |record: &FinishedRecord| subscriber.lock().unwrap().push(record.clone()))
            .build();
        Arc::new(Fixture {
            sink,
            published,
            detached: Mutex::default(),
            left_over: Mutex::default(),
            hops: RequestHandle::new(),
            hosts: Hosts::new().await,
            closed_port: ClosedPort::bind(),
            nameservers: [
                (Nameserver::Answering, DnsServer::start(|query| query.addresses(&ADDRESSES)).await),
                (Nameserver::Truncating, DnsServer::start(truncated_over_udp).await),
                (
                    Nameserver::KnowingNothing,
                    DnsServer::start(|query| query.nothing(ResponseCode::NXDomain)).await,
                ),
                (Nameserver::Failing, DnsServer::start(|query| query.nothing(ResponseCode::ServFail)).await),
                (Nameserver::Silent, DnsServer::silent().await),
            ],
        })
    }

    /// Drops the connections that are left over.
    pub(crate) fn drop_left_over(&self) {
        self.left_over.lock().unwrap().clear();
    }

    /// Makes a request and reads as much of the response as the plan says.
    pub(crate) fn request(self: &Arc<Self>, plan: plan::Request) -> Task {
        let fixture = self.clone();
        Box::pin(async move {
            let mut request = Request::new(MockBody::new(&plan.upload, ()));
            if plan.follows {
                request.extensions_mut().insert(fixture.hops.clone());
            }
            let read = match &plan.answer {
                Answer::Body { read, .. } => *read,
                Answer::Fails => 0,
            };
            let sink = fixture.sink.clone();
            let service = service_fn(move |request| serve(fixture.clone(), plan.clone(), request));
            let response = TraceRequestLayer::new(&sink).layer(service).call(request).await;
            let Ok(response) = response else { return };
            let mut body = response.into_body();
            for _ in 0..read {
                let Some(Ok(_)) = body.frame().await else { return };
            }
        })
    }
}

/// Serves a request: dials, uses the connections, and reads the request body, as planned.
async fn serve(
    fixture: Arc<Fixture>,
    plan: plan::Request,
    request: Request<TraceBody<MockBody<()>>>,
) -> Result<Response<MockBody<Vec<Conn>>>, BoxError> {
    pauses(plan.pauses).await;
    let mut conns = Vec::new();
    if plan.reuses {
        conns.extend(fixture.left_over.lock().unwrap().pop().map(|conn| (conn, Afterwards::LeftOver)));
    }
    let mut running = Vec::new();
    for dial in &plan.dials {
        let (dialing, dial) = (begin_dial(&fixture, dial), dial.clone());
        let dialing = async move {
            let mut conn = match dialing.await {
                Ok(conn) => conn,
                Err(error) if dial.needed => return Err(error),
                Err(_) => return Ok(None),
            };
            use_conn(&mut conn, &dial.use_of_it).await;
            Ok::<_, BoxError>(Some((conn, dial.afterwards)))
        };
        if dial.detached {
            let fixture_clone = fixture.clone();
            fixture.detached.lock().unwrap().push(Box::pin(async move {
                if let Ok(Some((conn, Afterwards::LeftOver))) = dialing.await {
                    fixture_clone.left_over.lock().unwrap().push(conn);
                }
            }));
        } else if plan.together {
            running.push(dialing);
        } else {
            conns.extend(dialing.await?);
        }
    }
    for dialed in join_all(running).await {
        conns.extend(dialed?);
    }
    let mut upload = request.into_body();
    for _ in 0..plan.taken {
        if upload.is_end_stream() {
            break;
        }
        let Some(frame) = upload.frame().await else { break };
        frame?;
    }
    let Answer::Body { frames, .. } = &plan.answer else {
        return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
    };
    let mut extras = Extensions::new();
    conns.iter().for_each(|(conn, _)| conn.connected().get_extras(&mut extras));
    let mut held = Vec::new();
    for (conn, afterwards) in conns {
        match afterwards {
            Afterwards::Drop => drop(conn),
            Afterwards::GoesWithBody => held.push(conn),
            Afterwards::LeftOver => fixture.left_over.lock().unwrap().push(conn),
        }
    }
    let mut response = Response::new(MockBody::new(frames, held));
    response.extensions_mut().extend(extras);
    Ok(response)
}

/// Reads from and writes to a connection as planned, up to the first error.
async fn use_conn(conn: &mut Conn, plan: &[Use]) {
    let mut conn = TokioIo::new(conn);
    let mut buffer = [0; 512];
    for step in plan {
        let done = match step {
            Use::Write(len) => conn.write_all(&vec![b'x'; (*len).into()]).await,
            Use::Read => conn.read(&mut buffer).await.map(drop),
        };
        if done.is_err() {
            return;
        }
    }
}

/// Begins a dial. The connector is called at once, so that the dial belongs to the request that is being polled.
fn begin_dial(fixture: &Fixture, dial: &plan::Dial) -> BoxFuture<'static, Result<Conn, BoxError>> {
    match &dial.by {
        By::Foreign { pauses: count, fails, reads } => {
            let (count, fails, reads) = (*count, *fails, reads.clone());
            let connector = service_fn(move |_: Uri| {
                let stream = MockIo::new(&reads);
                async move {
                    pauses(count).await;
                    if fails { Err(io::Error::other("no luck")) } else { Ok(TokioIo::new(stream)) }
                }
            });
            let connector = TraceConnectLayer::new(&fixture.sink).layer(connector);
            call_connector(fixture, dial, connector, "https://mock.test".parse().unwrap())
        }
        By::Tcp { names, hosts, limit } => {
            let connector = TcpConnector::new(&fixture.sink).handshake_timeout(limit.duration());
            let port = fixture.hosts.port;
            let uri = |host: &str| format!("https://{host}:{port}").parse().unwrap();
            match names {
                Names::Literal => call_connector(fixture, dial, connector, uri(ADDRESSES[hosts[0] as usize])),
                Names::Foreign { pauses: count, fails } => {
                    let (count, fails) = (*count, *fails);
                    let addrs: Vec<SocketAddr> = hosts.iter().map(|host| fixture.hosts.addr(*host)).collect();
                    let resolver = service_fn(move |_| {
                        let addrs = addrs.clone();
                        async move {
                            pauses(count).await;
                            if fails { Err(io::Error::other("no idea")) } else { Ok(addrs.into_iter()) }
                        }
                    });
                    let connector = connector.resolver(TraceResolveLayer::new().layer(resolver));
                    call_connector(fixture, dial, connector, uri("some.test"))
                }
                Names::Stub(nameserver) => {
                    let resolver = StubResolver::builder(&fixture.sink)
                        .nameservers([fixture.nameserver(*nameserver)])
                        .resolv_conf(None)
                        .hosts_file(None)
                        .attempts(1)
                        .build();
                    call_connector(fixture, dial, connector.resolver(resolver.unwrap()), uri("some.test"))
                }
            }
        }
    }
}

/// Calls the connector, through a TLS layer if the dial uses TLS.
fn call_connector<C>(
    fixture: &Fixture,
    dial: &plan::Dial,
    mut connector: C,
    uri: Uri,
) -> BoxFuture<'static, Result<Conn, BoxError>>
where
    C: Service<Uri>,
    C::Response: Stream + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    let Some(limit) = dial.tls else {
        let dialing = connector.call(uri);
        return Box::pin(async { Ok(Box::new(dialing.await.map_err(Into::into)?) as Conn) });
    };
    let mut layer = TraceTlsLayer::builder(&fixture.sink).danger_accept_invalid_certs();
    if let Some(limit) = limit.duration() {
        layer = layer.handshake_timeout(limit);
    }
    let dialing = layer.build().layer(connector).call(uri);
    Box::pin(async { Ok(Box::new(dialing.await?) as Conn) })
}

impl Limit {
    fn duration(self) -> Option<Duration> {
        match self {
            Limit::None => None,
            Limit::Millis(millis) => Some(Duration::from_millis(millis.into())),
        }
    }
}

impl Fixture {
    /// Returns the nameserver's address, or a closed port for [`Nameserver::Missing`].
    fn nameserver(&self, wanted: Nameserver) -> SocketAddr {
        let known = self.nameservers.iter().find(|(kind, _)| *kind as u8 == wanted as u8);
        known.map_or(self.closed_port.addr, |(_, server)| server.addr())
    }
}

fn truncated_over_udp(query: &ReceivedQuery) -> Action {
    let mut reply = query.addresses(&ADDRESSES);
    if !query.tcp {
        reply.metadata.truncation = true;
        reply.answers.clear();
    }
    reply.into()
}

/// Servers on the same port of several loopback addresses, each with a behaviour of its own.
struct Hosts {
    port: u16,
    _tasks: JoinSet<()>,
    _sockets: [Socket; 2],
    _fills_the_backlog: StdTcpStream,
}

/// The addresses of the servers, in the order of [`Host`].
const ADDRESSES: [&str; 5] = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"];

impl Hosts {
    async fn new() -> Self {
        loop {
            // The free port of the first address may be in use on another one.
            if let Ok(hosts) = Self::try_new().await {
                return hosts;
            }
        }
    }

    async fn try_new() -> io::Result<Self> {
        let addr = |host: Host, port| SocketAddr::new(ip(host), port);
        let echoing = TcpListener::bind(addr(Host::Echoing, 0)).await?;
        let port = echoing.local_addr()?.port();
        let hanging_up = TcpListener::bind(addr(Host::HangingUp, port)).await?;
        let secured = TcpListener::bind(addr(Host::Secured, port)).await?;
        let refusing = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        refusing.bind(&addr(Host::Refusing, port).into())?;
        // A full accept queue makes the kernel ignore further handshakes.
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        silent.bind(&addr(Host::Silent, port).into())?;
        silent.listen(0)?;
        let fills_the_backlog = StdTcpStream::connect(addr(Host::Silent, port))?;

        let mut tasks = JoinSet::new();
        tasks.spawn(accept(echoing, |mut stream| async move {
            let (mut reads, mut writes) = stream.split();
            let _ = tokio::io::copy(&mut reads, &mut writes).await;
        }));
        tasks.spawn(accept(hanging_up, |stream| async move { drop(stream) }));
        tasks.spawn(accept(secured, |stream| async move {
            let Ok(mut stream) = ACCEPTOR.accept(stream).await else { return };
            let _ = stream.write_all(b"welcome").await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }));
        let sockets = [refusing, silent];
        Ok(Hosts { port, _tasks: tasks, _sockets: sockets, _fills_the_backlog: fills_the_backlog })
    }

    fn addr(&self, host: Host) -> SocketAddr {
        SocketAddr::new(ip(host), self.port)
    }
}

fn ip(host: Host) -> IpAddr {
    ADDRESSES[host as usize].parse().unwrap()
}

async fn accept<F>(listener: TcpListener, serve: impl Fn(tokio::net::TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut conns = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        conns.spawn(serve(stream));
    }
}

static ACCEPTOR: LazyLock<TlsAcceptor> = LazyLock::new(|| {
    let signed = rcgen::generate_simple_self_signed(["some.test".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der());
    #[cfg(feature = "ring")]
    let provider = rustls::crypto::ring::default_provider();
    #[cfg(not(feature = "ring"))]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key.into());
    TlsAcceptor::from(Arc::new(config.unwrap()))
});
