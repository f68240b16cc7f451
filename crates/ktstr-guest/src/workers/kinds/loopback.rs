//! A datagram socket on the loopback device that sends frames of a given size and receives them.

use super::super::sys;

/// Bytes of a frame before its payload: the Ethernet, IPv4 and UDP headers.
const HEADERS: u64 = 14 + 20 + 8;
/// Maximum payload of a frame in bytes.
const PAYLOAD: usize = 1514 - HEADERS as usize;
const IPV4: u16 = libc::AF_INET as u16;
const ADDRESS_BYTES: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

/// A socket bound to its own port.
pub(super) struct Socket {
    fd: i32,
    port: u16,
}

impl Socket {
    /// Opens a socket, and brings the loopback device up if necessary. `Err` is the errno.
    pub fn open() -> Result<Self, i32> {
        // SAFETY: plain integers.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(sys::errno());
        }
        bring_up(fd)?;
        let mut own = address(0);
        let mut length = ADDRESS_BYTES;
        // SAFETY: an address on the stack with the length that is passed; the kernel writes at most that much.
        let rc = unsafe {
            libc::bind(fd, (&raw const own).cast(), length)
                | libc::getsockname(fd, (&raw mut own).cast(), &raw mut length)
        };
        match rc {
            0 => Ok(Self {
                fd,
                port: u16::from_be(own.sin_port),
            }),
            _ => Err(sys::errno()),
        }
    }

    /// Returns the port that this socket receives on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends a frame that contains the current time. The frame has `bytes` bytes with its headers, but at least 50 and at most
    /// 1514. Returns `false` if a signal interrupted the call, so that nothing was sent. `Err` is the errno of another failure.
    pub fn send(&self, port: u16, bytes: u64) -> Result<bool, i32> {
        let mut payload = [0u8; PAYLOAD];
        let (stamp, _) = payload.split_at_mut(8);
        stamp.copy_from_slice(&sys::now_ns().to_ne_bytes());
        let length = (bytes.saturating_sub(HEADERS) as usize).clamp(8, PAYLOAD);
        let to = address(port);
        // SAFETY: `length` readable bytes, and an address with the length that is passed.
        let sent = unsafe {
            let to = (&raw const to).cast();
            libc::sendto(
                self.fd,
                payload.as_ptr().cast(),
                length,
                0,
                to,
                ADDRESS_BYTES,
            )
        };
        match sent {
            1.. => Ok(true),
            _ => match sys::errno() {
                libc::EINTR => Ok(false),
                errno => Err(errno),
            },
        }
    }

    /// Waits for the next frame. Returns the time at which it was sent, or `None` when a signal interrupts the wait.
    pub fn receive(&self) -> Option<u64> {
        let mut stamp = [0u8; 8];
        // SAFETY: the buffer has the length that is passed; the rest of the frame is discarded.
        let got = unsafe { libc::recv(self.fd, stamp.as_mut_ptr().cast(), stamp.len(), 0) };
        (got == 8).then(|| u64::from_ne_bytes(stamp))
    }
}

fn address(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: IPV4,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_be_bytes([127, 0, 0, 1]).to_be(),
        },
        sin_zero: [0; 8],
    }
}

/// Brings the loopback device up, because all network devices of a guest are down after boot.
///
/// The flags are set even if the device is up already: a device that another worker brings up has `IFF_UP` before it has its
/// address, and `bind` would fail (`devinet_event()` in net/ipv4/devinet.c adds the address). Setting the flags waits for the
/// other worker's call, because the kernel holds the RTNL lock while it sets the flag and adds the address.
fn bring_up(fd: i32) -> Result<(), i32> {
    // SAFETY: all-zero bytes are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    let up = libc::IFF_UP as libc::c_short;
    // SAFETY: a request on the stack; the first call fills in its flags.
    let rc = unsafe {
        let read = libc::ioctl(fd, libc::SIOCGIFFLAGS, &raw mut request);
        let flags = request.ifr_ifru.ifru_flags;
        request.ifr_ifru.ifru_flags = flags | up;
        if read == 0 {
            let set = libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw mut request);
            // A worker that is not root may not set flags, but uses the device that a worker of root has brought up.
            if set != 0 && sys::errno() == libc::EPERM && flags & up != 0 {
                return Ok(());
            }
            set
        } else {
            read
        }
    };
    if rc == 0 { Ok(()) } else { Err(sys::errno()) }
}
