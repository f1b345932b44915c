//! Debian's nginx, as an independent server for HTTP/1.1, HTTP/2 and TLS.
//!
//! ```ignore
//! let nginx = Nginx::builder().tls(&cert_pem, &key_pem).file("big", &[0; 1 << 20]).start();
//! let url = format!("https://localhost:{}/big", nginx.https.port());
//! …
//! let requests = nginx.requests(1);                 // from nginx's access log
//! ```
//!
//! Every port answers the same paths:
//!
//! | path | answer |
//! |---|---|
//! | `/` | a file added with `file()`; `hello.txt` (`hello\n`) always exists |
//! | `/hello` | `hello\n` with a content length |
//! | `/whoami` | client address, protocol, TLS version, cipher, resumption (`r` or `.`), requests on the connection |
//! | `/status/CODE` | one of 200 204 400 401 403 404 500 502 503 |
//! | `/redirect/CODE` | one of 301 302 303 307 308, to `/hello`; `/redirect/loop` redirects to itself |
//! | `/chunked/` | the files, without a content length |
//! | `/trailers/` | likewise, with a trailer `x-trailer: last` |
//! | `/gzip/` | the files, compressed if the client accepts it |
//! | `/slow/` | the files, at 64 KiB/s |
//! | `/upload` | `received N\n` after the body was read |
//! | `/close` | `bye\n` with `connection: close` |
//! | `/backend/` | the response of the server set with `backend()`, unbuffered |

mod config;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer};
use tempfile::TempDir;

use crate::lab::Ns;
use crate::process::{self, Daemon};
use crate::sys;
use config::PORTS;

/// The configuration of a server; see [`Nginx::builder`].
pub struct Builder {
    ns: Ns,
    ips: Vec<IpAddr>,
    tls: Option<(String, String)>,
    client_ca: Option<String>,
    keepalive_timeout: String,
    keepalive_requests: u32,
    files: Vec<(String, Vec<u8>)>,
    backend: Option<SocketAddr>,
    extra: String,
}

/// A running server. The addresses are those on the first IP; the ports are the same on all.
pub struct Nginx {
    /// HTTP/1.1 without TLS.
    pub http: SocketAddr,
    /// HTTP/2 without TLS, with prior knowledge.
    pub h2c: SocketAddr,
    /// TLS 1.2 and 1.3, HTTP/2 and 1.1 by ALPN.
    pub https: SocketAddr,
    /// TLS 1.2 and 1.3, HTTP/1.1 only.
    pub https_h1: SocketAddr,
    /// TLS 1.2 only, HTTP/2 and 1.1.
    pub tls12: SocketAddr,
    /// TLS 1.3 only, HTTP/2 and 1.1.
    pub tls13: SocketAddr,
    /// TLS with client certificates: without a valid one, nginx answers 400 after the handshake.
    pub mtls: SocketAddr,
    daemon: Daemon,
    directory: TempDir,
}

impl Nginx {
    /// Returns a builder for a server on 127.0.0.1. Without a certificate the TLS ports are closed, and their addresses
    /// have port 0.
    pub fn builder() -> Builder {
        Builder {
            ns: Ns::here(),
            ips: vec![Ipv4Addr::LOCALHOST.into()],
            tls: None,
            client_ca: None,
            keepalive_timeout: "75s".into(),
            keepalive_requests: 1000,
            files: vec![("hello.txt".into(), b"hello\n".to_vec())],
            backend: None,
            extra: String::new(),
        }
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Returns nginx's own log of notices and errors.
    pub fn log(&self) -> Vec<String> {
        self.daemon.log()
    }

    /// Waits until nginx has logged at least `count` requests, and returns all of them. nginx logs a request shortly
    /// after the client has received the response.
    ///
    /// # Panics
    ///
    /// If there are fewer after 10 seconds.
    #[track_caller]
    pub fn requests(&self, count: usize) -> Vec<Request> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let text = fs::read_to_string(self.directory.path().join("access.log")).expect("access log");
            let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
            let requests: Vec<Request> =
                complete.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
            if requests.len() >= count {
                return requests;
            }
            assert!(
                Instant::now() < end,
                "nginx has logged {} requests, not {count}: {text}",
                requests.len()
            );
            thread::sleep(Duration::from_millis(2)); // nginx does not signal that it has written to the file
        }
    }
}

