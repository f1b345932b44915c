//! DNS over TLS (RFC 7858): many queries at once over one connection.
//!
//! A task writes the queries and reads the replies, so that a query whose future is dropped neither leaves half a
//! message on the stream nor loses the reply of another one. Replies come in any order, and are matched by their IDs
//! (RFC 7766 section 7).

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, split},
    sync::{Semaphore, mpsc, oneshot, watch},
    time::timeout,
};

use super::{
    dial::EstablishedStream,
    failure::SessionFailure,
    liveness::Liveness,
    usage::{IDLE_LIMIT, Usage},
};
use crate::{
    record::EndReason,
    sink::{ConnRef, RequestHandle},
    sync::IgnorePoison,
};

/// How long to wait until the nameserver takes the closing message of TLS.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How many queries wait until they are written. Others wait for their turn.
const MAX_UNSENT: usize = 16;
/// How many queries are open on a connection at a time: far fewer than there are IDs. Others wait for their turn.
const MAX_OPEN: usize = 1000;
/// Capacity of the buffer for replies, in bytes.
const READ_BUFFER: usize = 2048;

/// An open connection.
pub(super) struct TlsSession {
    unsent: mpsc::Sender<Unsent>,
    state: Arc<SessionState>,
}

/// A query to write.
struct Unsent {
    /// The message, preceded by its length.
    frame: Vec<u8>,
    sent: oneshot::Sender<()>,
}

struct SessionState {
    waiting: Mutex<Waiting>,
    /// One permit for each ID that may be reserved. Closed with the connection.
    permits: Semaphore,
    liveness: Arc<Liveness>,
    usage: Usage,
}

/// The queries that wait for a reply, by their IDs.
#[derive(Default)]
struct Waiting {
    queries: HashMap<u16, Option<oneshot::Sender<Vec<u8>>>>,
    /// Why the connection ended.
    closed: Option<SessionFailure>,
}

/// An ID that no other query on the connection has, as long as it is reserved.
pub(in crate::resolve::stub) struct ReservedId {
    id: u16,
    /// `None` where replies are not matched by their IDs.
    state: Option<Arc<SessionState>>,
}

impl ReservedId {
    /// Returns the ID of all messages over HTTPS. The same query is then always the same request, which caches use (RFC
    /// 8484 section 4.1).
    pub(super) fn any() -> Self {
        ReservedId { id: 0, state: None }
    }

    pub(in crate::resolve::stub) fn id(&self) -> u16 {
        self.id
    }
}

impl Drop for ReservedId {
    fn drop(&mut self) {
        if let Some(state) = &self.state {
            state.waiting.lock().ignore_poison().queries.remove(&self.id);
            state.permits.add_permits(1);
        }
    }
}

impl TlsSession {
    /// Begins the task of the connection, which ends it when the session is dropped or idle for too long. `alive` is
    /// dropped after that.
    pub(super) fn begin(
        stream: EstablishedStream,
        liveness: Arc<Liveness>,
        alive: watch::Sender<()>,
    ) -> Self {
        let EstablishedStream { io, conn } = stream;
        let (unsent, queue) = mpsc::channel(MAX_UNSENT);
        let state = Arc::new(SessionState::new(liveness));
        let driven = drive(TokioIo::new(io), queue, CloseOnDrop(state.clone()), conn);
        tokio::spawn(async move {
            driven.await;
            drop(alive);
        });
        TlsSession { unsent, state }
    }

    pub(super) fn is_open(&self) -> bool {
        !self.unsent.is_closed() && self.state.waiting.lock().ignore_poison().closed.is_none()
    }

    /// Reserves an unpredictable ID. Waits while [`MAX_OPEN`] queries are open.
    pub(super) async fn reserve(&self) -> Result<ReservedId, SessionFailure> {
        self.state.permits.acquire().await.map_err(|_| self.closed())?.forget();
        let mut waiting = self.state.waiting.lock().ignore_poison();
        let mut id = fastrand::u16(..);
        while waiting.queries.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        waiting.queries.insert(id, None);
        Ok(ReservedId { id, state: Some(self.state.clone()) })
    }

    /// Sends a query with a reserved ID, and returns the reply with the same ID.
    pub(super) async fn exchange(
        &self,
        id: ReservedId,
        query: Vec<u8>,
        on_sent: impl FnOnce(Option<&RequestHandle>),
    ) -> Result<Vec<u8>, SessionFailure> {
        let _in_use = self.state.usage.begin();
        let (reply_to, reply) = oneshot::channel();
        self.state.waiting.lock().ignore_poison().queries.insert(id.id, Some(reply_to));
        let (sent_to, sent) = oneshot::channel();
        let unsent = Unsent { frame: framed(&query), sent: sent_to };
        self.unsent.send(unsent).await.map_err(|_| self.closed())?;
        sent.await.map_err(|_| self.closed())?;
        on_sent(None);
        reply.await.map_err(|_| self.closed())
    }

