//! The work of a probe for one connection, without the kernel's part.

use super::{Again, Scene};
use nettrace::{
    Probe, ProbeEvent, TraceSink,
    bench_support::{self, Conntrack},
    linux::TcpInfoProbe,
};
use std::{
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
};

pub(super) fn scenes() -> Vec<Scene> {
    vec![
        Scene::new("conntrack/a query and its answer", || {
            let mut conntrack = Conntrack::new();
            Again(move || conntrack.ask())
        }),
        Scene::new("tcp-info/a reading", || Again(reading())),
    ]
}

fn reading() -> impl FnMut() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let sink = TraceSink::new();
    let (conn, probe) = (bench_support::dial(&sink), TcpInfoProbe::new().first_byte(true));
    move || {
        let _open = &listener;
        let conn = conn.conn_ref().unwrap();
        probe.event(conn, ProbeEvent::FirstByte, stream.as_fd());
    }
}