/// A line of the access log. Fields that do not apply are empty.
#[derive(Debug, Clone, Deserialize)]
pub struct Request {
    /// The serial number of the connection.
    pub connection: u64,
    /// The number of requests on the connection so far, including this one.
    pub connection_requests: u64,
    pub remote_addr: IpAddr,
    pub remote_port: u16,
    pub server_port: u16,
    pub method: String,
    pub uri: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: String,
    pub status: u16,
    /// The length of the request in bytes, including its request line and header.
    pub request_length: u64,
    pub bytes_sent: u64,
    pub body_bytes_sent: u64,
    /// `Content-Length` of the request.
    #[serde(deserialize_with = "optional_number")]
    pub content_length: Option<u64>,
    /// `Content-Length` of the response.
    #[serde(deserialize_with = "optional_number")]
    pub sent_content_length: Option<u64>,
    /// `OK` if the response was completed, else empty.
    pub completion: String,
    /// `TLSv1.2` or `TLSv1.3`.
    pub ssl_protocol: String,
    /// The cipher suite, by its OpenSSL name.
    pub ssl_cipher: String,
    /// The key exchange group, by its OpenSSL name: `X25519`, `prime256v1`.
    pub ssl_curve: String,
    pub ssl_alpn_protocol: String,
    /// `r` if the session was resumed, else `.`.
    pub ssl_session_reused: String,
    pub ssl_server_name: String,
    /// `SUCCESS`, `NONE` or `FAILED:reason`.
    pub ssl_client_verify: String,
    pub user_agent: String,
}

fn optional_number<'de, D: Deserializer<'de>>(field: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(field)?;
    (!text.is_empty()).then(|| text.parse().map_err(serde::de::Error::custom)).transpose()
}

impl Request {
    pub fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.remote_addr, self.remote_port)
    }
}

impl Builder {
    /// Runs the server in a namespace of the lab, on these addresses.
    #[must_use]
    pub fn in_ns(mut self, ns: &Ns, ips: &[IpAddr]) -> Self {
        self.ns = ns.clone();
        self.ips(ips)
    }

    /// Listens on these addresses, with the same ports on each.
    #[must_use]
    pub fn ips(mut self, ips: &[IpAddr]) -> Self {
        self.ips = ips.to_vec();
        self
    }

    /// Opens the TLS ports, with a certificate (and its chain) and its key, in PEM.
    #[must_use]
    pub fn tls(mut self, certificates: &str, key: &str) -> Self {
        self.tls = Some((certificates.into(), key.into()));
        self
    }

    /// Opens the port that requires a client certificate issued by this authority, in PEM.
    #[must_use]
    pub fn client_ca(mut self, certificate: &str) -> Self {
        self.client_ca = Some(certificate.into());
        self
    }

    /// Sets how long an idle connection stays open, in nginx's format: `500ms`, `75s`.
    #[must_use]
    pub fn keepalive_timeout(mut self, time: &str) -> Self {
        self.keepalive_timeout = time.into();
        self
    }

    /// Sets how many requests a connection serves before nginx closes it, or sends GOAWAY with HTTP/2.
    #[must_use]
    pub fn keepalive_requests(mut self, count: u32) -> Self {
        self.keepalive_requests = count;
        self
    }

    #[must_use]
    pub fn file(mut self, name: &str, content: &[u8]) -> Self {
        self.files.push((name.into(), content.to_vec()));
        self
    }

    /// Sets the server behind `/backend/`, which must be reachable from the namespace.
    #[must_use]
    pub fn backend(mut self, address: SocketAddr) -> Self {
        self.backend = Some(address);
        self
    }

