//! Debian's PostgreSQL, with a temporary database cluster.
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

/// A running server. It requires the password, over TCP and over its Unix socket.
pub struct Postgres {
    pub addr: SocketAddr,
    _daemon: Daemon, // dropped before the directory, which it uses
    directory: TempDir,
}

impl Postgres {
    /// Starts a server on a free port of 127.0.0.1, with TLS if given a certificate (and its chain) and its key, in
    /// PEM.
    ///
    /// # Panics
    ///
    /// If it does not start. The message contains the output of PostgreSQL.
    #[track_caller]
    pub fn start(tls: Option<(&str, &str)>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| directory.path().join(name);
        fs::write(at("password"), PASSWORD).expect("access to a temporary directory");
        for (name, content) in tls.iter().flat_map(|(chain, key)| [("chain.pem", chain), ("key.pem", key)]) {
            fs::write(at(name), content).expect("access to a temporary directory");
        }
        give_to_user(directory.path());
        let mut initdb = command("initdb");
        initdb.args(["--username=postgres", "--auth=scram-sha-256", "--no-sync", "--no-locale"]);
        initdb.arg("--encoding=UTF8").arg("--pwfile").arg(at("password")).arg("-D").arg(at("data"));
        process::run(initdb, process::READY).success();

        const TRIES: usize = 20; // another process may take the port before PostgreSQL does
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

    /// Returns the path of the Unix socket.
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

/// The user and group that PostgreSQL runs as, because it refuses to run as root.
const NOBODY: u32 = 65_534;

fn command(name: &str) -> Command {
    let mut command = Command::new(require::tool(name).expect("require_tool! tells whether it is there"));
    if sys::is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.env_clear().env("LC_ALL", "C").current_dir("/");
    command
}

/// Makes [`NOBODY`] the owner of the directory and its files, if the test runs as root.
fn give_to_user(directory: &Path) {
    let files = fs::read_dir(directory).expect("a temporary directory");
    let files = files.map(|file| file.expect("access to a temporary directory").path());
    for file in files {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))
            .expect("access to a temporary directory");
        if sys::is_root() {
            chown(&file, Some(NOBODY), Some(NOBODY)).expect("root can change the owner");
        }
    }
    if sys::is_root() {
        chown(directory, Some(NOBODY), Some(NOBODY)).expect("root can change the owner");
    }
}
