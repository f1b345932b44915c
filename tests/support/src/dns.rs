//! A scripted nameserver: it can answer, forge or delay replies, stay silent, or close the connection.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, SOA},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};

use crate::{raw::Refused, wait};

/// A query that the server has received.
#[derive(Clone, Debug)]
pub struct ReceivedQuery {
    pub message: Message,
    pub tcp: bool,
    pub from: SocketAddr,
}

impl ReceivedQuery {
    /// Returns the name in the question, without the final dot.
    pub fn name(&self) -> String {
        self.message.queries[0].name().to_ascii().trim_end_matches('.').to_owned()
    }

    pub fn record_type(&self) -> RecordType {
        self.message.queries[0].query_type()
    }

    pub fn is_a(&self) -> bool {
        self.record_type() == RecordType::A
    }

    /// Returns an empty reply, as from a recursive server.
    pub fn reply(&self) -> Message {
        let mut reply = Message::response(self.message.metadata.id, self.message.metadata.op_code);
        reply.metadata.recursion_desired = self.message.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.add_queries(self.message.queries.iter().cloned());
        reply.edns = self.message.edns.clone();
        reply
    }

    /// Returns a reply with the `addresses` that have the type of the question.
    pub fn addresses(&self, addresses: &[&str]) -> Message {
        let mut reply = self.reply();
        add_addresses(&mut reply, self.record_type(), &self.name(), addresses);
        reply
    }

    /// Returns a reply with a `chain` of aliases for the name in the question, and the `addresses` of the last one.
    pub fn aliases(&self, chain: &[&str], addresses: &[&str]) -> Message {
        let mut reply = self.reply();
        let mut owner = self.name();
        for to in chain {
            reply.add_answer(Record::from_rdata(name(&owner), 60, RData::CNAME(CNAME(name(to)))));
            owner = (*to).to_owned();
        }
        add_addresses(&mut reply, self.record_type(), &owner, addresses);
        reply
    }

    /// Returns a reply without answers: the name has no records of this type, or with `NXDomain` does not exist.
    pub fn nothing(&self, code: ResponseCode) -> Message {
        let mut reply = self.reply();
        reply.metadata.response_code = code;
        let soa = SOA::new(name("ns.test"), name("host.test"), 1, 1, 1, 1, 30);
        reply.add_authority(Record::from_rdata(name("test"), 60, RData::SOA(soa)));
        reply
    }
}

/// The reaction to a query.
pub enum Action {
    /// Sends these messages one after the other. Over TCP each is preceded by its length.
    Send(Vec<Vec<u8>>),
    /// Sends these messages after a delay.
    Later(Duration, Vec<Vec<u8>>),
    /// Over TCP, sends these messages after the next reply on the same connection.
    AfterNext(Vec<Vec<u8>>),
    /// Over TCP, sends these bytes as they are and closes.
    RawAndClose(Vec<u8>),
    Silence,
}

impl From<Message> for Action {
    fn from(message: Message) -> Self {
        Action::Send(vec![wire(&message)])
    }
}

/// Returns a message as it is over TCP and TLS: preceded by its length.
pub fn framed(message: &Message) -> Vec<u8> {
    let message = wire(message);
    [&(message.len() as u16).to_be_bytes()[..], &message].concat()
}

pub fn wire(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap()
}

/// A nameserver for UDP and TCP, on one port of the loopback interface. Dropping it stops the server.
pub struct DnsServer {
    addr: SocketAddr,
    queries: Arc<Mutex<Vec<ReceivedQuery>>>,
    _tasks: JoinSet<()>,
}

pub(crate) type Behaviour = dyn Fn(&ReceivedQuery) -> Action + Send + Sync;

impl DnsServer {
    pub async fn start<T: Into<Action>>(
        behaviour: impl Fn(&ReceivedQuery) -> T + Send + Sync + 'static,
    ) -> Self {
        let (udp, tcp) = bind().await;
        let addr = udp.local_addr().unwrap();
        let queries = Arc::new(Mutex::new(Vec::new()));
        let behaviour: Arc<Behaviour> = Arc::new(move |query| behaviour(query).into());
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(Arc::new(udp), behaviour.clone(), queries.clone()));
        tasks.spawn(serve_tcp(tcp, behaviour, queries.clone()));
        DnsServer { addr, queries, _tasks: tasks }
    }

    /// Starts a server that answers every question with the `addresses` of its type.
    pub async fn answering(addresses: &'static [&'static str]) -> Self {
        Self::start(move |query| query.addresses(addresses)).await
    }

    /// Starts a server that never answers.
    pub async fn silent() -> Self {
        Self::start(|_| Action::Silence).await
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the queries so far.
    pub fn queries(&self) -> Vec<ReceivedQuery> {
        self.queries.lock().unwrap().clone()
    }

    /// Waits until the server has received this many queries.
    ///
    /// # Panics
    ///
    /// If this takes longer than 20 seconds.
    #[track_caller]
    pub fn wait_for_queries(&self, count: usize) -> impl Future<Output = ()> {
        wait::until(format!("{count} queries"), move || self.queries().len() >= count)
    }

    /// Returns the questions so far, each as a name and a type: `www.test A`.
    pub fn questions(&self) -> Vec<String> {
        self.queries().iter().map(|query| format!("{} {}", query.name(), query.record_type())).collect()
    }
}

