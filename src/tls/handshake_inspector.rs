//! Reads the unencrypted part of a TLS handshake as its bytes pass.
//!
//! rustls tells what was negotiated only once a handshake has succeeded. Here the server's choices and the alerts are
//! read from the stream itself, so that they are known when the handshake fails too. This works for clients and
//! servers.
//!
//! A [`HandshakeTap`](super::handshake_tap::HandshakeTap) feeds both directions into a [`HandshakeInspector`]. It
//! follows the record layer (RFC 8446 §5.1) and the handshake messages inside, however the stream is cut, keeps at most
//! one message of [`MAX_MESSAGE_BYTES`], and stops as soon as the peer turns on encryption or does not speak TLS at
//! all.
//!
//! [`ServerHello`] has the parser of the messages that are read. Of the ClientHello only the length is read. What a
//! client offers is known from its configuration; a server gets it from rustls, and of a relayed client
//! `passing_handshake` has rustls parse it. Nor would the bytes identify the client (as a JA3 fingerprint does): rustls
//! sends the extensions in random order.

use super::server_hello::ServerHello;
#[cfg(feature = "relay")]
use rustls::ProtocolVersion;
use rustls::{AlertDescription, ContentType, HandshakeType};

/// Enough for a ServerHello with a hybrid key share: that of SecP384r1MLKEM1024 has 1,665 bytes.
const MAX_MESSAGE_BYTES: usize = 2048;

const RECORD_HEADER_LEN: usize = 5;
const MESSAGE_HEADER_LEN: usize = 4;

/// The state of one handshake, from both of its directions.
#[derive(Debug, Default)]
pub(crate) struct HandshakeInspector {
    received: Direction,
    sent: Direction,
    /// Whether the last bytes that passed were written, not read.
    sent_last: bool,
    /// Whether this side had sent encrypted data by the time of the peer's ServerHello.
    #[cfg(feature = "relay")]
    sent_early_data: bool,
}

impl HandshakeInspector {
    /// Reads bytes that came from the peer.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.sent_last = false;
            #[cfg(feature = "relay")]
            if self.received.server_hello.is_none() {
                self.sent_early_data = self.sent.state == State::Encrypted;
            }
            self.received.follow(bytes);
        }
    }

    /// Reads bytes that were written to the peer.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.sent_last = true;
            self.sent.is_retried = self.received.awaits_second_hello();
            self.sent.follow(bytes);
        }
    }

    /// Returns the ServerHello, whichever side has sent it. A HelloRetryRequest counts as one until the real one comes.
    pub(super) fn server_hello(&self) -> Option<&ServerHello> {
        self.received.server_hello.as_ref().or(self.sent.server_hello.as_ref())
    }

    /// Returns `true` if this side has sent a ServerHello.
    pub(super) fn is_server(&self) -> bool {
        self.sent.server_hello.is_some()
    }

    /// Returns the fatal alert that the peer sent unencrypted.
    pub(super) fn received_alert(&self) -> Option<AlertDescription> {
        self.received.alert
    }

    /// Returns the fatal alert that this side sent unencrypted.
    pub(super) fn sent_alert(&self) -> Option<AlertDescription> {
        self.sent.alert
    }

    /// Returns `true` if something was written after the last bytes that came. After a failed handshake that is an
    /// alert, which may be encrypted.
    pub(super) fn sent_last(&self) -> bool {
        self.sent_last
    }

    /// Returns `true` if the peer, a server, sent a CertificateRequest. Only known in TLS 1.2: TLS 1.3 encrypts it.
    pub(super) fn requested_certificate(&self) -> bool {
        self.received.requested_certificate
    }

    /// Returns `true` if the peer, a client, does not speak TLS but sent an HTTP request.
    #[cfg(feature = "server")]
    pub(crate) fn is_http_request(&self) -> bool {
        // As much as fits into the header of a record.
        const BEGINNINGS: [&[u8; RECORD_HEADER_LEN]; 8] =
            [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"PATCH", b"DELET", b"OPTIO", b"PRI *"];
        self.received.state == State::NotTls && BEGINNINGS.contains(&&self.received.header)
    }

    /// Returns `true` if the peer does not speak TLS.
    #[cfg(feature = "relay")]
    pub(super) fn is_not_tls(&self) -> bool {
        self.received.state == State::NotTls
    }

    /// Returns `true` if this side, a client, has sent the beginning of a ClientHello.
    #[cfg(feature = "relay")]
    pub(super) fn has_sent_client_hello(&self) -> bool {
        self.sent.client_hello_len.is_some()
    }

    /// Returns the length of the first ClientHello in bytes, whichever side has sent it.
    pub(super) fn client_hello_len(&self) -> Option<u16> {
        self.sent.client_hello_len.or(self.received.client_hello_len)
    }

    /// Returns `true` if the server, whichever side it is, has sent a HelloRetryRequest.
    pub(super) fn is_retried(&self) -> bool {
        self.sent.has_sent_retry || self.received.has_sent_retry
    }

    /// Returns `true` if the server has turned on encryption, and this side, a client, has sent something encrypted:
    /// its Finished, or an alert.
    #[cfg(feature = "relay")]
    pub(super) fn has_ended(&self) -> bool {
        let is_encrypted = matches!(self.received.state, State::CipherChanged | State::Encrypted);
        self.sent.state == State::Encrypted && is_encrypted && self.received.server_hello.is_some()
    }

    /// Returns `true` if the first encrypted message of this side, a client, is too short for anything but an alert.
    /// Only known in TLS 1.3.
    #[cfg(feature = "relay")]
    pub(super) fn has_sent_encrypted_alert(&self) -> bool {
        /// A Finished has at least 32 bytes, with its header, the content type and the tag some more (RFC 8446 section
        /// 5.2). An alert has 2.
        const MIN_FINISHED_LEN: usize = 32 + MESSAGE_HEADER_LEN + 1 + 8;
        let is_tls13 = self
            .received
            .server_hello
            .as_ref()
            .is_some_and(|hello| hello.version == ProtocolVersion::TLSv1_3);
        let is_short = self.sent.first_encrypted_len.is_some_and(|len| len < MIN_FINISHED_LEN);
        is_tls13 && is_short && !self.sent_early_data
    }

    /// Returns `true` if the peer, a server, does not speak TLS but sent an HTTP/1 response.
    pub(super) fn is_http_response(&self) -> bool {
        self.received.state == State::NotTls && self.received.header == *b"HTTP/"
    }
}

