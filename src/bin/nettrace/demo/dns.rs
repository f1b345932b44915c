//! The nameserver of the demo, which knows its names only.

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, CNAME},
    },
};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{net::UdpSocket, task::JoinSet};

/// The address of the HTTP servers.
pub(super) const SERVER_IP: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// A loopback address without a server.
const UNUSED_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// An alias of [`EDGE_HOST`].
pub(super) const SHOP_HOST: &str = "shop.demo.test";
pub(super) const WWW_HOST: &str = "www.demo.test";
pub(super) const UNTRUSTED_HOST: &str = "untrusted.demo.test";
pub(super) const UNKNOWN_HOST: &str = "nobody.demo.test";
const EDGE_HOST: &str = "edge.demo.test";

const TTL_SECONDS: u32 = 60;

/// Starts the nameserver. It runs until `tasks` is dropped.
pub(super) async fn start(tasks: &mut JoinSet<()>) -> io::Result<SocketAddr> {
    let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
    let address = socket.local_addr()?;
    tasks.spawn(async move {
        let mut answers = JoinSet::new();
        let mut packet = [0; 1500];
        while let Ok((len, client)) = socket.recv_from(&mut packet).await {
            let Ok(query) = Message::from_vec(&packet[..len]) else { continue };
            answers.spawn(answer(socket.clone(), client, query));
            while answers.try_join_next().is_some() {}
        }
    });
    Ok(address)
}

async fn answer(socket: Arc<UdpSocket>, client: SocketAddr, query: Message) {
    let is_v4 = query.queries.first().is_some_and(|query| query.query_type() == RecordType::A);
    tokio::time::sleep(Duration::from_millis(if is_v4 { 9 } else { 6 })).await;
    if let Ok(reply) = reply(&query).to_vec() {
        // A client that is gone needs no reply.
        let _ = socket.send_to(&reply, client).await;
    }
}

fn reply(query: &Message) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.add_queries(query.queries.iter().cloned());
    let Some(question) = query.queries.first() else { return reply };
    let mut name = question.name().clone();
    if is_name(&name, SHOP_HOST)
        && let Ok(edge) = Name::from_ascii(EDGE_HOST)
    {
        reply.add_answer(Record::from_rdata(name, TTL_SECONDS, RData::CNAME(CNAME(edge.clone()))));
        name = edge;
    }
    let addresses: &[Ipv4Addr] = if is_name(&name, EDGE_HOST) {
        &[UNUSED_IP, SERVER_IP]
    } else if is_name(&name, WWW_HOST) || is_name(&name, UNTRUSTED_HOST) {
        &[SERVER_IP]
    } else {
        reply.metadata.response_code = ResponseCode::NXDomain;
        &[]
    };
    if question.query_type() == RecordType::A {
        reply.add_answers(
            addresses.iter().map(|ip| Record::from_rdata(name.clone(), TTL_SECONDS, RData::A(A(*ip)))),
        );
    }
    reply
}

fn is_name(name: &Name, text: &str) -> bool {
    name.to_ascii().trim_end_matches('.').eq_ignore_ascii_case(text)
}
