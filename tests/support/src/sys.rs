//! System calls that the standard library does not wrap. Together with the allocator, the only `unsafe` code of the
//! tests.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use tokio::io::unix::AsyncFd;

/// Moves the calling thread, and the threads and processes that it starts from now on, into a new network namespace.
pub fn unshare_network() -> io::Result<()> {
    // SAFETY: takes flags only and changes nothing but the calling thread's namespace.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(drop)
}

/// Moves the calling thread into the network namespace behind `namespace`.
pub fn enter_network(namespace: RawFd) -> io::Result<()> {
    // SAFETY: takes a descriptor number; a wrong one is refused with an error.
    check(unsafe { libc::setns(namespace, libc::CLONE_NEWNET) }).map(drop)
}

/// Makes the command's process enter the network namespace before it executes the program.
pub fn start_in_network(command: &mut Command, namespace: std::sync::Arc<File>) {
    // SAFETY: between fork and exec only `setns` runs; errors are plain OS codes without allocation.
    unsafe { command.pre_exec(move || enter_network(namespace.as_raw_fd())) };
}

/// Makes the command's process, and no other, see `file` at the path of the existing file `over`.
pub fn start_with_file_over(command: &mut Command, file: CString, over: CString) {
    let none = c"none";
    let mount = move |source: &CStr, target: &CStr, flags| {
        // SAFETY: all pointers are to C strings that live through the call; no data is passed.
        check(unsafe {
            libc::mount(source.as_ptr(), target.as_ptr(), std::ptr::null(), flags, std::ptr::null())
        })
    };
    let in_child = move || {
        // SAFETY: takes flags only; the child has one thread.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
        mount(none, c"/", libc::MS_REC | libc::MS_PRIVATE)?;
        mount(&file, &over, libc::MS_BIND).map(drop)
    };
    // SAFETY: between fork and exec only `unshare` and `mount` run; the strings were made beforehand.
    unsafe { command.pre_exec(in_child) };
}

/// Mounts an empty file system in memory on `directory`, with these options of tmpfs(5). Only the calling thread, and the
/// threads and processes that it starts from now on, see it.
pub fn mount_memory(directory: &CStr, options: &CStr) -> io::Result<()> {
    let mount = |kind: &CStr, target: &CStr, flags, data: *const libc::c_char| {
        // SAFETY: all pointers are to C strings that live through the call, or null.
        check(unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.cast()) })
    };
    // SAFETY: takes flags only and changes nothing but the calling thread's namespace.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE, std::ptr::null())?;
    mount(c"tmpfs", directory, 0, options.as_ptr()).map(drop)
}

/// Makes the kernel send `signal` to the command's process when the thread that started it ends.
pub fn start_bound_to_parent(command: &mut Command, signal: i32) {
    let parent = std::process::id();
    let in_child = move || {
        // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches the calling process only.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) })?;
        // SAFETY: takes nothing and cannot fail.
        if unsafe { libc::getppid() }.cast_unsigned() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH)); // the parent ended before the call
        }
        Ok(())
    };
    // SAFETY: between fork and exec only `prctl` and `getppid` run; errors are plain OS codes.
    unsafe { command.pre_exec(in_child) };
}

/// Makes the command's process inherit these descriptors under the same numbers.
pub fn start_with_descriptors(command: &mut Command, descriptors: Vec<OwnedFd>) {
    let in_child = move || {
        for descriptor in &descriptors {
            // SAFETY: the descriptor is owned by this closure, hence open; only its flags change.
            check(unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, 0) })?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only `fcntl` runs; errors are plain OS codes.
    unsafe { command.pre_exec(in_child) };
}

pub fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Sends a signal to a process, or to a process group if `pid` is negative.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Returns `true` if the process has ended or ends within the time. Zombies have ended.
pub fn process_ends_within(pid: u32, time: Duration) -> io::Result<bool> {
    let pid = pid.cast_signed();
    // SAFETY: takes numbers; the returned descriptor has no other owner.
    let pidfd = match unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } {
        -1 => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => return Ok(true),
            error => return Err(error),
        },
        // SAFETY: as above.
        number => unsafe { OwnedFd::from_raw_fd(number as RawFd) },
    };
    let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let milliseconds = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one pollfd is passed, with its count, and lives through the call.
    Ok(check(unsafe { libc::poll(&raw mut poll, 1, milliseconds) })? > 0)
}

/// Returns a packet socket that receives all frames that arrive at the interface (of the thread's namespace). A
/// `virtio_net_hdr` precedes each frame, so that offloaded segmentation and checksums are preserved.
pub fn packet_socket(interface: &CStr) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes numbers; the returned descriptor has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(check(libc::socket(libc::AF_PACKET, kind, 0))?) };
    set_packet_option(&socket, libc::PACKET_VNET_HDR, &1_i32)?;
    set_packet_option(&socket, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;

    // SAFETY: the name is a C string.
    let index = check(unsafe { libc::if_nametoindex(interface.as_ptr()) }.cast_signed())?;
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all-zero bytes are a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index;
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address lives through the call and `length` is its size.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;

    let membership = libc::packet_mreq {
        mr_ifindex: index,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_packet_option(&socket, libc::PACKET_ADD_MEMBERSHIP, &membership)?;
    Ok(socket)
}

/// Registers the socket with the runtime.
pub fn asynchronous(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the `OwnedFd` is passed by value and stays the only owner: it returns the same open descriptor until it
    // is dropped, together with the registration.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

pub fn receive(socket: BorrowedFd, frame: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is exclusively ours and `len` is its size.
    let received = unsafe { libc::recv(socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

pub fn send(socket: BorrowedFd, frame: &[u8]) -> io::Result<usize> {
    // SAFETY: the buffer lives through the call and `len` is its size.
    let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn set_packet_option<T: Copy>(socket: &OwnedFd, name: i32, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value lives through the call, `length` is its size, and the kernel checks both.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, name, std::ptr::from_ref(value).cast(), length)
    };
    check(result).map(drop)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
