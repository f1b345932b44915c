//! Child processes that end with the test: killed when dropped, and by the kernel if the test is killed.

use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::sys;

/// How long to wait until a server is ready. Far more than it needs, for busy machines.
pub const READY: Duration = Duration::from_secs(20);

/// The status and output of a program that has ended.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Returns the standard output of a program that must have succeeded.
    ///
    /// # Panics
    ///
    /// If it failed. The message contains its output.
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.status.success(), "{}\n{}{}", self.status, self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs the program to completion, without input. Its process group is killed in the end.
///
/// # Panics
///
/// If it cannot be started, or takes longer than `deadline`.
#[track_caller]
pub fn run(mut command: Command, deadline: Duration) -> Output {
    let what = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command, libc::SIGKILL).unwrap_or_else(|error| panic!("{what}: {error}"));
    let stdout = read_all(child.stdout.take().expect("piped"));
    let stderr = read_all(child.stderr.take().expect("piped"));
    let in_time = sys::process_ends_within(child.id(), deadline).expect("poll on a pidfd");
    // Before `wait`, which frees the ID of the group. Children that the program left behind keep the pipes open.
    kill_group(&child);
    let status = child.wait().expect("wait");
    let output = Output { status, stdout: join(stdout), stderr: join(stderr) };
    assert!(in_time, "{what} took longer than {deadline:?}\n{}{}", output.stdout, output.stderr);
    output
}

/// A program that runs until this is dropped. Its output, on stdout and stderr, is kept.
pub struct Daemon {
    child: Child,
    _stdin: ChildStdin, // some servers exit when their stdin is closed
    log: Arc<Log>,
    readers: Vec<JoinHandle<()>>,
    what: String,
}

impl Daemon {
    /// Starts the program.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        let what = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SIGTERM, because a server with several processes then ends the others, too.
        let mut child = spawn(command, libc::SIGTERM)?;
        let log =
            Arc::new(Log { state: Mutex::new(LogState { open: 2, ..<_>::default() }), more: Condvar::new() });
        let readers = vec![
            Log::fill(log.clone(), child.stdout.take().expect("piped")),
            Log::fill(log.clone(), child.stderr.take().expect("piped")),
        ];
        let stdin = child.stdin.take().expect("piped");
        Ok(Self { child, _stdin: stdin, log, readers, what })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns all lines so far.
    pub fn log(&self) -> Vec<String> {
        self.log.state.lock().expect("log").lines.clone()
    }

    /// Waits for a line that contains `text`, and returns it.
    ///
    /// # Errors
    ///
    /// If the program ends first, or the deadline passes. The error contains everything that it printed.
    pub fn line(&self, text: &str, deadline: Duration) -> Result<String, String> {
        let find = |lines: &[String]| lines.iter().find(|line| line.contains(text)).cloned();
        self.wait(deadline, find).map_err(|log| format!("no {text:?}: {log}"))
    }

    /// Waits until `look` returns a value for the lines so far, and returns it.
    ///
    /// # Errors
    ///
    /// Same as [`line`](Self::line).
    pub fn wait<T>(&self, deadline: Duration, look: impl Fn(&[String]) -> Option<T>) -> Result<T, String> {
        let end = Instant::now() + deadline;
        let mut state = self.log.state.lock().expect("log");
        loop {
            if let Some(found) = look(&state.lines) {
                return Ok(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if state.open == 0 || left.is_zero() {
                let end = if state.open == 0 { "ended" } else { "is silent" };
                return Err(format!("{} {end}:\n{}", self.what, state.lines.join("\n")));
            }
            state = self.log.more.wait_timeout(state, left).expect("log").0;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGTERM lets the program stop its own workers; then the whole group is killed. Errors mean that it is gone.
        _ = sys::kill(self.pid().cast_signed(), libc::SIGTERM);
        _ = sys::process_ends_within(self.pid(), Duration::from_secs(2));
        kill_group(&self.child);
        _ = self.child.wait();
        for reader in self.readers.drain(..) {
            _ = reader.join();
        }
    }
}

/// Starts the program from a thread that lives as long as the test's process, because the kernel kills the child when
/// the thread that started it ends.
fn spawn(mut command: Command, signal: i32) -> io::Result<Child> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();

    command.process_group(0);
    sys::start_bound_to_parent(&mut command, signal);
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, reply) in queue {
                _ = reply.send(command.spawn()); // an error means that the test has ended
            }
        });
        jobs
    });
    let (reply, child) = mpsc::channel();
    spawner.send((command, reply)).expect("the spawner never ends");
    child.recv().expect("the spawner answers")
}

fn kill_group(child: &Child) {
    _ = sys::kill(-child.id().cast_signed(), libc::SIGKILL); // an error means that it is gone
}

fn read_all(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("read from a pipe");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn join(reader: JoinHandle<String>) -> String {
    reader.join().expect("reader")
}

struct Log {
    state: Mutex<LogState>,
    more: Condvar,
}

#[derive(Default)]
struct LogState {
    lines: Vec<String>,
    open: usize, // the number of pipes that are still open
}

impl Log {
    fn fill(log: Arc<Self>, pipe: impl Read + Send + 'static) -> JoinHandle<()> {
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                log.state.lock().expect("log").lines.push(String::from_utf8_lossy(&line).into_owned());
                log.more.notify_all();
            }
            log.state.lock().expect("log").open -= 1;
            log.more.notify_all();
        })
    }
}
