//! The few system calls that the standard library lacks: signals, the parent's death, tap devices, packet sockets.

#![expect(unsafe_code, reason = "libc's interface")]

use std::fs::File;
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Set by the signal handler, read by everything that waits. No data goes with it, so that relaxed is enough.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupt(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on Ctrl-C, SIGTERM and SIGHUP only set a flag, so that everything ends in order.
pub fn catch_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler does one atomic store, which is async-signal-safe; a zeroed sigaction is a valid one
        // (no flags, empty mask). Without SA_RESTART, blocking calls return and their callers look at the flag.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = interrupt as extern "C" fn(libc::c_int) as usize;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Whether a signal asked for the end.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// The child is killed when the thread that starts it ends, however it ends. Start children from the main thread.
pub fn die_with_parent(command: &mut Command) -> &mut Command {
    // SAFETY: the closure runs between fork and exec and makes one async-signal-safe system call.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        })
    }
}

/// Whether this process is root, in its user namespace.
pub fn is_root() -> bool {
    // SAFETY: has no preconditions.
    unsafe { libc::geteuid() == 0 }
}

/// Attaches to the tap device of this name (made before, or made now): each read and write is one Ethernet frame.
pub fn open_tap(name: &str) -> io::Result<File> {
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: a zeroed ifreq is valid; the name is shorter than its field, so it stays terminated; the kernel reads
    // and writes only the structure.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, byte) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
            *to = byte as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
        if libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) != 0 {
            return Err(io::Error::last_os_error());
        }
        // A QEMU that had the device before may have promised the kernel to fill in checksums and cut segments.
        if libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(file)
}

/// Asks for a larger receive buffer; beyond the system's limit where this process may, else as much as there is.
pub fn enlarge_receive_buffer(socket: &UdpSocket, bytes: usize) {
    for option in [libc::SO_RCVBUF, libc::SO_RCVBUFFORCE] {
        set_buffer(socket, option, bytes);
    }
}

/// Asks for a send buffer that does not grow beyond this.
pub fn limit_send_buffer(socket: &TcpStream, bytes: usize) {
    set_buffer(socket, libc::SO_SNDBUF, bytes);
}

