//! [`ServerHello`]: what a TLS server chose, parsed from its messages.

use rustls::{CipherSuite, NamedGroup, ProtocolVersion};

/// A ServerHello (RFC 8446 §4.1.3, RFC 5246 §7.4.1.3) with what a later ServerKeyExchange adds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ServerHello {
    /// The negotiated version: that of the extension `supported_versions` where there is one.
    pub(super) version: ProtocolVersion,
    pub(super) cipher_suite: CipherSuite,
    /// The key exchange group. In TLS 1.2 `None` until the ServerKeyExchange has come.
    pub(super) group: Option<NamedGroup>,
    /// The protocol that ALPN chose. Only known in TLS 1.2: TLS 1.3 encrypts it.
    pub(super) alpn: Option<Vec<u8>>,
    /// It is a HelloRetryRequest, after which another ServerHello follows.
    pub(super) is_retry: bool,
}

impl ServerHello {
    /// Parses the body of a ServerHello. Returns `None` if it ends before its extensions.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        /// SHA-256 of "HelloRetryRequest" (RFC 8446 §4.1.3).
        const RETRY_RANDOM: [u8; 32] = [
            0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
            0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
        ];
        let mut reader = Reader(body);
        let version = reader.u16()?.into();
        let is_retry = reader.take(RETRY_RANDOM.len())? == RETRY_RANDOM;
        let session_id_len = reader.u8()?;
        reader.take(usize::from(session_id_len))?;
        let cipher_suite = reader.u16()?.into();
        let _compression_method = reader.u8()?;
        let mut hello = ServerHello { version, cipher_suite, group: None, alpn: None, is_retry };
        // What follows is optional: a hello may have no extensions, and one that is longer than the limit is cut.
        if let Some(len) = reader.u16() {
            parse_extensions(Reader(reader.up_to(usize::from(len))), &mut hello);
        }
        Some(hello)
    }

    /// Adds the curve of a ServerKeyExchange.
    pub(super) fn read_key_exchange(&mut self, body: &[u8]) {
        self.group = parse_named_curve(Reader(body));
    }
}

/// Reads extensions into `hello` until they end or one cannot be read. Always returns `None`: the type is there for
/// `?`.
fn parse_extensions(mut reader: Reader<'_>, hello: &mut ServerHello) -> Option<()> {
    // rustls does not export its `ExtensionType`.
    const ALPN: u16 = 16;
    const SUPPORTED_VERSIONS: u16 = 43;
    const KEY_SHARE: u16 = 51;
    loop {
        let kind = reader.u16()?;
        let len = reader.u16()?;
        let mut data = Reader(reader.up_to(usize::from(len)));
        match kind {
            ALPN => {
                let _list_len = data.u16()?;
                let len = data.u8()?;
                hello.alpn = Some(data.take(usize::from(len))?.to_vec());
            }
            SUPPORTED_VERSIONS => hello.version = data.u16()?.into(),
            KEY_SHARE => hello.group = Some(data.u16()?.into()),
            _ => {}
        }
    }
}

/// Returns the curve of a ServerKeyExchange that begins with ServerECDHParams (RFC 8422 §5.4). Other kinds of key
/// exchange have none.
fn parse_named_curve(mut reader: Reader<'_>) -> Option<NamedGroup> {
    const NAMED_CURVE: u8 = 3;
    (reader.u8()? == NAMED_CURVE).then(|| reader.u16()).flatten().map(NamedGroup::from)
}

/// The bytes of a message that have not been read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads exactly `len` bytes.
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(part)
    }

    /// Reads `len` bytes, or what is left.
    fn up_to(&mut self, len: usize) -> &'a [u8] {
        let (part, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        part
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }
}
