//! A minimal server side of HTTP/2 (RFC 9113), with which a script controls every frame.

use std::io;

use test_support::raw::Conn;

pub(super) const NO_ERROR: u32 = 0;
pub(super) const INTERNAL_ERROR: u32 = 2;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const CANCEL: u32 = 8;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The server side of an HTTP/2 connection.
pub(super) struct Frames(Conn);

struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frames {
    /// Reads the client's preface and sends an empty SETTINGS frame.
    pub(super) async fn accept(conn: Conn) -> io::Result<Self> {
        let mut frames = Self::listen(conn).await?;
        frames.write(SETTINGS, 0, 0, &[]).await?;
        Ok(frames)
    }

    /// Reads the client's preface without sending anything.
    pub(super) async fn listen(mut conn: Conn) -> io::Result<Self> {
        assert_eq!(conn.read(PREFACE.len()).await?, PREFACE);
        Ok(Self(conn))
    }

    /// Sends SETTINGS that allow one open stream at a time.
    pub(super) async fn limit_to_one_stream(&mut self) -> io::Result<()> {
        const MAX_CONCURRENT_STREAMS: u16 = 3;
        let setting = [&MAX_CONCURRENT_STREAMS.to_be_bytes()[..], &1u32.to_be_bytes()].concat();
        self.write(SETTINGS, 0, 0, &setting).await
    }

    /// Returns the stream ID of the next request.
    pub(super) async fn request(&mut self) -> io::Result<u32> {
        self.next(HEADERS).await.map(|frame| frame.stream)
    }

    /// Returns the stream ID and the payload of the next DATA frame.
    pub(super) async fn content(&mut self) -> io::Result<(u32, Vec<u8>)> {
        self.next(DATA).await.map(|frame| (frame.stream, frame.payload))
    }

    /// Returns the stream ID and the error code of the next RST_STREAM frame.
    pub(super) async fn was_reset(&mut self) -> io::Result<(u32, u32)> {
        let Frame { stream, payload, .. } = self.next(RST_STREAM).await?;
        Ok((stream, u32::from_be_bytes(payload.try_into().expect("four bytes"))))
    }

    /// Reads until the client closes the connection.
    pub(super) async fn until_closed(&mut self) {
        while self.read().await.is_ok() {}
    }

    /// Sends a complete response.
    pub(super) async fn answer(&mut self, stream: u32) -> io::Result<()> {
        self.header(stream).await?;
        self.data(stream, b"hello", true).await
    }

    /// Sends the header of a response with status 200.
    pub(super) async fn header(&mut self, stream: u32) -> io::Result<()> {
        const STATUS_200: u8 = 0x80 | 8; // RFC 7541 appendix A
        self.write(HEADERS, END_HEADERS, stream, &[STATUS_200]).await
    }

    /// Sends the header of a response with status 200 and a `content-length`.
    pub(super) async fn header_declaring(&mut self, stream: u32, length: u32) -> io::Result<()> {
        const STATUS_200: u8 = 0x80 | 8;
        const CONTENT_LENGTH: [u8; 2] = [0x0f, 28 - 15]; // a literal with an indexed name (RFC 7541 section 6.2.2)
        let value = length.to_string();
        let block = [&[STATUS_200], &CONTENT_LENGTH[..], &[value.len() as u8], value.as_bytes()].concat();
        self.write(HEADERS, END_HEADERS, stream, &block).await
    }

    pub(super) async fn data(&mut self, stream: u32, bytes: &[u8], last: bool) -> io::Result<()> {
        self.write(DATA, if last { END_STREAM } else { 0 }, stream, bytes).await
    }

    pub(super) async fn reset(&mut self, stream: u32, code: u32) -> io::Result<()> {
        self.write(RST_STREAM, 0, stream, &code.to_be_bytes()).await
    }

    /// Sends GOAWAY: no stream after `last` was or will be processed.
    pub(super) async fn go_away(&mut self, last: u32, code: u32) -> io::Result<()> {
        self.write(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat()).await
    }

    pub(super) fn into_inner(self) -> Conn {
        self.0
    }

    /// Returns the next frame of this kind, and skips others.
    async fn next(&mut self, kind: u8) -> io::Result<Frame> {
        loop {
            let frame = self.read().await?;
            if frame.kind == kind {
                return Ok(frame);
            }
        }
    }

    /// Reads a frame, and acknowledges SETTINGS and PING.
    async fn read(&mut self) -> io::Result<Frame> {
        let header = self.0.read(9).await?;
        let [a, b, c, kind, flags, ref stream @ ..] = header[..] else { unreachable!("nine bytes") };
        let payload = self.0.read(u32::from_be_bytes([0, a, b, c]) as usize).await?;
        let stream = u32::from_be_bytes((*stream).try_into().expect("four bytes"));
        match kind {
            SETTINGS if flags & ACK == 0 => self.write(SETTINGS, ACK, 0, &[]).await?,
            PING if flags & ACK == 0 => self.write(PING, ACK, 0, &payload).await?,
            _ => {}
        }
        Ok(Frame { kind, stream, payload })
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = (payload.len() as u32).to_be_bytes();
        let header = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.write(&[&header, payload].concat()).await
    }
}
