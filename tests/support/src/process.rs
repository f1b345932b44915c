//! Child processes that end with the test: killed when dropped, and by the kernel if the test is killed.

use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::sys;

/// How long a server may take until it is ready; far more than it needs, for a busy machine.
pub const READY: Duration = Duration::from_secs(20);

/// The result of a program that has ended.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The standard output of a program that must have succeeded.
    ///
    /// # Panics
    ///
    /// When it failed, with what it said.
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.status.success(), "{}\n{}{}", self.status, self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs the program to its end, without input.
///
/// # Panics
///
/// When it cannot be started, or has not ended at the deadline: then its process group is killed.
#[track_caller]
pub fn run(mut command: Command, deadline: Duration) -> Output {
    let what = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command, libc::SIGKILL).unwrap_or_else(|error| panic!("{what}: {error}"));
    let stdout = read_all(child.stdout.take().expect("piped"));
    let stderr = read_all(child.stderr.take().expect("piped"));
    let in_time = sys::process_ends_within(child.id(), deadline).expect("poll on a pidfd");
    // Before the wait, which frees the group's number; also what it left behind holds the pipes open.
    kill_group(&child);
    let status = child.wait().expect("wait");
    let output = Output { status, stdout: join(stdout), stderr: join(stderr) };
    assert!(in_time, "{what} took longer than {deadline:?}\n{}{}", output.stdout, output.stderr);
    output
}

/// A program that runs until this is dropped. What it prints, on stdout and stderr, is kept.
pub struct Daemon {
    child: Child,
    _stdin: ChildStdin, // some servers end at the end of their input
    log: Arc<Log>,
    readers: Vec<JoinHandle<()>>,
    what: String,
}

impl Daemon {
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        let what = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SIGTERM, as a server of several processes takes the others along.
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

    /// Waits for a line that contains `text` and gives it back.
    ///
    /// # Errors
    ///
    /// When the program ended first or the deadline passed: everything that it printed.
    pub fn line(&self, text: &str, deadline: Duration) -> Result<String, String> {
        let find = |lines: &[String]| lines.iter().find(|line| line.contains(text)).cloned();
        self.wait(deadline, find).map_err(|log| format!("no {text:?}: {log}"))
    }

    /// Waits until `look` finds what it looks for in the lines so far.
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
        // A chance to stop its own workers, then the whole group. Errors mean that it is gone.
        _ = sys::kill(self.pid().cast_signed(), libc::SIGTERM);
        _ = sys::process_ends_within(self.pid(), Duration::from_secs(2));
        kill_group(&self.child);
        _ = self.child.wait();
        for reader in self.readers.drain(..) {
            _ = reader.join();
        }
    }
}

/// Starts the program from a thread that lives as long as the test's process, because the kernel's
/// promise to kill the child is bound to the thread that started it.
fn spawn(mut command: Command, signal: i32) -> io::Result<Child> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();

    command.process_group(0);
    sys::start_bound_to_parent(&mut command, signal);
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, reply) in queue {
                _ = reply.send(command.spawn()); // nobody waits when the test has gone
            }
        });
        jobs
    });
    let (reply, child) = mpsc::channel();
    spawner.send((command, reply)).expect("the spawner lives for ever");
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
    open: usize, // pipes that may still bring lines
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