fn set_buffer(socket: &impl AsRawFd, option: libc::c_int, bytes: usize) {
    let bytes = bytes as libc::c_int;
    // SAFETY: the value is an int that lives during the call. A refusal leaves the buffer as it was.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const bytes).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}

/// From now on the interface's sender fills checksums in before it hands frames over, as a wire would have them (ethtool's `-K tx off`).
pub fn fill_checksums(interface: &str) -> io::Result<()> {
    /// `ETHTOOL_STXCSUM` of linux/ethtool.h.
    const SET_TX_CHECKSUM: u32 = 0x17;
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let any = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    let mut value = Value { command: SET_TX_CHECKSUM, data: 0 };
    // SAFETY: a zeroed ifreq is valid; the name is shorter than its field, so it stays terminated; the kernel reads and writes only the
    // two structures, which live until it returns.
    let status = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, byte) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(interface.bytes()) {
            *to = byte as libc::c_char;
        }
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        libc::ioctl(any.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits until the file can be read, at most so long. Says whether it can.
pub fn readable(file: &impl AsFd, at_most: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: file.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let milliseconds = at_most.as_millis().min(60_000) as libc::c_int;
    // SAFETY: one valid pollfd, which the kernel writes to.
    match unsafe { libc::poll(&raw mut poll, 1, milliseconds) } {
        0 => Ok(false),
        1.. => Ok(true),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            error => Err(error),
        },
    }
}

/// A raw Ethernet socket on one interface, to send frames that no honest stack would.
pub struct PacketSocket {
    socket: OwnedFd,
    interface: libc::c_int,
}

impl PacketSocket {
    /// Opens one that receives nothing.
    pub fn open(interface: &str) -> io::Result<Self> {
        let name = std::ffi::CString::new(interface)?;
        // SAFETY: `name` is a C string. Protocol 0 receives nothing. The descriptor is fresh and ours.
        unsafe {
            let index = libc::if_nametoindex(name.as_ptr());
            if index == 0 {
                return Err(io::Error::last_os_error());
            }
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self { socket: OwnedFd::from_raw_fd(fd), interface: index as libc::c_int })
        }
    }

    /// Opens one that also hears all frames of the interface, those that go out by it among them.
    pub fn listen(interface: &str) -> io::Result<Self> {
        let it = Self::open(interface)?;
        // SAFETY: a zeroed sockaddr_ll is valid; the address is readable for the given length.
        let bound = unsafe {
            let mut at: libc::sockaddr_ll = std::mem::zeroed();
            at.sll_family = libc::AF_PACKET as u16;
            at.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            at.sll_ifindex = it.interface;
            libc::bind(it.socket.as_raw_fd(), (&raw const at).cast(), size_of_val(&at) as libc::socklen_t)
        };
        if bound == 0 { Ok(it) } else { Err(io::Error::last_os_error()) }
    }

    /// The next frame that was heard, waiting for it so long at most.
    pub fn receive<'b>(&self, buffer: &'b mut [u8], at_most: Duration) -> io::Result<Option<&'b [u8]>> {
        if !readable(&self.socket, at_most)? {
            return Ok(None);
        }
        // SAFETY: the buffer is writable for the given length.
        let got = unsafe { libc::recv(self.socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        match usize::try_from(got) {
            Ok(length) => Ok(Some(&buffer[..length])),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    /// Sends one frame, Ethernet header first.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: a zeroed sockaddr_ll is valid; the frame and the address are readable for the given lengths.
        let sent = unsafe {
            let mut to: libc::sockaddr_ll = std::mem::zeroed();
            to.sll_family = libc::AF_PACKET as u16;
            to.sll_ifindex = self.interface;
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size_of_val(&to) as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Takes as few bytes as the host's kernel allows before they are read.
pub fn be_short_of_room(stream: &TcpStream) {
    let bytes: libc::c_int = 1;
    // SAFETY: the value is an int that lives during the call. A refusal leaves the buffer as it was.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            (&raw const bytes).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}

/// Closes with a reset instead of a FIN (SO_LINGER of zero).
pub fn reset(stream: TcpStream) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option's value is a readable `linger` of the given length.
    let status = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of_val(&linger) as libc::socklen_t,
        )
    };
    drop(stream);
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An ICMP echo socket (icmp(7), "ping socket"): send an echo request without its identifier, receive the replies to it.
pub fn ping_socket() -> io::Result<UdpSocket> {
    // The namespace's own permission; the kernel's default allows nobody.
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").ok();
    // SAFETY: makes a descriptor, which is ours if it isn't negative.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, libc::IPPROTO_ICMP);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(UdpSocket::from_raw_fd(fd)) }
    }
}

/// Sends SIGINT to one process: what Ctrl-C does to each of a terminal's foreground.
pub fn send_interrupt(process: &std::process::Child) -> io::Result<()> {
    // SAFETY: has no preconditions; the child isn't reaped yet, so the number is its own.
    match unsafe { libc::kill(process.id().cast_signed(), libc::SIGINT) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends SIGTERM to a child: it may clean up.
pub fn ask_to_end(process: &std::process::Child) {
    // SAFETY: has no preconditions; the child isn't reaped yet, so the number is its own. That it has ended by itself
    // is no failure.
    unsafe { libc::kill(process.id().cast_signed(), libc::SIGTERM) };
}

/// Ends a child that leads a process group of its own, and all that it has started.
pub fn kill_group(leader: &std::process::Child) {
    // SAFETY: has no preconditions; the child isn't reaped yet, so the number is its own. That it has ended by itself
    // is no failure.
    unsafe { libc::kill(-leader.id().cast_signed(), libc::SIGKILL) };
}
