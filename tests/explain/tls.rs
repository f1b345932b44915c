//! Handshakes that fail.

use crate::{client, quoted, root, trace_of};
use nettrace::{TraceSink, tls::Roots};
use test_support::{
    pki::Authority,
    web::{Web, reply},
};

#[tokio::test]
async fn a_certificate_that_has_expired() {
    let (sink, authority) = (TraceSink::new(), Authority::new("nettrace test CA"));
    let leaf = authority.issue_with(&["127.0.0.1"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 3, 4);
    });
    let web = Web::tls(leaf.server(), async |_| reply("hello"));
    let client = client(&sink).roots(Roots::from_pem(authority.pem()).unwrap()).build().unwrap();
    let trace = trace_of(&sink, &client, &format!("https://{}/", web.addr())).await;
    let root = root(&trace, "tls_expired");
    assert_eq!(root.sentence, "The certificate of 127.0.0.1 expired on 2021-03-04.");
    assert!(quoted(&root, "peerCerts.notAfter").starts_with("2021-03-04T"));
}