/// A port of 127.0.0.1 that refuses queries and connections until this is dropped.
pub struct ClosedPort {
    pub addr: SocketAddr,
    _tcp: Refused,
    _udp: std::net::UdpSocket,
}

impl ClosedPort {
    pub fn bind() -> Self {
        loop {
            let tcp = Refused::on("127.0.0.1:0");
            // Another process may use the port for UDP.
            if let Ok(udp) = std::net::UdpSocket::bind(tcp.addr) {
                // A connected socket takes datagrams from its peer only. The kernel refuses all others.
                udp.connect((Ipv4Addr::LOCALHOST, 9)).unwrap();
                return Self { addr: tcp.addr, _tcp: tcp, _udp: udp };
            }
        }
    }
}

/// Binds a port of the loopback interface for UDP and TCP.
pub(crate) async fn bind() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        // Another process may use the port for TCP.
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, behaviour: Arc<Behaviour>, log: Arc<Mutex<Vec<ReceivedQuery>>>) {
    let mut later = JoinSet::new();
    let mut buffer = vec![0; 4096];
    while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
        let Ok(message) = Message::from_vec(&buffer[..len]) else { continue };
        let query = ReceivedQuery { message, tcp: false, from };
        log.lock().unwrap().push(query.clone());
        match behaviour(&query) {
            Action::Send(messages) => send_all(&socket, from, &messages).await,
            Action::Later(delay, messages) => {
                let socket = socket.clone();
                later.spawn(async move {
                    tokio::time::sleep(delay).await;
                    send_all(&socket, from, &messages).await;
                });
            }
            Action::RawAndClose(bytes) => send_all(&socket, from, &[bytes]).await,
            Action::AfterNext(_) => panic!("each query over UDP has a socket of its own"),
            Action::Silence => {}
        }
    }
}

async fn send_all(socket: &UdpSocket, to: SocketAddr, messages: &[Vec<u8>]) {
    for message in messages {
        // The client may have closed its socket.
        let _ = socket.send_to(message, to).await;
    }
}

async fn serve_tcp(listener: TcpListener, behaviour: Arc<Behaviour>, log: Arc<Mutex<Vec<ReceivedQuery>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, from)) = listener.accept().await {
        connections.spawn(serve_stream(stream, from, behaviour.clone(), log.clone()));
    }
}

pub(crate) async fn serve_stream<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    from: SocketAddr,
    behaviour: Arc<Behaviour>,
    log: Arc<Mutex<Vec<ReceivedQuery>>>,
) {
    let mut held = Vec::new();
    while let Ok(len) = stream.read_u16().await {
        let mut bytes = vec![0; len.into()];
        if stream.read_exact(&mut bytes).await.is_err() {
            return;
        }
        let Ok(message) = Message::from_vec(&bytes) else { return };
        let query = ReceivedQuery { message, tcp: true, from };
        log.lock().unwrap().push(query.clone());
        let mut messages = match behaviour(&query) {
            Action::Send(messages) => messages,
            Action::AfterNext(messages) => {
                held.extend(messages);
                continue;
            }
            Action::Later(delay, messages) => {
                tokio::time::sleep(delay).await;
                messages
            }
            Action::RawAndClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Action::Silence => continue,
        };
        messages.append(&mut held);
        for message in messages {
            let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
            if stream.write_all(&framed).await.is_err() {
                return;
            }
        }
    }
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn add_addresses(reply: &mut Message, wanted: RecordType, owner: &str, addresses: &[&str]) {
    for address in addresses {
        let data = match address.parse().unwrap() {
            IpAddr::V4(address) if wanted == RecordType::A => RData::A(A(address)),
            IpAddr::V6(address) if wanted == RecordType::AAAA => RData::AAAA(AAAA(address)),
            _ => continue,
        };
        reply.add_answer(Record::from_rdata(name(owner), 60, data));
    }
}

/// Returns a response to the query whose question has another name.
pub fn about(message: &Message, other: &str) -> Message {
    let mut message = message.clone();
    let record_type = message.queries[0].query_type();
    message.queries = vec![Query::query(name(other), record_type)];
    message.metadata.message_type = MessageType::Response;
    message
}

/// Returns a name of 127 labels with one unprintable byte each: 255 bytes on the wire, 635 bytes as text.
fn longest_name() -> Vec<u8> {
    [[1, 0xff].repeat(127), vec![0]].concat()
}

/// Returns a reply with as many CNAME records as fit into `size` bytes, all from one unprintable name to itself. If the
/// question is for A records, `address` of the name in the question follows.
pub fn cname_loop_reply(query: &ReceivedQuery, size: usize, address: Option<[u8; 4]>) -> Vec<u8> {
    let mut reply = query.reply();
    reply.edns = None;
    let mut bytes = wire(&reply);
    let name = bytes.len() as u16;
    let pointer = (0xc000 | name).to_be_bytes();
    let alias = [&[0, 5, 0, 1, 0, 0, 0, 60, 0, 2], &pointer[..]].concat();
    bytes.extend([longest_name(), alias.clone()].concat());
    let mut answers = 1u16;
    while bytes.len() + 2 * (2 + alias.len()) + 2 <= size {
        bytes.extend([&pointer[..], &alias].concat());
        answers += 1;
    }
    if let Some(address) = address.filter(|_| query.is_a()) {
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        bytes.extend(address);
        answers += 1;
    }
    bytes[6..8].copy_from_slice(&answers.to_be_bytes());
    bytes
}
