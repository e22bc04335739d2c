// SPDX-License-Identifier: Apache-2.0
//! What does the kernel know of a connection that reading it does not tell?

use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// `TCP_CLOSE` of the kernel's `enum tcp_state`.
const STATE_CLOSE: u8 = 7;
/// `TCP_CLOSE_WAIT`: the peer's FIN came, and we have not ended our side.
const STATE_CLOSE_WAIT: u8 = 8;

/// A part of Linux's `struct tcp_info` (include/uapi/linux/tcp.h), which only ever grows at its end.
#[repr(C)]
struct TcpInfo {
    state: u8,
    _flags: [u8; 7],
    _rto_to_rcv_mss: [u32; 4],
    /// Segments.
    unacked: u32,
    _sacked_to_last_data_sent: [u32; 5],
    _last_ack_sent: u32,
    _last_data_received: u32,
    /// Milliseconds.
    last_ack_received: u32,
    _pmtu_and_threshold: [u32; 2],
    /// Microseconds, smoothed.
    rtt: u32,
    _rttvar_to_total_retrans: [u32; 8],
    _pacing_rates: [u64; 2],
    bytes_acked: u64,
}

/// What Linux tells of a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpFacts {
    /// The peer has reset the connection, or both sides have ended it.
    pub is_over: bool,
    /// The peer has ended its side, or all of it; bytes that came before may still lie unread.
    pub has_peer_ended: bool,
    /// Bytes that the peer's kernel has acknowledged since the connection began.
    pub acked_bytes: u64,
    /// Is something that was sent not acknowledged yet?
    pub owes_ack: bool,
    /// Time since the peer's last acknowledgement; a FIN carries one, a RST counts for none.
    pub since_last_ack: Duration,
    /// Smoothed time there and back.
    pub rtt: Duration,
}

impl TcpFacts {
    /// Asks the kernel; `None` where it does not tell (older than Linux 4.1).
    pub fn of(socket: &impl AsRawFd) -> Option<TcpFacts> {
        let mut info = MaybeUninit::<TcpInfo>::zeroed();
        let mut length = size_of::<TcpInfo>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to `info`, all of whose fields are plain integers.
        let answered =
            unsafe { libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut length) };
        if answered != 0 || (length as usize) < size_of::<TcpInfo>() {
            return None;
        }
        // SAFETY: zeroed, then filled by the kernel; any bits are valid integers.
        let info = unsafe { info.assume_init() };
        Some(TcpFacts {
            is_over: info.state == STATE_CLOSE,
            has_peer_ended: matches!(info.state, STATE_CLOSE | STATE_CLOSE_WAIT),
            acked_bytes: info.bytes_acked,
            owes_ack: info.unacked > 0,
            since_last_ack: Duration::from_millis(u64::from(info.last_ack_received)),
            rtt: Duration::from_micros(u64::from(info.rtt)),
        })
    }
}

/// Is something that was sent not acknowledged yet? Then the time since the peer's last acknowledgement, else zero; `None` where
/// the kernel does not tell.
pub fn unacknowledged(socket: &impl AsRawFd) -> Option<Duration> {
    TcpFacts::of(socket).map(|facts| if facts.owes_ack { facts.since_last_ack } else { Duration::ZERO })
}

/// Looks at the next byte without taking it: 0 at the peer's end.
fn peek(socket: &impl AsRawFd) -> std::io::Result<usize> {
    let mut byte = 0u8;
    // SAFETY: one byte is read into `byte` at most, and left where it is.
    let count = unsafe { libc::recv(socket.as_raw_fd(), (&raw mut byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
    usize::try_from(count).map_err(|_| std::io::Error::last_os_error())
}

/// Has the peer ended the connection, as the kernel knows it at this moment? The reactor may hear of it later.
pub fn has_ended(socket: &impl AsRawFd) -> bool {
    match peek(socket) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

/// Has the peer ended the connection, or sent anything?
pub fn has_news(socket: &impl AsRawFd) -> bool {
    peek(socket).map_or_else(|error| error.kind() != std::io::ErrorKind::WouldBlock, |_| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let ours = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (theirs, _) = listener.accept().expect("the other end");
        (ours, theirs)
    }

    fn facts_once(ours: &TcpStream, is_so: impl Fn(&TcpFacts) -> bool) -> TcpFacts {
        let begun = Instant::now();
        loop {
            let facts = TcpFacts::of(ours).expect("facts");
            if is_so(&facts) || begun.elapsed() > Duration::from_secs(5) {
                return facts;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn test_what_the_peer_took_is_acknowledged() {
        let (mut ours, mut theirs) = pair();
        let before = TcpFacts::of(&ours).expect("facts");
        ours.write_all(b"hello").expect("written");
        theirs.read_exact(&mut [0u8; 5]).expect("read");
        let after = facts_once(&ours, |facts| facts.acked_bytes - before.acked_bytes == 5);
        assert_eq!(after.acked_bytes - before.acked_bytes, 5);
        assert!(!after.is_over && !after.owes_ack && !has_ended(&ours) && !has_news(&ours));
        theirs.write_all(b"!").expect("written");
        ours.peek(&mut [0u8; 1]).expect("it came");
        assert!(!has_ended(&ours) && has_news(&ours));
        assert!(!TcpFacts::of(&ours).expect("facts").has_peer_ended);
        drop(theirs);
        assert!(facts_once(&ours, |facts| facts.has_peer_ended).has_peer_ended, "although a byte lies unread");
    }

    #[test]
    fn test_what_came_after_the_peers_end_is_not_acknowledged() {
        let (mut ours, theirs) = pair();
        let before = TcpFacts::of(&ours).expect("facts");
        drop(theirs);
        assert_eq!(ours.peek(&mut [0u8; 1]).expect("the end"), 0);
        assert!(has_ended(&ours) && has_news(&ours));
        ours.write_all(b"hello").expect("our own kernel takes it");
        let after = facts_once(&ours, |facts| facts.is_over);
        assert!(after.is_over);
        assert_eq!(after.acked_bytes, before.acked_bytes);
    }

    #[test]
    fn test_a_peer_that_ended_its_own_side_alone_acknowledges_what_it_reads() {
        let (mut ours, mut theirs) = pair();
        let before = TcpFacts::of(&ours).expect("facts");
        theirs.shutdown(std::net::Shutdown::Write).expect("half closed");
        ours.write_all(b"hello").expect("written");
        theirs.read_exact(&mut [0u8; 5]).expect("read");
        let after = facts_once(&ours, |facts| facts.acked_bytes > before.acked_bytes);
        assert!(after.acked_bytes > before.acked_bytes && !after.is_over);
    }
}