    /// Adds configuration to each server, for instance a `location` block.
    #[must_use]
    pub fn extra(mut self, text: &str) -> Self {
        self.extra.push_str(text);
        self
    }

    /// Starts the server and waits until it serves.
    ///
    /// # Panics
    ///
    /// If it does not start. The message contains the output of nginx.
    #[track_caller]
    pub fn start(self) -> Nginx {
        let directory = self.directory().expect("files for nginx");
        let ports = self.listen().expect("listening sockets for nginx");
        let config = directory.path().join("nginx.conf");
        fs::write(&config, self.config(directory.path(), &ports)).expect("configuration");

        // nginx inherits listening sockets, with the mechanism for upgrading its binary. So no free port has to be
        // guessed, and no connection is refused.
        let sockets: Vec<OwnedFd> = ports.iter().flat_map(|port| port.sockets()).collect();
        let numbers: String = sockets.iter().map(|socket| format!("{};", socket.as_raw_fd())).collect();
        let mut command = self.ns.command("nginx");
        command.env("NGINX", numbers).arg("-e").arg("stderr").arg("-p").arg(directory.path());
        command.arg("-c").arg(config);
        sys::start_with_descriptors(&mut command, sockets);
        let daemon = Daemon::spawn(command).expect("nginx (require_tool! tells whether it is there)");
        daemon.line("start worker process ", process::READY).unwrap_or_else(|error| panic!("{error}"));

        let [http, h2c, https, https_h1, tls12, tls13, mtls] = PORTS.map(|name| {
            let address = |port: &Port| SocketAddr::new(self.ips[0], port.number);
            let open = ports.iter().find(|port| port.name == name);
            open.map_or(SocketAddr::new(self.ips[0], 0), address)
        });
        Nginx { http, h2c, https, https_h1, tls12, tls13, mtls, daemon, directory }
    }

    fn directory(&self) -> io::Result<TempDir> {
        let directory = tempfile::tempdir()?;
        let file = |name: &str, content: &[u8]| {
            let path: PathBuf = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("inside the directory"))?;
            fs::write(path, content)
        };
        file("access.log", b"")?;
        for (name, content) in &self.files {
            file(&format!("files/{name}"), content)?;
        }
        if let Some((certificates, key)) = &self.tls {
            file("cert.pem", certificates.as_bytes())?;
            file("key.pem", key.as_bytes())?;
        }
        if let Some(certificate) = &self.client_ca {
            file("client-ca.pem", certificate.as_bytes())?;
        }
        Ok(directory)
    }

    fn listen(&self) -> io::Result<Vec<Port>> {
        let wanted = PORTS.iter().filter(|name| match **name {
            "http" | "h2c" => true,
            "mtls" => self.tls.is_some() && self.client_ca.is_some(),
            _ => self.tls.is_some(),
        });
        wanted.map(|name| Port::open(name, &self.ns, &self.ips)).collect()
    }
}

/// A port on all of the server's addresses.
struct Port {
    name: &'static str,
    number: u16,
    listeners: Vec<TcpListener>,
}

impl Port {
    fn open(name: &'static str, ns: &Ns, ips: &[IpAddr]) -> io::Result<Self> {
        const TRIES: usize = 100; // a port that is free on one address may be taken on another
        let mut result = Err(io::ErrorKind::InvalidInput.into());
        for _ in 0..TRIES {
            result = ns.run(|| {
                let mut number = 0;
                let mut listeners = Vec::new();
                for ip in ips {
                    let listener = TcpListener::bind((*ip, number))?;
                    listener.set_nonblocking(true)?; // nginx expects this of an inherited socket
                    number = listener.local_addr()?.port();
                    listeners.push(listener);
                }
                Ok(Self { name, number, listeners })
            });
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn sockets(&self) -> impl Iterator<Item = OwnedFd> {
        self.listeners.iter().map(|listener| listener.try_clone().expect("a free descriptor").into())
    }
}
