// SPDX-License-Identifier: Apache-2.0
//! What must the workers of one node agree on? A memfd passed by descriptor: heartbeats, counts, rate-limit counters,
//! the health of Targets.
//!
//! Every word is an atomic; a process that dies at any instruction leaves a segment the others can go on with.

pub mod counters;
pub mod health;
mod siphash;
pub mod tcp;

use portable_atomic::AtomicU128;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// `PYLAESM4`: another layout gets another number.
const MAGIC: u64 = 0x5059_4c41_4553_4d34;
const HEADER_WORDS: usize = 32;
const SLOT_WORDS: usize = 64;
const NAME_WORDS: usize = 8;

mod header {
    pub const MAGIC: usize = 0;
    pub const WORKER_SLOTS: usize = 1;
    pub const BUCKETS: usize = 2;
    pub const SECRET: usize = 3;
    pub const EVICTED: usize = 5;
    pub const REFUSED: usize = 6;
    pub const HEALTH_SLOTS: usize = 7;
    pub const HEALTH_REFUSED: usize = 8;
    pub const EJECTIONS: usize = 9;
    /// Words that all workers write to, each in a cache line of its own.
    pub const HEALTH_EPOCH: usize = 16;
    pub const LEASE: usize = 24;
}

mod slot {
    pub const HEARTBEAT: usize = 0;
    pub const PID: usize = 1;
    pub const RUNNING_SINCE: usize = 2;
    pub const RUNNING_NAME: usize = 3;
    pub const GENERATION: usize = 3 + super::NAME_WORDS;
    pub const STATISTICS: usize = 16;
}

/// A count kept per worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs, reason = "nginx's stub_status names; the others say themselves")]
pub enum Statistic {
    Accepted = 0,
    Handled = 1,
    Active = 2,
    Reading = 3,
    Writing = 4,
    Waiting = 5,
    Requests = 6,
    StreamLost = 7,
    PluginBlocked = 8,
    LogLinesLost = 9,
}

impl Statistic {
    /// All of them, with the names `/status` uses.
    pub const ALL: [(Statistic, &'static str); 10] = [
        (Statistic::Accepted, "connections_accepted"),
        (Statistic::Handled, "connections_handled"),
        (Statistic::Active, "connections_active"),
        (Statistic::Reading, "connections_reading"),
        (Statistic::Writing, "connections_writing"),
        (Statistic::Waiting, "connections_waiting"),
        (Statistic::Requests, "total_requests"),
        (Statistic::StreamLost, "stream_items_lost"),
        (Statistic::PluginBlocked, "plugin_blocked"),
        (Statistic::LogLinesLost, "log_lines_lost"),
    ];
}

/// The segment, mapped.
pub struct Segment {
    words: *const AtomicU64,
    count: usize,
    _descriptor: OwnedFd,
}

// SAFETY: all access goes through atomics.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length and nobody holds a reference beyond `self`.
        unsafe { libc::munmap(self.words.cast_mut().cast(), self.count * 8) };
    }
}

fn words_before_health(worker_slots: usize, buckets: usize) -> usize {
    HEADER_WORDS + worker_slots * SLOT_WORDS + buckets * counters::BUCKET_WORDS
}

fn words_for(worker_slots: usize, buckets: usize, health_slots: usize) -> usize {
    words_before_health(worker_slots, buckets) + health::bitmap_words(health_slots) + health_slots * health::ENTRY_WORDS
}

