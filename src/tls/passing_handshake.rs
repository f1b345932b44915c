//! [`PassingHandshake`]: records the TLS of two peers whose bytes this program passes on.
//!
//! Only what is not encrypted can be read: the name that the client asks for (SNI), and the server's choices. The
//! ClientHello is parsed by rustls, as a server parses it to choose a configuration. The rest is read by the
//! [`HandshakeInspector`] that reads this program's own handshakes.

use super::{
    handshake_inspector::HandshakeInspector,
    handshake_recorder::{self, hello_facts},
};
use crate::{
    error::{
        FailureDetail,
        rustls::{alert_name, rustls_failure, server_failure},
    },
    record::{EndReason, Failure, Text},
    sink::{ConnRef, TlsFacts, TlsRecorder, TraceSink},
};
use rustls::{Error, InvalidMessage, server::Acceptor};
use std::fmt;

/// The TLS of two peers, from both directions of their connection.
#[derive(Debug)]
pub(crate) struct PassingHandshake {
    sink: TraceSink,
    conn: Option<ConnRef>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// No ClientHello has come. This many more reads from the client are searched for one: a protocol such as
    /// PostgreSQL's or SMTP agrees on TLS first.
    Searching {
        pieces_left: u8,
    },
    ClientHello {
        hello: Box<ClientHello>,
        pieces_left: u8,
    },
    Handshake {
        recorder: TlsRecorder,
        inspector: Box<HandshakeInspector>,
    },
    Established(TlsRecorder),
    /// There is no TLS, or it has ended.
    Over,
}

/// How many reads from the client are searched. The protocols that agree on TLS first need up to four.
const SEARCHED_PIECES: u8 = 8;

/// A ClientHello that arrives in pieces.
struct ClientHello {
    parser: Acceptor,
    inspector: Box<HandshakeInspector>,
}

impl fmt::Debug for ClientHello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientHello")
    }
}

impl PassingHandshake {
    /// Creates the recorder of `conn`, the connection to the server, before any byte has passed.
    pub(crate) fn new(sink: &TraceSink, conn: Option<ConnRef>) -> Self {
        let state = match &conn {
            Some(conn) if sink.records_tls_over(conn) => State::Searching { pieces_left: SEARCHED_PIECES },
            _ => State::Over,
        };
        PassingHandshake { sink: sink.clone(), conn, state }
    }

    /// Reads bytes that the client sent.
    pub(crate) fn client_sent(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Searching { pieces_left: 0 } => State::Over,
            State::Searching { pieces_left } => match beginning_of_hello(bytes) {
                Some(at) => {
                    let hello = ClientHello { parser: Acceptor::default(), inspector: Box::default() };
                    self.read_hello(Box::new(hello), pieces_left - 1, &bytes[at..])
                }
                None => State::Searching { pieces_left: pieces_left - 1 },
            },
            State::ClientHello { hello, pieces_left } => self.read_hello(hello, pieces_left, bytes),
            State::Handshake { recorder, mut inspector } => {
                inspector.sent(bytes);
                after(recorder, inspector)
            }
            state @ (State::Established(_) | State::Over) => state,
        }
    }

    fn read_hello(&self, mut hello: Box<ClientHello>, pieces_left: u8, bytes: &[u8]) -> State {
        hello.inspector.sent(bytes);
        let begin = |server_name, inspector| {
            let recorder = self.sink.tls(self.conn.as_ref(), || server_name);
            State::Handshake { recorder, inspector }
        };
        match hello.read(bytes) {
            Ok(None) => State::ClientHello { hello, pieces_left },
            Ok(Some(server_name)) => begin(server_name, hello.inspector),
            // A server may accept what rustls does not, such as a client of before TLS 1.2.
            Err(_) if hello.inspector.has_sent_client_hello() => begin(Text::EMPTY, hello.inspector),
            Err(_) => State::Searching { pieces_left },
        }
    }

    /// Reads bytes that the server sent.
    pub(crate) fn server_sent(&mut self, bytes: &[u8]) {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Handshake { recorder, mut inspector } => {
                inspector.received(bytes);
                after(recorder, inspector)
            }
            state => state,
        }
    }

    /// Records that the client sends nothing more. It has given up a handshake that is not complete.
    pub(crate) fn client_ended(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Handshake { recorder, inspector } => {
                let fault = FailureDetail::new(Failure::Interrupted, "the client gave the handshake up");
                recorder.failed(hello_facts(&inspector), fault, EndReason::Cancelled);
                State::Over
            }
            state @ State::Established(_) => state,
            State::Searching { .. } | State::ClientHello { .. } | State::Over => State::Over,
        }
    }

    /// Records that the server has ended the connection, with an error if it did not end in the usual way.
    pub(crate) fn server_ended(&mut self, fault: Option<FailureDetail>) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Handshake { recorder, inspector } => {
                let text = "the server closed the connection before the handshake was complete";
                let fault = fault.unwrap_or_else(|| FailureDetail::new(Failure::EofError, text));
                recorder.failed(hello_facts(&inspector), fault, EndReason::Failed);
            }
            State::Established(mut recorder) => {
                match fault {
                    Some(fault) => recorder.broken(fault),
                    None => recorder.peer_closed(),
                }
                self.state = State::Established(recorder);
            }
            State::Searching { .. } | State::ClientHello { .. } | State::Over => {}
        }
    }
}

