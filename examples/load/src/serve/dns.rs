//! A nameserver with the same answer for every name.

use hickory_proto::{
    op::Message,
    rr::{RData, Record, RecordType, rdata::A},
};
use std::net::Ipv4Addr;
use tokio::net::UdpSocket;

/// Answers every DNS query for an IPv4 address with the loopback address.
pub async fn serve(socket: UdpSocket) {
    let mut packet = [0; 1500];
    while let Ok((len, client)) = socket.recv_from(&mut packet).await {
        let Ok(query) = Message::from_vec(&packet[..len]) else { continue };
        let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
        reply.metadata.recursion_available = true;
        reply.add_queries(query.queries.iter().cloned());
        if let Some(question) = query.queries.first().filter(|query| query.query_type() == RecordType::A) {
            reply.add_answer(Record::from_rdata(
                question.name().clone(),
                60,
                RData::A(A(Ipv4Addr::LOCALHOST)),
            ));
        }
        if let Ok(reply) = reply.to_vec() {
            let _ = socket.send_to(&reply, client).await;
        }
    }
}