/// One direction of the stream, at its current position.
#[derive(Debug, Default)]
struct Direction {
    state: State,
    /// The header of the current record, or the first bytes of a stream that is not TLS.
    header: [u8; RECORD_HEADER_LEN],
    /// How many bytes of the next header have come.
    header_len: usize,
    /// Bytes of the current record that are still to come.
    record_left: usize,
    /// The beginning of a handshake message, or of an alert, that is cut into pieces.
    message: Vec<u8>,
    /// How many of the bytes that follow are skipped, because they belong to a message of which nothing more is read.
    skip_left: usize,
    server_hello: Option<ServerHello>,
    requested_certificate: bool,
    alert: Option<AlertDescription>,
    /// Whether the other side has answered with a HelloRetryRequest, after which another ClientHello follows.
    is_retried: bool,
    /// The length of the first ClientHello, with the header of the message.
    client_hello_len: Option<u16>,
    /// Whether this side has sent a HelloRetryRequest.
    has_sent_retry: bool,
    /// The length of the first encrypted record, of TLS 1.3.
    #[cfg(feature = "relay")]
    first_encrypted_len: Option<usize>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum State {
    #[default]
    FirstRecord,
    LaterRecords,
    /// The first bytes are no TLS record. Nothing more is read.
    NotTls,
    /// The next record is encrypted.
    CipherChanged,
    /// A record is encrypted, or unknown. Nothing more is read.
    Encrypted,
}

impl Direction {
    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !matches!(self.state, State::NotTls | State::Encrypted) {
            if self.record_left == 0 {
                bytes = self.read_header(bytes);
                continue;
            }
            let (body, rest) = bytes.split_at(self.record_left.min(bytes.len()));
            bytes = rest;
            self.record_left -= body.len();
            match self.content_type() {
                ContentType::Handshake => self.read_handshake(body),
                ContentType::Alert => self.read_alert(body),
                _ => {}
            }
        }
    }

