//! TLS secrets are kept only if the key log is on.

use std::sync::{Arc, Mutex};

use nettrace::tls::{KeyLog, TlsVersion, TraceTlsLayer};
use rustls::ClientConfig;

use crate::clients::{TestClient, VERSIONS, connect, exchange};
use test_support::pki::{self, serve_tls_echo};

/// Returns the labels of the lines. A line continues with 64 and then 64 or 96 hexadecimal digits.
fn labels(key_log: &KeyLog) -> Vec<String> {
    let text = key_log.to_nss();
    let label = |line: &str| {
        let [label, random, secret] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert!(random.len() == 64 && [64, 96].contains(&secret.len()), "{line}");
        assert!(line.len() == label.len() + random.len() + secret.len() + 2);
        label.to_owned()
    };
    text.lines().map(label).collect()
}

#[tokio::test]
async fn secrets_are_logged_for_each_version() {
    for (_, version, supported) in VERSIONS {
        let client = TestClient::new();
        let address =
            serve_tls_echo(client.authority.issue(&["web.test"]).server_with(&[supported], None)).await;
        let keys = KeyLog::new();
        for key_log in [None, Some(&keys)] {
            let builder = client.builder().max_version(version);
            let layer = match key_log {
                Some(keys) => builder.key_log(keys).build(),
                None => builder.build(),
            };
            exchange(connect(&layer, address, "https://web.test/").await.unwrap()).await.unwrap();
        }
        let expected: &[_] = match version {
            TlsVersion::Tls12 => &["CLIENT_RANDOM"],
            _ => &[
                "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
                "CLIENT_TRAFFIC_SECRET_0",
                "EXPORTER_SECRET",
                "SERVER_HANDSHAKE_TRAFFIC_SECRET",
                "SERVER_TRAFFIC_SECRET_0",
            ],
        };
        let mut labels = labels(&keys);
        labels.sort();
        assert_eq!(labels, expected, "only the handshake with the key log");
    }
}

#[derive(Debug, Default)]
struct LabelLog(Mutex<Vec<String>>);

impl rustls::KeyLog for LabelLog {
    fn log(&self, label: &str, _: &[u8], _: &[u8]) {
        self.0.lock().unwrap().push(label.into());
    }
}

/// The key log of the given configuration still receives the secrets, and the configuration itself does not change.
#[tokio::test]
async fn the_key_log_of_a_given_configuration_is_kept() {
    let client = TestClient::new();
    let address = serve_tls_echo(client.authority.issue(&["web.test"]).server()).await;
    let own = Arc::new(LabelLog::default());
    let builder = ClientConfig::builder_with_provider(pki::provider()).with_safe_default_protocol_versions();
    let mut config = builder.unwrap().with_root_certificates(client.authority.store()).with_no_client_auth();
    config.key_log = own.clone();
    let config = Arc::new(config);
    let keys = KeyLog::new();
    let layer = |config: &Arc<ClientConfig>| TraceTlsLayer::builder(&client.sink).config(config.clone());
    let connect = async |layer: TraceTlsLayer| {
        exchange(connect(&layer, address, "https://web.test/").await.unwrap()).await.unwrap();
    };
    connect(layer(&config).key_log(&keys).build()).await;
    assert_eq!(labels(&keys), *own.0.lock().unwrap());
    let before = keys.len();
    connect(layer(&config).build()).await;
    assert_eq!(keys.len(), before);
    assert_eq!(own.0.lock().unwrap().len(), 2 * before);
}