impl Drop for PassingHandshake {
    fn drop(&mut self) {
        self.client_ended();
    }
}

impl ClientHello {
    /// Returns the name that the client asks for, empty if it names none, once the message is complete.
    fn read(&mut self, mut bytes: &[u8]) -> Result<Option<Text>, ()> {
        while !bytes.is_empty() {
            if self.parser.read_tls(&mut bytes).map_err(|_| ())? == 0 {
                return Err(());
            }
            if let Some(accepted) = self.parser.accept().map_err(|_| ())? {
                return Ok(Some(accepted.client_hello().server_name().unwrap_or_default().into()));
            }
        }
        Ok(None)
    }
}

/// Returns where a record with a ClientHello begins, as far as the bytes tell. A client may send it together with what
/// agrees on TLS, as MySQL's does.
fn beginning_of_hello(bytes: &[u8]) -> Option<usize> {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    let is_hello = |bytes: &[u8]| matches!(bytes, [HANDSHAKE, 3, 0..=4, _, _, CLIENT_HELLO, ..]);
    let is_cut = |bytes: &[u8]| {
        matches!(bytes, [HANDSHAKE] | [HANDSHAKE, 3] | [HANDSHAKE, 3, 0..=4, ..]) && bytes.len() < 6
    };
    if is_cut(bytes) { Some(0) } else { (0..bytes.len()).find(|at| is_hello(&bytes[*at..])) }
}

/// Returns the state after more of a handshake has passed.
fn after(mut recorder: TlsRecorder, inspector: Box<HandshakeInspector>) -> State {
    let text = |by, alert| format!("the {by} sent the fatal alert {}", alert_name(alert));
    let fault = if let Some(alert) = inspector.received_alert() {
        FailureDetail::new(rustls_failure(&Error::AlertReceived(alert)), text("server", alert))
    } else if let Some(alert) = inspector.sent_alert() {
        FailureDetail::new(server_failure(&Error::AlertReceived(alert)), text("client", alert))
    } else if inspector.is_not_tls() {
        let hint = if inspector.is_http_response() { " (it answered in plain HTTP)" } else { "" };
        let code = rustls_failure(&Error::InvalidMessage(InvalidMessage::InvalidContentType));
        FailureDetail::new(code, format!("the server does not speak TLS{hint}"))
    } else if inspector.has_sent_encrypted_alert() {
        FailureDetail::new(Failure::TlsAlert, "the client refused the server with an encrypted alert")
    } else if inspector.has_ended() {
        recorder.established(hello_facts(&inspector));
        return State::Established(recorder);
    } else {
        return State::Handshake { recorder, inspector };
    };
    recorder.failed(
        TlsFacts { alert: handshake_recorder::alert(None, &inspector).into(), ..hello_facts(&inspector) },
        fault,
        EndReason::Failed,
    );
    State::Over
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_hello_is_found() {
        assert_eq!(beginning_of_hello(&[22, 3, 1, 2, 0, 1, 0]), Some(0));
        for cut in 1..6 {
            assert_eq!(beginning_of_hello(&[22, 3, 1, 2, 0][..cut.min(5)]), Some(0), "{cut}");
        }
        assert_eq!(beginning_of_hello(&[0, 22, 22, 3, 1, 2, 0, 1, 0]), Some(2));
        assert_eq!(beginning_of_hello(&[22, 3, 1, 2, 0, 2, 0]), None, "a ServerHello");
        assert_eq!(beginning_of_hello(&[22, 2, 1, 2, 0, 1]), None);
        assert_eq!(
            beginning_of_hello(&[0, 22, 3]),
            None,
            "only a whole header is looked for behind other bytes"
        );
        assert_eq!(beginning_of_hello(b"GET / HTTP/1.1"), None);
    }
}