    /// Reads the header of a record, or a part of it. Returns the bytes that follow.
    fn read_header<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (part, rest) = bytes.split_at((RECORD_HEADER_LEN - self.header_len).min(bytes.len()));
        self.header[self.header_len..self.header_len + part.len()].copy_from_slice(part);
        self.header_len += part.len();
        if self.header_len < RECORD_HEADER_LEN {
            return rest;
        }
        self.header_len = 0;
        self.record_left = self.record_len();
        self.state = match (self.content_type(), self.header[1]) {
            (ContentType::ApplicationData, 3) if self.state != State::FirstRecord => {
                #[cfg(feature = "relay")]
                self.first_encrypted_len.get_or_insert(self.record_left);
                State::Encrypted
            }
            _ if self.state == State::CipherChanged => State::Encrypted,
            (ContentType::Handshake | ContentType::Alert, 3) => State::LaterRecords,
            // Middlebox compatibility mode (RFC 8446 §D.4) puts a ChangeCipherSpec between HelloRetryRequest and
            // ServerHello. It does not turn on encryption.
            (ContentType::ChangeCipherSpec, 3) if self.awaits_second_hello() => State::LaterRecords,
            (ContentType::ChangeCipherSpec, 3) => State::CipherChanged,
            (ContentType::ApplicationData, 3) => State::Encrypted,
            _ if self.state == State::FirstRecord => State::NotTls,
            _ => State::Encrypted,
        };
        // A message never continues after a record of another type.
        if self.content_type() != ContentType::Handshake {
            self.message.clear();
            self.skip_left = 0;
        }
        rest
    }

    fn content_type(&self) -> ContentType {
        self.header[0].into()
    }

    fn record_len(&self) -> usize {
        u16::from_be_bytes([self.header[3], self.header[4]]).into()
    }

    fn awaits_second_hello(&self) -> bool {
        self.is_retried || self.server_hello.as_ref().is_some_and(|hello| hello.is_retry)
    }

    fn read_alert(&mut self, body: &[u8]) {
        const ALERT_LEN: usize = 2;
        const FATAL: u8 = 2;
        let missing = ALERT_LEN.saturating_sub(self.message.len());
        self.message.extend_from_slice(&body[..body.len().min(missing)]);
        // An encrypted alert is longer.
        let is_plain = self.record_len() == ALERT_LEN;
        if let (true, [FATAL, description]) = (is_plain, self.message.as_slice()) {
            self.alert.get_or_insert((*description).into());
        }
        if self.record_left == 0 {
            self.message.clear();
        }
    }

    fn read_handshake(&mut self, mut body: &[u8]) {
        while !body.is_empty() {
            if self.skip_left > 0 {
                let skip = self.skip_left.min(body.len());
                self.skip_left -= skip;
                body = &body[skip..];
            } else if let (true, Some(len)) = (self.message.is_empty(), message_len(body))
                && (len <= body.len() || !needs_body(body[0].into()))
            {
                // The usual case: the message is whole, or its header suffices, and nothing is copied. Then all of it
                // is skipped.
                self.read_message(&body[..len.min(body.len())]);
                self.skip_left = len;
            } else {
                body = self.collect(body);
            }
        }
    }

    /// Puts a message together that is cut into pieces. Returns the bytes that follow.
    fn collect<'a>(&mut self, body: &'a [u8]) -> &'a [u8] {
        let wanted = message_len(&self.message).map_or(MESSAGE_HEADER_LEN, |len| len.min(MAX_MESSAGE_BYTES));
        let part = wanted.saturating_sub(self.message.len()).min(body.len());
        self.message.extend_from_slice(&body[..part]);
        if let Some(len) = message_len(&self.message)
            && self.message.len() >= len.min(MAX_MESSAGE_BYTES)
        {
            self.skip_left = len.saturating_sub(MAX_MESSAGE_BYTES);
            let message = std::mem::take(&mut self.message);
            self.read_message(&message);
        }
        &body[part..]
    }

    fn read_message(&mut self, message: &[u8]) {
        let Some((&[kind, ..], body)) = message.split_first_chunk::<MESSAGE_HEADER_LEN>() else { return };
        match kind.into() {
            HandshakeType::ClientHello => {
                let len = message_len(message).map_or(u16::MAX, |len| u16::try_from(len).unwrap_or(u16::MAX));
                self.client_hello_len.get_or_insert(len);
            }
            HandshakeType::ServerHello => {
                self.server_hello = ServerHello::parse(body).or(self.server_hello.take());
                self.has_sent_retry |= self.server_hello.as_ref().is_some_and(|hello| hello.is_retry);
            }
            HandshakeType::ServerKeyExchange => {
                if let Some(hello) = &mut self.server_hello {
                    hello.read_key_exchange(body);
                }
            }
            HandshakeType::CertificateRequest => self.requested_certificate = true,
            _ => {}
        }
    }
}

