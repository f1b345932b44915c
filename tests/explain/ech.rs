//! Encrypted Client Hello that the server rejects.

use crate::{client, quoted, root, trace_of};
use nettrace::TraceSink;
use rustls::{
    ClientConfig,
    client::{EchConfig, EchMode},
    crypto::{aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128, hpke::Hpke},
    pki_types::EchConfigListBytes,
};
use std::sync::Arc;
use test_support::{
    dns::DnsServer,
    pki::{self, Authority},
    web::{Web, reply},
};

/// Returns `bytes` after their length.
fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// Writes an ECHConfigList (RFC 9849 section 4) with a fresh key for `public.test`.
fn config_list() -> Vec<u8> {
    const VERSION: [u8; 2] = [0xfe, 0x0d];
    const PUBLIC_NAME: &[u8] = b"public.test";
    let (key, _) = DH_KEM_X25519_HKDF_SHA256_AES_128.generate_key_pair().unwrap();
    let config_id = 1;
    let kem_x25519_sha256 = [0, 0x20];
    let hkdf_sha256_aes_128_gcm = [0, 1, 0, 1];
    let contents = [
        &[config_id][..],
        &kem_x25519_sha256,
        &with_length(&key.0),
        &with_length(&hkdf_sha256_aes_128_gcm),
        &[0, PUBLIC_NAME.len() as u8], // no maximum length of names
        PUBLIC_NAME,
        &with_length(&[]), // no extensions
    ]
    .concat();
    with_length(&[&VERSION[..], &with_length(&contents)].concat())
}

#[tokio::test]
async fn a_server_without_a_key_for_the_inner_hello() {
    let (sink, authority) = (TraceSink::new(), Authority::new("nettrace test CA"));
    let web = Web::tls(authority.issue(&["public.test", "web.test"]).server(), async |_| reply("hello"));
    let ech = EchConfig::new(EchConfigListBytes::from(config_list()), &[DH_KEM_X25519_HKDF_SHA256_AES_128]);
    let config = ClientConfig::builder_with_provider(pki::provider())
        .with_ech(EchMode::Enable(ech.unwrap()))
        .unwrap()
        .with_root_certificates(authority.store())
        .with_no_client_auth();
    let dns = DnsServer::answering(&["127.0.0.1"]).await;
    let client = client(&sink).nameservers([dns.addr()]).tls_config(Arc::new(config)).build().unwrap();
    let trace = trace_of(&sink, &client, &format!("https://web.test:{}/", web.addr().port())).await;
    let root = root(&trace, "tls_ech_or_early_data_rejected");
    assert_eq!(root.about, "web.test");
    assert!(root.sentence.contains(&web.addr().to_string()), "{}", root.sentence);
    assert!(quoted(&root, "handshakeErr").ends_with("server rejected encrypted client hello"), "{root}");
}