    /// Returns why the connection ended.
    fn closed(&self) -> SessionFailure {
        let closed = self.state.waiting.lock().ignore_poison().closed.clone();
        closed.unwrap_or(SessionFailure::NoTask)
    }
}

/// Returns a message preceded by its length (RFC 1035 section 4.2.2).
fn framed(message: &[u8]) -> Vec<u8> {
    // The length fits: a query has one name of at most 255 octets.
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

impl SessionState {
    fn new(liveness: Arc<Liveness>) -> Self {
        SessionState {
            waiting: Mutex::default(),
            permits: Semaphore::new(MAX_OPEN),
            liveness,
            usage: Usage::new(),
        }
    }

    /// Passes a reply to the query that waits for it. Others are dropped: their query has been given up.
    ///
    /// # Errors
    ///
    /// When the message has no ID, so that nobody knows what it answers.
    fn on_reply(&self, message: Vec<u8>) -> Result<(), SessionFailure> {
        let Some(id) = message.first_chunk().map(|id| u16::from_be_bytes(*id)) else {
            let text = format!("malformed: {} bytes are less than a header", message.len());
            return Err(SessionFailure::BadReply(text));
        };
        self.liveness.received();
        let waiting = self.waiting.lock().ignore_poison().queries.get_mut(&id).and_then(Option::take);
        if let Some(query) = waiting {
            let _ = query.send(message); // an error means that the query was given up just now
        }
        Ok(())
    }

    /// Has all queries fail with the error.
    fn on_closed(&self, failure: SessionFailure) {
        let mut waiting = self.waiting.lock().ignore_poison();
        waiting.closed.get_or_insert(failure);
        waiting.queries.values_mut().for_each(|query| *query = None);
        self.permits.close();
    }
}

/// Has all queries fail when it is dropped: the runtime of the connection may be shut down.
struct CloseOnDrop(Arc<SessionState>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.on_closed(SessionFailure::NoTask);
    }
}

/// Runs the connection to its end.
async fn drive<S: AsyncRead + AsyncWrite>(
    stream: S,
    mut queue: mpsc::Receiver<Unsent>,
    state: CloseOnDrop,
    conn: Option<ConnRef>,
) {
    let state = &*state.0;
    let (mut reader, mut writer) = split(stream);
    let ended = tokio::select! {
        failure = read_all(&mut reader, state) => Some(failure),
        result = write_all(&mut writer, &mut queue, &state.liveness) => result.err().map(SessionFailure::from),
        () = state.usage.idle_for(IDLE_LIMIT) => {
            if let Some(conn) = &conn {
                conn.set_close_reason(EndReason::IdleLimit);
            }
            None
        }
    };
    // Nothing is sent any more. What was not sent fails with the same error.
    queue.close();
    let is_broken = ended.is_some();
    let idle = || {
        let text = "the connection to the nameserver was idle for too long";
        io::Error::new(io::ErrorKind::NotConnected, text).into()
    };
    state.on_closed(ended.unwrap_or_else(idle));
    if !is_broken {
        let _ = timeout(CLOSE_TIMEOUT, writer.shutdown()).await; // it is closed in any case
    }
}

/// Reads replies until the connection ends.
async fn read_all<R: AsyncRead + Unpin>(reader: R, state: &SessionState) -> SessionFailure {
    let mut reader = BufReader::with_capacity(READ_BUFFER, reader);
    loop {
        let result = match read_frame(&mut reader).await {
            Ok(message) => state.on_reply(message),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let text = "the nameserver closed the connection before the end of its reply";
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, text).into())
            }
            Err(error) => Err(error.into()),
        };
        if let Err(failure) = result {
            return failure;
        }
    }
}

async fn read_frame<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Vec<u8>> {
    let len = reader.read_u16().await?;
    let mut message = vec![0; len.into()];
    reader.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes queries until nobody can send another one.
async fn write_all<W: AsyncWrite + Unpin>(
    writer: &mut W,
    queue: &mut mpsc::Receiver<Unsent>,
    liveness: &Liveness,
) -> io::Result<()> {
    while let Some(Unsent { frame, sent }) = queue.recv().await {
        if sent.is_closed() {
            continue; // given up before it was written
        }
        liveness.sent();
        writer.write_all(&frame).await?;
        writer.flush().await?;
        let _ = sent.send(()); // an error means that the query was given up just now
    }
    Ok(())
}