/// Makes a segment and answers its descriptor (close-on-exec; pass it on explicitly).
///
/// # Errors
/// No memory, or no random bytes.
pub fn create(worker_slots: usize, counter_slots: usize, health_slots: usize) -> io::Result<OwnedFd> {
    if !AtomicU128::is_lock_free() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "this processor has no 128-bit compare-and-swap"));
    }
    let buckets = counter_slots.div_ceil(counters::BUCKET_SLOTS).clamp(1, u32::MAX as usize);
    let health_slots = health_slots.clamp(1, 1 << 24);
    let bytes = words_for(worker_slots, buckets, health_slots) * 8;
    // SAFETY: the name is a C string; the result is checked.
    let raw = unsafe { libc::memfd_create(c"pylae".as_ptr(), libc::MFD_CLOEXEC) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `raw` is a fresh descriptor nobody else owns.
    let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: a plain system call on a descriptor we own.
    if unsafe { libc::ftruncate(raw, bytes as libc::off_t) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let segment = Segment::map(descriptor.try_clone()?, bytes / 8)?;
    let mut secret = [0u8; 16];
    // SAFETY: the buffer is 16 bytes long.
    if unsafe { libc::getrandom(secret.as_mut_ptr().cast(), 16, 0) } != 16 {
        return Err(io::Error::last_os_error());
    }
    let secret = u128::from_ne_bytes(secret);
    segment.word(header::WORKER_SLOTS).store(worker_slots as u64, Ordering::Relaxed);
    segment.word(header::BUCKETS).store(buckets as u64, Ordering::Relaxed);
    segment.word(header::HEALTH_SLOTS).store(health_slots as u64, Ordering::Relaxed);
    segment.word(header::SECRET).store(secret as u64, Ordering::Relaxed);
    segment.word(header::SECRET + 1).store((secret >> 64) as u64, Ordering::Relaxed);
    segment.word(header::MAGIC).store(MAGIC, Ordering::Release);
    Ok(descriptor)
}

impl Segment {
    fn map(descriptor: OwnedFd, count: usize) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        // SAFETY: a shared mapping of a descriptor we own; the result is checked.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), count * 8, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, descriptor.as_raw_fd(), 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Segment { words: address.cast(), count, _descriptor: descriptor })
    }

    /// Maps the segment behind a descriptor inherited from the supervisor; the descriptor itself is duplicated.
    ///
    /// # Errors
    /// It is not such a segment.
    pub fn open(raw: RawFd) -> io::Result<Self> {
        // SAFETY: fcntl on a number; a bad one is an error, not undefined.
        let duplicate = unsafe { libc::fcntl(raw, libc::F_DUPFD_CLOEXEC, 3) };
        if duplicate < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `duplicate` is fresh.
        let descriptor = unsafe { OwnedFd::from_raw_fd(duplicate) };
        // SAFETY: `stat` is plain data the call fills in.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: a descriptor we own and a valid pointer.
        if unsafe { libc::fstat(duplicate, &raw mut stat) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let count = usize::try_from(stat.st_size).unwrap_or(0) / 8;
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "the descriptor is no shared segment of this version");
        if count < HEADER_WORDS {
            return Err(broken());
        }
        let segment = Segment::map(descriptor, count)?;
        let whole = words_for(segment.worker_slots(), segment.buckets(), segment.health_slots());
        if segment.word(header::MAGIC).load(Ordering::Acquire) != MAGIC || whole > count {
            return Err(broken());
        }
        Ok(segment)
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.count, "a word of the segment");
        // SAFETY: the index is below the mapped length, and the mapping lives as long as `self`.
        unsafe { &*self.words.add(index) }
    }

    /// Two words as one, for what must change at once; `index` is even.
    #[expect(clippy::cast_ptr_alignment, reason = "the mapping begins at a page and the index is even")]
    fn wide_word(&self, index: usize) -> &AtomicU128 {
        assert!(index & 1 == 0 && index + 1 < self.count, "two words of the segment");
        // SAFETY: both words lie within the mapping, which begins at a page, so an even index is aligned to 16 bytes; words
        // of counters, and keys and states of health, are never used singly.
        unsafe { &*self.words.add(index).cast::<AtomicU128>() }
    }

    /// Word at which the counters begin.
    fn counters_at(&self) -> usize {
        HEADER_WORDS + self.worker_slots() * SLOT_WORDS
    }

    /// Worker slots in it.
    pub fn worker_slots(&self) -> usize {
        self.word(header::WORKER_SLOTS).load(Ordering::Relaxed) as usize
    }

    fn buckets(&self) -> usize {
        self.word(header::BUCKETS).load(Ordering::Relaxed) as usize
    }

    fn secret(&self) -> (u64, u64) {
        (self.word(header::SECRET).load(Ordering::Relaxed), self.word(header::SECRET + 1).load(Ordering::Relaxed))
    }

    fn of_slot(&self, index: usize, field: usize) -> &AtomicU64 {
        assert!(index < self.worker_slots(), "a worker slot");
        self.word(HEADER_WORDS + index * SLOT_WORDS + field)
    }

    /// The worker of this slot is alive now.
    pub fn beat(&self, index: usize) {
        self.of_slot(index, slot::HEARTBEAT).store(monotonic_ms(), Ordering::Release);
    }

    /// The worker of this slot enters; its old counts stay, they are the node's.
    pub fn enter(&self, index: usize, generation: u64) {
        self.of_slot(index, slot::PID).store(u64::from(std::process::id()), Ordering::Relaxed);
        self.of_slot(index, slot::GENERATION).store(generation, Ordering::Relaxed);
        self.of_slot(index, slot::RUNNING_SINCE).store(0, Ordering::Release);
        for gauge in [Statistic::Active, Statistic::Reading, Statistic::Writing, Statistic::Waiting] {
            self.statistic(index, gauge).store(0, Ordering::Relaxed);
        }
        self.beat(index);
    }

    /// Milliseconds since the slot's worker was last alive; `None`: nobody is in the slot.
    pub fn heartbeat_age_ms(&self, index: usize) -> Option<u64> {
        match self.of_slot(index, slot::HEARTBEAT).load(Ordering::Acquire) {
            0 => None,
            at => Some(monotonic_ms().saturating_sub(at)),
        }
    }

    /// The slot's worker has left (told by the supervisor, or by itself when it drains).
    pub fn clear(&self, index: usize) {
        self.of_slot(index, slot::HEARTBEAT).store(0, Ordering::Release);
        self.of_slot(index, slot::RUNNING_SINCE).store(0, Ordering::Release);
        for gauge in [Statistic::Active, Statistic::Reading, Statistic::Writing, Statistic::Waiting] {
            self.statistic(index, gauge).store(0, Ordering::Relaxed);
        }
    }

    /// Generation of the slot's worker.
    pub fn generation(&self, index: usize) -> u64 {
        self.of_slot(index, slot::GENERATION).load(Ordering::Relaxed)
    }

    /// Process id of the slot's worker.
    pub fn pid(&self, index: usize) -> u64 {
        self.of_slot(index, slot::PID).load(Ordering::Relaxed)
    }

    /// A plugin begins to run inline now, at `at_ms` of the monotonic clock; `name` is `plugin phase`, cut to 63 bytes.
    pub fn begin_running(&self, index: usize, name: &str, at_ms: u64) {
        let bytes = &name.as_bytes()[..name.len().min(NAME_WORDS * 8 - 1)];
        for (at, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.of_slot(index, slot::RUNNING_NAME + at).store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
        if bytes.len().trailing_zeros() >= 3 && bytes.len() < NAME_WORDS * 8 {
            self.of_slot(index, slot::RUNNING_NAME + bytes.len() / 8).store(0, Ordering::Relaxed);
        }
        self.of_slot(index, slot::RUNNING_SINCE).store(at_ms.max(1), Ordering::Release);
    }

    /// It has ended.
    pub fn end_running(&self, index: usize) {
        self.of_slot(index, slot::RUNNING_SINCE).store(0, Ordering::Release);
    }

    /// What runs inline in the slot's worker, and for how many milliseconds.
    pub fn running(&self, index: usize) -> Option<(String, u64)> {
        let since = self.of_slot(index, slot::RUNNING_SINCE).load(Ordering::Acquire);
        if since == 0 {
            return None;
        }
        let bytes: Vec<u8> = (0..NAME_WORDS)
            .flat_map(|at| self.of_slot(index, slot::RUNNING_NAME + at).load(Ordering::Relaxed).to_ne_bytes())
            .take_while(|&b| b != 0)
            .collect();
        Some((String::from_utf8_lossy(&bytes).into_owned(), monotonic_ms().saturating_sub(since)))
    }

    /// A count of one worker.
    pub fn statistic(&self, index: usize, statistic: Statistic) -> &AtomicU64 {
        self.of_slot(index, slot::STATISTICS + statistic as usize)
    }

    /// A count summed over all workers.
    pub fn total(&self, statistic: Statistic) -> u64 {
        (0..self.worker_slots()).map(|index| self.statistic(index, statistic).load(Ordering::Relaxed)).sum()
    }

    /// What became of counters since the start.
    pub fn counter_events(&self) -> CounterEvents {
        let load = |index| self.word(index).load(Ordering::Relaxed);
        CounterEvents { evicted: load(header::EVICTED), refused: load(header::REFUSED) }
    }
}

/// What became of counters since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterEvents {
    /// Live counters that gave way because their bucket was full.
    pub evicted: u64,
    /// Takes refused because room was short, not because their own count had reached the limit.
    pub refused: u64,
}

/// Lets the calling thread yield to the others of its core: what compiles configurations must not stall who serves requests.
/// Where the kernel refuses, the thread runs on as it did.
pub fn lower_thread_priority() {
    // SAFETY: a plain system call; 0 is the calling thread (Linux counts threads here, not processes).
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 5) };
}

/// Milliseconds of the machine's monotonic clock, the same in every process.
pub fn monotonic_ms() -> u64 {
    (monotonic().as_nanos() / 1_000_000) as u64
}

/// The machine's monotonic clock, the same in every process.
pub fn monotonic() -> Duration {
    // SAFETY: `time` is plain data the call fills in.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: a valid pointer and a clock that always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