/// Returns `true` if the body of such a message is read, and not only its type.
fn needs_body(kind: HandshakeType) -> bool {
    matches!(kind, HandshakeType::ServerHello | HandshakeType::ServerKeyExchange)
}

/// Returns the length of the message including its header, once the header is complete.
fn message_len(message: &[u8]) -> Option<usize> {
    let [_, a, b, c, ..] = *message else { return None };
    Some(MESSAGE_HEADER_LEN + u32::from_be_bytes([0, a, b, c]) as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::{CipherSuite, NamedGroup, ProtocolVersion};

    use super::*;

    #[test]
    fn a_tls13_hello_with_a_large_key_share_is_read() {
        let mut extensions = extension(51, &[&[0x11, 0xec, 0x04, 0x60][..], &[7; 1120]].concat());
        extensions.extend(extension(43, &[3, 4]));
        let wire = record(22, &message(2, &hello(0x1301, &[1; 32], &extensions)));
        for cut in [1, 2, 3, 7, 512, wire.len()] {
            let mut inspector = HandshakeInspector::default();
            wire.chunks(cut).for_each(|part| inspector.received(part));
            let hello = inspector.server_hello().expect("read");
            assert_eq!(hello.version, ProtocolVersion::TLSv1_3);
            assert_eq!(hello.cipher_suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
            assert_eq!(hello.group, Some(NamedGroup::X25519MLKEM768));
        }
    }

    #[test]
    fn a_tls12_hello_has_alpn_and_the_key_exchange_the_curve() {
        let hello = message(2, &hello(0xc02f, &[1; 32], &extension(16, b"\x00\x03\x02h2")));
        let certificate = message(11, &vec![0; 5000]);
        let key_exchange = message(12, &[3, 0, 0x1d, 1, 2, 3]);
        let request = message(13, &[1, 64, 0, 2, 4, 3, 0, 0]);
        let all = [hello, certificate, key_exchange, request].concat();
        // Messages may share a record or be spread over many.
        let wire: Vec<u8> = all.chunks(700).flat_map(|part| record(22, part)).collect();
        let mut inspector = HandshakeInspector::default();
        inspector.received(&wire);
        let hello = inspector.server_hello().expect("read");
        assert_eq!(hello.version, ProtocolVersion::TLSv1_2);
        assert_eq!(hello.cipher_suite, CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256);
        assert_eq!(hello.group, Some(NamedGroup::X25519));
        assert_eq!(hello.alpn.as_deref(), Some(&b"h2"[..]));
        assert!(inspector.requested_certificate());
    }

    #[test]
    fn the_hello_after_a_retry_replaces_it() {
        let retry_random = {
            use sha2::Digest;
            sha2::Sha256::digest(b"HelloRetryRequest")
        };
        let versions = extension(43, &[3, 4]);
        let retry = hello(0x1302, &retry_random, &[versions.clone(), extension(51, &[0, 23])].concat());
        let second = hello(0x1302, &[9; 32], &[versions, extension(51, &[0, 23, 0, 1, 5])].concat());
        let mut inspector = HandshakeInspector::default();
        inspector.received(&record(22, &message(2, &retry)));
        let group = Some(NamedGroup::secp256r1);
        assert!(inspector.server_hello().is_some_and(|hello| hello.is_retry && hello.group == group));
        inspector.received(&record(20, &[1]));
        inspector.received(&record(22, &message(2, &second)));
        assert!(inspector.server_hello().is_some_and(|hello| !hello.is_retry && hello.group == group));
    }

    #[test]
    fn encrypted_records_are_not_read() {
        let mut inspector = HandshakeInspector::default();
        inspector.received(&record(22, &message(2, &hello(0xc02f, &[1; 32], &[]))));
        inspector.received(&record(20, &[1]));
        inspector.received(&record(22, &message(2, &hello(0xc030, &[1; 32], &[]))));
        inspector.received(&record(21, &[2, 40]));
        assert!(
            inspector.server_hello().is_some_and(|hello| hello.cipher_suite == CipherSuite::from(0xc02f))
        );
        assert_eq!(inspector.received_alert(), None);
    }

    #[test]
    fn plaintext_alerts_of_both_directions_are_read() {
        let mut inspector = HandshakeInspector::default();
        inspector.sent(&record(22, &message(1, &[0; 1500])));
        assert!(inspector.sent_last());
        inspector.received(&record(21, &[1, 112]));
        assert_eq!(inspector.received_alert(), None, "a warning does not end the handshake");
        inspector.received(&record(21, &[2, 40]));
        inspector.sent(&record(21, &[2, 80])[..6]);
        inspector.sent(&record(21, &[2, 80])[6..]);
        assert_eq!(inspector.received_alert(), Some(AlertDescription::HandshakeFailure));
        assert_eq!(inspector.sent_alert(), Some(AlertDescription::InternalError));
    }

    #[test]
    fn other_protocols_are_recognised() {
        let mut inspector = HandshakeInspector::default();
        inspector.received(b"HT");
        assert!(!inspector.is_http_response());
        inspector.received(b"TP/1.1 400 Bad Request\r\n\r\n");
        assert!(inspector.is_http_response());
        let mut inspector = HandshakeInspector::default();
        inspector.received(b"SSH-2.0-OpenSSH\r\n");
        assert!(!inspector.is_http_response());
        assert_eq!(inspector.received.state, State::NotTls);
    }

    proptest! {
        #[test]
        fn any_bytes_cause_no_panic_and_take_bounded_memory(parts: Vec<(bool, Vec<u8>)>) {
            feed(&parts);
        }

        #[test]
        fn tls_like_bytes_cause_no_panic_and_take_bounded_memory(
            messages in prop::collection::vec((0u8..16, prop::collection::vec(any::<u8>(), 0..3000)), 0..6),
            kinds in prop::collection::vec(prop::sample::select(vec![20u8, 21, 22, 22, 22, 23]), 1..6),
            record_len in 1usize..4000,
            cut in 1usize..600,
        ) {
            let all: Vec<u8> = messages.iter().flat_map(|(kind, body)| message(*kind, body)).collect();
            let wire: Vec<u8> =
                all.chunks(record_len).zip(kinds.iter().cycle()).flat_map(|(part, kind)| record(*kind, part)).collect();
            feed(&wire.chunks(cut).map(|part| (true, part.to_vec())).collect::<Vec<_>>());
        }

        #[test]
        fn splitting_the_bytes_changes_nothing(extensions: Vec<u8>, suite: u16, cut in 1usize..50) {
            let wire = record(22, &message(2, &hello(suite, &[3; 32], &extensions)));
            let (mut whole, mut parts) = (HandshakeInspector::default(), HandshakeInspector::default());
            whole.received(&wire);
            wire.chunks(cut).for_each(|part| parts.received(part));
            prop_assert_eq!(whole.server_hello(), parts.server_hello());
        }
    }

    fn feed(parts: &[(bool, Vec<u8>)]) {
        let mut inspector = HandshakeInspector::default();
        for (is_received, bytes) in parts {
            if *is_received {
                inspector.received(bytes)
            } else {
                inspector.sent(bytes)
            }
            assert!(inspector.received.message.len() <= MAX_MESSAGE_BYTES);
            assert!(inspector.sent.message.len() <= MAX_MESSAGE_BYTES);
        }
    }

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind, 3, 3][..], &(body.len() as u16).to_be_bytes(), body].concat()
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind][..], &(body.len() as u32).to_be_bytes()[1..], body].concat()
    }

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat()
    }

    fn hello(suite: u16, random: &[u8], extensions: &[u8]) -> Vec<u8> {
        let len = (extensions.len() as u16).to_be_bytes();
        [&[3, 3][..], random, &[0], &suite.to_be_bytes(), &[0], &len, extensions].concat()
    }
}
