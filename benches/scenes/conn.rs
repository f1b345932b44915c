//! Recording of dials, lookups and handshakes.

use super::{Again, Each, Scene, Work};
use hickory_proto::{
    op::{Message, OpCode, Query},
    rr::{RData, Record, RecordType, rdata::A},
};
use nettrace::{
    TraceSink,
    bench_support::{self, Exchange, Handshake},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::sync::Arc;

const NAME: &str = "www.example.com";

pub(super) fn scenes() -> Vec<Scene> {
    let dial = |sink: TraceSink| Again(move || drop(bench_support::dial(&sink)));
    vec![
        Scene::new("dial/off", move || dial(TraceSink::disabled())),
        Scene::new("dial/connected", move || dial(TraceSink::new())),
        Scene::new("dial/refused", || {
            let sink = TraceSink::new();
            Again(move || bench_support::refused_dial(&sink))
        }),
        Scene::new("dns/a message each way", || {
            let (sink, exchange) = (TraceSink::new(), exchange());
            Again(move || exchange.record(&sink))
        }),
        Scene::new("tls/handshake", handshake),
    ]
}

/// Returns a query to a nameserver and its reply.
pub(super) fn exchange() -> Exchange {
    Exchange::new(NAME, &reply()).unwrap()
}

fn reply() -> Vec<u8> {
    let name: hickory_proto::rr::Name = NAME.parse().unwrap();
    let mut message = Message::response(1, OpCode::Query);
    message.add_query(Query::query(name.clone(), RecordType::A));
    for host in 1..=2 {
        message.add_answer(Record::from_rdata(name.clone(), 60, RData::A(A::new(192, 0, 2, host))));
    }
    message.to_vec().unwrap()
}

fn handshake() -> impl Work {
    let (sink, handshake) = (TraceSink::new(), Handshake::new(completed_handshake()));
    let to_dial = sink.clone();
    Each::new(move || bench_support::dial(&to_dial), move |conn| handshake.record(&sink, conn))
}

/// Returns the client of a completed handshake with a server that presents two certificates.
fn completed_handshake() -> ClientConnection {
    let (authority_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap().der().clone();
    let params_of_leaf = CertificateParams::new([NAME.to_owned()]).unwrap();
    let leaf = params_of_leaf.signed_by(&key, &Issuer::new(params, authority_key)).unwrap();
    let chain = vec![leaf.der().clone(), authority.clone()];
    let mut roots = RootCertStore::empty();
    roots.add(authority).unwrap();

    // Named, because there is no default if two providers are compiled in.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = key.serialize_der().try_into().unwrap();
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let mut client = ClientConnection::new(Arc::new(client), NAME.try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut wire = Vec::new();
    while client.is_handshaking() {
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &*wire).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &*wire).unwrap();
        client.process_new_packets().unwrap();
        wire.clear();
    }
    client
}
