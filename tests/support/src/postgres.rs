//! Debian's PostgreSQL, with a cluster of its own that ends with the test.
//!
//! ```ignore
//! let postgres = Postgres::start(None);             // or with a certificate and its key
//! let stream = connector.connect(postgres.addr.to_string()).await?;
//! let (client, driver) = postgres.config().connect_raw(stream, NoTls).await?;
//! ```

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{self, Daemon};
use crate::require;
use crate::sys;

/// The password of the user `postgres`.
pub const PASSWORD: &str = "correct-horse";

/// A running server. It demands the password, over TCP and over its Unix socket.
pub struct Postgres {
    pub addr: SocketAddr,
    _daemon: Daemon, // first, as it needs the directory until it ends
    directory: TempDir,
}

impl Postgres {
    /// A server on a free port of 127.0.0.1; with TLS if given a certificate (and its chain) and its key, in PEM.
    ///
    /// # Panics
    ///
    /// When it does not start; with what PostgreSQL said.
    #[track_caller]
    pub fn start(tls: Option<(&str, &str)>) -> Self {
        let directory = tempfile::tempdir().expect("a directory of our own");
        let at = |name: &str| directory.path().join(name);
        fs::write(at("password"), PASSWORD).expect("a file of our own");
        for (name, content) in tls.iter().flat_map(|(chain, key)| [("chain.pem", chain), ("key.pem", key)]) {
            fs::write(at(name), content).expect("a file of our own");
        }
        give_to_user(directory.path());
        let mut initdb = command("initdb");
        initdb.args(["--username=postgres", "--auth=scram-sha-256", "--no-sync", "--no-locale"]);
        initdb.arg("--encoding=UTF8").arg("--pwfile").arg(at("password")).arg("-D").arg(at("data"));
        process::run(initdb, process::READY).success();

        const TRIES: usize = 20; // between finding a free port and its use, another may take it
        let mut failure = String::new();
        for _ in 0..TRIES {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let addr = port.local_addr().expect("bound");
            drop(port);
            let daemon = spawn(directory.path(), addr.port(), tls.is_some());
            match daemon.line("database system is ready to accept connections", process::READY) {
                Ok(_) => return Postgres { addr, _daemon: daemon, directory },
                Err(log) => failure = log,
            }
            if !failure.contains("ddress already in use") {
                break;
            }
        }
        panic!("{failure}");
    }

    pub fn config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.user("postgres").password(PASSWORD).dbname("postgres").application_name("nettrace");
        config
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join(format!(".s.PGSQL.{}", self.addr.port()))
    }
}

fn spawn(directory: &Path, port: u16, tls: bool) -> Daemon {
    let mut postgres = command("postgres");
    postgres.arg("-D").arg(directory.join("data")).arg("-k").arg(directory);
    postgres.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    let mut settings = vec!["fsync=off".to_owned(), "max_wal_senders=0".to_owned()];
    if tls {
        let file = |name: &str| directory.join(name).display().to_string();
        let files =
            [format!("ssl_cert_file={}", file("chain.pem")), format!("ssl_key_file={}", file("key.pem"))];
        settings.push("ssl=on".to_owned());
        settings.extend(files);
    }
    postgres.args(settings.iter().flat_map(|setting| ["-c", setting]));
    Daemon::spawn(postgres).expect("postgres (require_tool! tells whether it is there)")
}

/// PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;

fn command(name: &str) -> Command {
    let mut command = Command::new(require::tool(name).expect("require_tool! tells whether it is there"));
    if sys::is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.env_clear().env("LC_ALL", "C").current_dir("/");
    command
}

/// The directory and what is in it.
fn give_to_user(directory: &Path) {
    let files = fs::read_dir(directory).expect("a directory of our own");
    let files = files.map(|file| file.expect("a file of our own").path());
    for file in files {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a file of our own");
        if sys::is_root() {
            chown(&file, Some(NOBODY), Some(NOBODY)).expect("root may");
        }
    }
    if sys::is_root() {
        chown(directory, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
}
