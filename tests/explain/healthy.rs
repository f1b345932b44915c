//! Where nothing went wrong, nothing is found.

use crate::{client, explained, trace_of};
use nettrace::{NetTrace, TraceSink, tls::Roots};
use std::{fs, path::Path};
use test_support::{
    dns::DnsServer,
    pki::Authority,
    web::{ReceivedRequest, Web, redirect, reply, status},
};

fn assert_nothing(trace: &NetTrace) {
    let explanation = explained(trace);
    assert!(explanation.is_empty(), "{explanation:#?}");
}

#[tokio::test]
async fn a_request_over_tls_with_a_redirect_and_a_lookup() {
    let (sink, authority) = (TraceSink::new(), Authority::new("nettrace test CA"));
    let web =
        Web::tls(authority.issue(&["web.test"]).server(), async |request: ReceivedRequest| {
            match request.path() {
                "/" => redirect(302, "/next"),
                _ => reply("hello"),
            }
        });
    let dns = DnsServer::answering(&["127.0.0.1"]).await;
    let roots = Roots::from_pem(authority.pem()).unwrap();
    let client = client(&sink).nameservers([dns.addr()]).roots(roots).build().unwrap();
    assert_nothing(&trace_of(&sink, &client, &format!("https://web.test:{}/", web.addr().port())).await);
}

#[tokio::test]
async fn a_page_that_is_missing_is_an_answer() {
    let (sink, web) = (TraceSink::new(), Web::start(async |_| status(404)));
    assert_nothing(&trace_of(&sink, &client(&sink).build().unwrap(), &web.url("/")).await);
}

/// Traces that the Go package wrote have neither failure codes nor ends, so that nothing can be proven from them.
#[test]
fn traces_of_the_go_package() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/peer-json");
    let files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 10);
    for file in files {
        let trace: NetTrace = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let explanation = explained(&trace);
        assert!(explanation.is_empty(), "{}: {explanation:#?}", file.display());
    }
}
