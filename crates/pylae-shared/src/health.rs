// SPDX-License-Identifier: Apache-2.0
//! Does this address of a Target do, as all workers of the node know it together?
//!
//! A table beside the counters: an entry belongs to one address of one Target of one Upstream and is found by a keyed hash of
//! the three. What is known of it is one 128-bit word ([`Health`]), changed by compare-and-swap, so no report of any worker
//! is lost, none waits for another, and one that is killed leaves nothing half done. The word names whose it is: a report
//! that comes for an entry which has passed to another finds the name changed and does nothing.
//!
//! An entry is never given back. It passes to another when nobody has touched it for [`STALE_AFTER_MS`]. When the window in
//! which a key may stand has no room, the caller is told and keeps what it learns to itself; that is counted.
//!
//! Here too is the lease by which one worker is chosen to probe for the node.

use crate::siphash::siphash24_128;
use crate::{Segment, header, monotonic_ms};
use portable_atomic::AtomicU128;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Entries unless the creator says otherwise: 10,000 Upstreams of 10 Targets at three quarters full. Memory is taken by the
/// page, as entries are used.
pub const HEALTH_SLOTS: usize = 131_072;
/// An entry that was not touched for so long may pass to another.
pub const STALE_AFTER_MS: u64 = 60_000;
/// Who holds the lease and was silent for so long has lost it.
pub const LEASE_MS: u64 = 1_000;

/// Entries a key may stand in, counted from where its hash says.
const WINDOW: usize = 256;
/// 64-bit words of an entry: four cache lines.
pub(crate) const ENTRY_WORDS: usize = 32;
const EVIDENCE_WORDS: usize = 16;

mod field {
    /// Key of 128 bits; 0: never used.
    pub const KEY: usize = 0;
    /// [`super::Health`] with the entry's tag.
    pub const STATE: usize = 2;
    pub const UPSTREAM: usize = 4;
    pub const TARGET: usize = 6;
    pub const ADDRESS: usize = 8;
    pub const PORT: usize = 10;
    /// Milliseconds of the monotonic clock.
    pub const TOUCHED: usize = 11;
    /// Milliseconds since the epoch; 0: never probed.
    pub const PROBED: usize = 12;
    pub const EVIDENCE: usize = 13;
}

/// What an entry belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The Upstream's row.
    pub upstream: [u8; 16],
    /// The Target's row.
    pub target: [u8; 16],
    /// One address of it.
    pub address: IpAddr,
    /// TCP port.
    pub port: u16,
}

fn halves(bytes: [u8; 16]) -> [u64; 2] {
    let value = u128::from_le_bytes(bytes);
    [value as u64, (value >> 64) as u64]
}

fn whole(low: u64, high: u64) -> [u8; 16] {
    (u128::from(low) | u128::from(high) << 64).to_le_bytes()
}

impl Identity {
    fn words(&self) -> [u64; 7] {
        let address = match self.address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let family = u64::from(self.address.is_ipv6()) << 16;
        let (upstream, target, address) = (halves(self.upstream), halves(self.target), halves(address.octets()));
        [upstream[0], upstream[1], target[0], target[1], address[0], address[1], u64::from(self.port) | family]
    }

    fn from_words(words: [u64; 7]) -> Self {
        let address = Ipv6Addr::from(whole(words[4], words[5]));
        let mapped = if words[6] >> 16 & 1 == 0 { address.to_ipv4_mapped() } else { None };
        Identity {
            upstream: whole(words[0], words[1]),
            target: whole(words[2], words[3]),
            address: mapped.map_or(IpAddr::V6(address), IpAddr::V4),
            port: words[6] as u16,
        }
    }
}

/// What was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// An answer with a healthy status, or a connection where that is all that is asked.
    Success,
    /// No connection, or one that broke before an answer.
    TcpFailure,
    /// No answer in time.
    Timeout,
    /// An answer with an unhealthy status, or none that could be read.
    HttpFailure,
}

/// Who observed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observer {
    /// A probe.
    Active,
    /// A request on its way.
    Passive,
}

/// Why an address is in the state it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing has changed it yet.
    Initial,
    /// An operator said so.
    Marked,
    /// So many reports came.
    Reported(Observer, Report),
}

impl Why {
    const REPORTS: [Report; 4] = [Report::Success, Report::TcpFailure, Report::Timeout, Report::HttpFailure];

    fn code(self) -> u8 {
        match self {
            Why::Initial => 0,
            Why::Marked => 1,
            Why::Reported(observer, report) => 2 + (report as u8) * 2 + (observer as u8),
        }
    }

    fn of_code(code: u8) -> Why {
        match code {
            0 => Why::Initial,
            1 => Why::Marked,
            code => {
                let observer = if code & 1 == 0 { Observer::Active } else { Observer::Passive };
                Why::Reported(observer, Why::REPORTS[usize::from(code - 2) / 2 % 4])
            }
        }
    }

    /// `passive: tcp_failures`, with Kong's names of the counts.
    pub fn name(self) -> &'static str {
        match self {
            Why::Initial => "initial",
            Why::Marked => "marked by an operator",
            Why::Reported(Observer::Active, Report::Success) => "active: successes",
            Why::Reported(Observer::Active, Report::TcpFailure) => "active: tcp_failures",
            Why::Reported(Observer::Active, Report::Timeout) => "active: timeouts",
            Why::Reported(Observer::Active, Report::HttpFailure) => "active: http_failures",
            Why::Reported(Observer::Passive, Report::Success) => "passive: successes",
            Why::Reported(Observer::Passive, Report::TcpFailure) => "passive: tcp_failures",
            Why::Reported(Observer::Passive, Report::Timeout) => "passive: timeouts",
            Why::Reported(Observer::Passive, Report::HttpFailure) => "passive: http_failures",
        }
    }
}

/// What is known of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// May it be chosen?
    pub is_healthy: bool,
    /// What made it so.
    pub why: Why,
    /// Since when, milliseconds since the epoch.
    pub since_ms: u64,
    /// How often each kind of report came in a row, in the order of [`Report`]; a success empties the failures and the reverse.
    pub counts: [u8; 4],
}

const WHY_SHIFT: u32 = 33;
const SINCE_SHIFT: u32 = 44;
const SINCE_MASK: u64 = (1 << 44) - 1;
const TAG_SHIFT: u32 = 88;
const TAG_MASK: u64 = (1 << 40) - 1;

impl Health {
    /// Healthy, as everything is at first.
    pub fn initial(now_ms: u64) -> Self {
        Health { is_healthy: true, why: Why::Initial, since_ms: now_ms, counts: [0; 4] }
    }

    /// As an operator says.
    pub fn marked(is_healthy: bool, now_ms: u64) -> Self {
        Health { is_healthy, why: Why::Marked, since_ms: now_ms, counts: [0; 4] }
    }

    /// Kong's name of the state: between the two lie `mostly_healthy` (failures, not enough of them) and `mostly_unhealthy`.
    pub fn name(&self) -> &'static str {
        match (self.is_healthy, self.counts) {
            (true, [_, 0, 0, 0]) => "healthy",
            (true, _) => "mostly_healthy",
            (false, [0, ..]) => "unhealthy",
            (false, _) => "mostly_unhealthy",
        }
    }

    /// What one more report makes of it; `limit` of them in a row change the state, 0 means that such reports count for
    /// nothing. (Kong's `lua-resty-healthcheck`, `incr_counter`.)
    #[must_use]
    pub fn after(self, observer: Observer, report: Report, limit: u8, now_ms: u64) -> Self {
        let is_success = report == Report::Success;
        let is_settled = self.name() == if is_success { "healthy" } else { "unhealthy" };
        if limit == 0 || is_settled {
            return self;
        }
        let mut next = self;
        let count = &mut next.counts[report as usize];
        *count = count.saturating_add(1);
        let is_reached = *count >= limit;
        if is_success {
            next.counts[1..].fill(0);
        } else {
            next.counts[0] = 0;
        }
        if is_reached && next.is_healthy != is_success {
            next.is_healthy = is_success;
            next.why = Why::Reported(observer, report);
            next.since_ms = now_ms;
        }
        next
    }

    fn pack(self, tag: u64) -> u128 {
        let low = u64::from(u32::from_le_bytes(self.counts)) | u64::from(!self.is_healthy) << 32 | u64::from(self.why.code()) << WHY_SHIFT;
        u128::from(low) | u128::from(self.since_ms & SINCE_MASK) << SINCE_SHIFT | u128::from(tag) << TAG_SHIFT
    }

    fn unpack(word: u128) -> Self {
        let low = word as u64;
        Health {
            is_healthy: low >> 32 & 1 == 0,
            why: Why::of_code((low >> WHY_SHIFT) as u8 & 0x0f),
            since_ms: (word >> SINCE_SHIFT) as u64 & SINCE_MASK,
            counts: (low as u32).to_le_bytes(),
        }
    }
}

/// A [`Health`] that is changed by many at once.
struct Word<'a>(&'a AtomicU128, u64);

impl Word<'_> {
    fn load(&self) -> Option<Health> {
        let word = self.0.load(SeqCst);
        ((word >> TAG_SHIFT) as u64 == self.1).then(|| Health::unpack(word))
    }

    /// Changes it; before and after, or `None` when it has passed to another.
    fn update(&self, change: impl Fn(Health) -> Health) -> Option<(Health, Health)> {
        let mut word = self.0.load(SeqCst);
        loop {
            if (word >> TAG_SHIFT) as u64 != self.1 {
                return None;
            }
            let before = Health::unpack(word);
            let after = change(before);
            if after == before {
                return Some((before, before));
            }
            match self.0.compare_exchange(word, after.pack(self.1), SeqCst, SeqCst) {
                Ok(_) => return Some((before, after)),
                Err(now) => word = now,
            }
        }
    }
}

/// What a worker knows of an address for which the table has no room.
pub struct LocalHealth(AtomicU128);

impl LocalHealth {
    /// Healthy.
    pub fn new(now_ms: u64) -> Self {
        LocalHealth(AtomicU128::new(Health::initial(now_ms).pack(0)))
    }

    /// As it is.
    pub fn load(&self) -> Health {
        Health::unpack(self.0.load(SeqCst))
    }

    /// Changes it; before and after.
    pub fn update(&self, change: impl Fn(Health) -> Health) -> (Health, Health) {
        let now = self.load();
        Word(&self.0, 0).update(change).unwrap_or((now, now))
    }
}

impl std::fmt::Debug for LocalHealth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.load().fmt(f)
    }
}

/// Where an entry stands and whose it is; fits into a word, which is never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    fn new(index: usize, tag: u64) -> Self {
        Entry((index as u64) << 40 | tag)
    }
    fn index(self) -> usize {
        (self.0 >> 40) as usize
    }
    fn tag(self) -> u64 {
        self.0 & TAG_MASK
    }
    /// As a word, for keeping.
    pub fn word(self) -> u64 {
        self.0
    }
    /// From such a word.
    pub fn of_word(word: u64) -> Option<Self> {
        (word != 0).then_some(Entry(word))
    }
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthRow {
    /// Whose it is.
    pub identity: Identity,
    /// What is known.
    pub health: Health,
    /// When it was probed last, milliseconds since the epoch.
    pub probed_ms: Option<u64>,
    /// What the last probe, or the request that changed the state, found.
    pub evidence: String,
}

impl Segment {
    pub(crate) fn health_slots(&self) -> usize {
        self.word(header::HEALTH_SLOTS).load(Relaxed) as usize
    }

    fn bitmap_at(&self) -> usize {
        crate::words_before_health(self.worker_slots(), self.buckets())
    }

    fn entry_at(&self, index: usize) -> usize {
        self.bitmap_at() + bitmap_words(self.health_slots()) + index * ENTRY_WORDS
    }

    fn state(&self, entry: Entry) -> Word<'_> {
        // An index that is not ours can only come from a word that was not made here; it reads as another's.
        let index = entry.index().min(self.health_slots() - 1);
        Word(self.wide_word(self.entry_at(index) + field::STATE), entry.tag())
    }

    /// The entry of this address, made when there is none. `None`: no room, which is counted.
    pub fn health_entry(&self, identity: &Identity, now_ms: u64) -> Option<Entry> {
        let words = identity.words();
        let (low, high) = siphash24_128(self.secret(), &words, b"health");
        let (low, high) = (low.max(1), high);
        let key = u128::from(low) | u128::from(high) << 64;
        let tag = (high & TAG_MASK).max(1);
        let slots = self.health_slots();
        let start = ((u64::from(low as u32) * slots as u64) >> 32) as usize;
        // Lost to another who took the same entry: look again; each time another has made progress.
        for _ in 0..WINDOW {
            let now = monotonic_ms();
            // Entries are never freed: beyond the first that nobody used the key cannot stand.
            let mut place = None;
            for step in 0..WINDOW.min(slots) {
                let index = (start + step) % slots;
                let other = self.wide_word(self.entry_at(index) + field::KEY).load(SeqCst);
                if other == key {
                    self.publish(index, &words, tag, now_ms);
                    return Some(Entry::new(index, tag));
                }
                if other == 0 {
                    place = Some((index, other));
                    break;
                }
                let touched = self.word(self.entry_at(index) + field::TOUCHED).load(Relaxed);
                if place.is_none() && touched.saturating_add(STALE_AFTER_MS) < now {
                    place = Some((index, other));
                }
            }
            let Some((index, other)) = place else { break };
            self.word(self.bitmap_at() + index / 64).fetch_or(1 << (index % 64), SeqCst);
            self.word(self.entry_at(index) + field::TOUCHED).store(now, SeqCst);
            let _ = self.wide_word(self.entry_at(index) + field::KEY).compare_exchange(other, key, SeqCst, SeqCst);
        }
        self.word(header::HEALTH_REFUSED).fetch_add(1, Relaxed);
        None
    }

    /// Writes whose the entry is, then gives it a state, unless that was done.
    fn publish(&self, index: usize, words: &[u64; 7], tag: u64, now_ms: u64) {
        let base = self.entry_at(index);
        self.word(base + field::TOUCHED).store(monotonic_ms(), Relaxed);
        let state = self.wide_word(base + field::STATE);
        let word = state.load(SeqCst);
        if (word >> TAG_SHIFT) as u64 == tag {
            return;
        }
        let places =
            [field::UPSTREAM, field::UPSTREAM + 1, field::TARGET, field::TARGET + 1, field::ADDRESS, field::ADDRESS + 1, field::PORT];
        for (place, word) in places.into_iter().zip(words) {
            self.word(base + place).store(*word, SeqCst);
        }
        self.word(base + field::PROBED).store(0, Relaxed);
        self.word(base + field::EVIDENCE).store(0, Relaxed);
        // Whoever is second finds it done.
        let _ = state.compare_exchange(word, Health::initial(now_ms).pack(tag), SeqCst, SeqCst);
    }

    /// What is known; `None` when the entry has passed to another: ask for it anew.
    pub fn health_of(&self, entry: Entry) -> Option<Health> {
        self.state(entry).load()
    }

    /// Changes what is known. Answers before and after; `None` when the entry has passed to another.
    pub fn change_health(&self, entry: Entry, change: impl Fn(Health) -> Health) -> Option<(Health, Health)> {
        let changed = self.state(entry).update(change)?;
        if changed.0.is_healthy != changed.1.is_healthy {
            self.turn_health_epoch();
        }
        Some(changed)
    }

    /// Keeps the entry from passing to another.
    pub fn touch_health(&self, entry: Entry) {
        if self.health_of(entry).is_some() {
            self.word(self.entry_at(entry.index()) + field::TOUCHED).store(monotonic_ms(), Relaxed);
        }
    }

    /// Keeps what was found, cut to 127 bytes; `probed_ms`: it was a probe, at this time.
    pub fn note_health(&self, entry: Entry, evidence: &str, probed_ms: Option<u64>) {
        if self.health_of(entry).is_none() {
            return;
        }
        let base = self.entry_at(entry.index());
        let mut length = evidence.len().min(EVIDENCE_WORDS * 8 - 1);
        while !evidence.is_char_boundary(length) {
            length -= 1;
        }
        let bytes = &evidence.as_bytes()[..length];
        for at in 0..=bytes.len() / 8 {
            let mut word = [0u8; 8];
            let chunk = &bytes[at * 8..bytes.len().min(at * 8 + 8)];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(base + field::EVIDENCE + at).store(u64::from_ne_bytes(word), Relaxed);
        }
        if let Some(at_ms) = probed_ms {
            self.word(base + field::PROBED).store(at_ms, Relaxed);
        }
    }

    /// Every address that somebody has kept in the last minute, in no order.
    pub fn health_rows(&self) -> Vec<HealthRow> {
        let mut rows = Vec::new();
        let now = monotonic_ms();
        for at in 0..bitmap_words(self.health_slots()) {
            let mut bits = self.word(self.bitmap_at() + at).load(SeqCst);
            while bits != 0 {
                let index = at * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                rows.extend((index < self.health_slots()).then(|| self.row(index, now)).flatten());
            }
        }
        rows
    }

    fn row(&self, index: usize, now: u64) -> Option<HealthRow> {
        let base = self.entry_at(index);
        let key = self.wide_word(base + field::KEY).load(SeqCst);
        let tag = ((key >> 64) as u64 & TAG_MASK).max(1);
        let health = Word(self.wide_word(base + field::STATE), tag).load()?;
        let at = |place: usize| self.word(base + place).load(SeqCst);
        if at(field::TOUCHED).saturating_add(STALE_AFTER_MS) < now {
            return None;
        }
        let places =
            [field::UPSTREAM, field::UPSTREAM + 1, field::TARGET, field::TARGET + 1, field::ADDRESS, field::ADDRESS + 1, field::PORT];
        let identity = Identity::from_words(places.map(at));
        let bytes: Vec<u8> =
            (0..EVIDENCE_WORDS).flat_map(|word| at(field::EVIDENCE + word).to_ne_bytes()).take_while(|&byte| byte != 0).collect();
        let probed_ms = Some(at(field::PROBED)).filter(|&ms| ms != 0);
        // Passed to another while we read: it is that one's, and not known yet.
        let is_same = self.wide_word(base + field::KEY).load(SeqCst) == key;
        is_same.then(|| HealthRow { identity, health, probed_ms, evidence: String::from_utf8_lossy(&bytes).into_owned() })
    }

    /// Goes up whenever an address becomes healthy or unhealthy: while it stays, what was made of the states is still true.
    pub fn health_epoch(&self) -> u64 {
        self.word(header::HEALTH_EPOCH).load(SeqCst)
    }

    /// Says that a state changed which the table has no room for.
    pub fn turn_health_epoch(&self) {
        self.word(header::HEALTH_EPOCH).fetch_add(1, SeqCst);
    }

    /// How often the table had no room.
    pub fn health_refused(&self) -> u64 {
        self.word(header::HEALTH_REFUSED).load(Relaxed)
    }

    /// Takes or keeps the lease of who probes for the node; `false`: another holds it. `holder` is a worker's own number, not 0.
    pub fn hold_lease(&self, holder: u16) -> bool {
        let word = self.word(header::LEASE);
        let held = word.load(SeqCst);
        let now = monotonic_ms();
        let (of, beat) = (held as u16, held >> 16);
        if held != 0 && of != holder && now.saturating_sub(beat) <= LEASE_MS {
            return false;
        }
        word.compare_exchange(held, now << 16 | u64::from(holder), SeqCst, SeqCst).is_ok()
    }

    /// Lets another have the lease at once.
    pub fn leave_lease(&self, holder: u16) {
        let word = self.word(header::LEASE);
        let held = word.load(SeqCst);
        if held as u16 == holder {
            let _ = word.compare_exchange(held, 0, SeqCst, SeqCst);
        }
    }
}

/// Words of the map of used entries, a whole number of cache lines.
pub(crate) fn bitmap_words(slots: usize) -> usize {
    slots.div_ceil(64 * 8) * 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    const NOW_MS: u64 = 1_767_225_602_000;

    fn segment(slots: usize) -> Segment {
        let descriptor = crate::create(2, 12, slots).expect("a segment");
        Segment::open(descriptor.as_raw_fd()).expect("the same")
    }

    fn identity(number: u32) -> Identity {
        let id = |salt: u32| u128::from(number ^ salt << 24).to_le_bytes();
        let address = if number.is_multiple_of(2) { IpAddr::from(number.to_be_bytes()) } else { IpAddr::from(id(9)) };
        Identity { upstream: id(1), target: id(2), address, port: number as u16 }
    }

    fn fail(segment: &Segment, entry: Entry, limit: u8) -> (Health, Health) {
        segment.change_health(entry, |health| health.after(Observer::Passive, Report::TcpFailure, limit, NOW_MS + 5)).expect("it is ours")
    }

    #[test]
    fn test_what_is_written_is_read_by_another_mapping() {
        let descriptor = crate::create(2, 12, 1024).expect("a segment");
        let (one, two) = (Segment::open(descriptor.as_raw_fd()).expect("a"), Segment::open(descriptor.as_raw_fd()).expect("b"));
        let entry = one.health_entry(&identity(7), NOW_MS).expect("room");
        fail(&one, entry, 1);
        one.note_health(entry, "GET / answered 503 — é", Some(NOW_MS + 6));
        assert_eq!(two.health_entry(&identity(7), NOW_MS + 9), Some(entry));
        let rows = two.health_rows();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].identity, identity(7));
        let health = rows[0].health;
        assert!(!health.is_healthy);
        assert_eq!((health.since_ms, health.counts), (NOW_MS + 5, [0, 1, 0, 0]));
        assert_eq!(health.why.name(), "passive: tcp_failures");
        assert_eq!((rows[0].probed_ms, rows[0].evidence.as_str()), (Some(NOW_MS + 6), "GET / answered 503 — é"));
    }

    #[test]
    fn test_every_health_fits_its_word() {
        for code in 0..10 {
            let why = Why::of_code(code);
            assert_eq!(why.code(), code);
            for is_healthy in [true, false] {
                let health = Health { is_healthy, why, since_ms: NOW_MS, counts: [1, 255, 3, 4] };
                assert_eq!(Health::unpack(health.pack(TAG_MASK)), health);
            }
        }
    }

    #[test]
    fn test_so_many_failures_in_a_row_make_it_unhealthy_and_a_success_begins_anew() {
        let report = |health: Health, report, limit| health.after(Observer::Active, report, limit, NOW_MS);
        let mut health = Health::initial(0);
        health = report(health, Report::HttpFailure, 3);
        assert_eq!(health.name(), "mostly_healthy");
        health = report(health, Report::HttpFailure, 3);
        health = report(health, Report::Success, 1);
        assert_eq!((health.name(), health.counts), ("healthy", [1, 0, 0, 0]));
        for _ in 0..3 {
            assert!(health.is_healthy);
            health = report(health, Report::HttpFailure, 3);
        }
        assert_eq!((health.name(), health.since_ms), ("unhealthy", NOW_MS));
        health = report(health, Report::Success, 2);
        assert_eq!(health.name(), "mostly_unhealthy");
        health = report(health, Report::Timeout, 5);
        assert_eq!((health.name(), health.counts[0]), ("unhealthy", 0));
        health = report(health, Report::Success, 2);
        health = report(health, Report::Success, 2);
        assert_eq!(health.name(), "healthy");
    }

    #[test]
    fn test_a_limit_of_zero_switches_that_report_off() {
        let health = Health::initial(0);
        for kind in [Report::TcpFailure, Report::Timeout, Report::HttpFailure] {
            assert_eq!(health.after(Observer::Passive, kind, 0, NOW_MS), health);
        }
        let failed = health.after(Observer::Passive, Report::Timeout, 2, NOW_MS);
        assert_eq!(failed.after(Observer::Passive, Report::Success, 0, NOW_MS), failed, "as in Kong, nor does it empty the failures");
    }

    #[test]
    fn test_kinds_of_failure_are_counted_apart() {
        let mut health = Health::initial(0);
        for kind in [Report::TcpFailure, Report::Timeout, Report::HttpFailure] {
            health = health.after(Observer::Passive, kind, 2, NOW_MS);
        }
        assert!(health.is_healthy);
        assert!(!health.after(Observer::Passive, Report::Timeout, 2, NOW_MS).is_healthy);
    }

    #[test]
    fn test_the_epoch_turns_with_the_state_and_not_with_the_counts() {
        let segment = segment(64);
        let entry = segment.health_entry(&identity(1), NOW_MS).expect("room");
        let before = segment.health_epoch();
        fail(&segment, entry, 2);
        assert_eq!(segment.health_epoch(), before);
        fail(&segment, entry, 2);
        assert_eq!(segment.health_epoch(), before + 1);
    }

    #[test]
    fn test_a_full_table_says_so_and_keeps_what_it_has() {
        let segment = segment(8);
        let entries: Vec<Entry> = (0..8).map(|number| segment.health_entry(&identity(number), NOW_MS).expect("room")).collect();
        assert_eq!(segment.health_entry(&identity(8), NOW_MS), None);
        assert_eq!(segment.health_refused(), 1);
        for (number, entry) in entries.iter().enumerate() {
            assert_eq!(segment.health_entry(&identity(number as u32), NOW_MS), Some(*entry));
        }
        assert_eq!(segment.health_rows().len(), 8);
    }

    #[test]
    fn test_an_entry_nobody_touches_passes_on_and_its_old_owner_is_told() {
        let segment = segment(1);
        let old = segment.health_entry(&identity(1), NOW_MS).expect("room");
        fail(&segment, old, 1);
        let touched = segment.entry_at(0) + field::TOUCHED;
        assert!(monotonic_ms() > STALE_AFTER_MS, "the machine runs longer than a minute");
        segment.word(touched).store(0, SeqCst);
        let new = segment.health_entry(&identity(2), NOW_MS).expect("it has passed on");
        assert_eq!(segment.health_of(old), None);
        assert!(segment.change_health(old, |_| Health::marked(false, 1)).is_none());
        assert!(segment.health_of(new).expect("ours").is_healthy);
        assert_eq!(segment.health_rows()[0].identity, identity(2));
    }

    #[test]
    fn test_a_hundred_thousand_addresses_find_room() {
        let segment = segment(HEALTH_SLOTS);
        for number in 0..100_000 {
            assert!(segment.health_entry(&identity(number), NOW_MS).is_some(), "{number}");
        }
        assert_eq!(segment.health_rows().len(), 100_000);
    }

    #[test]
    fn test_workers_that_report_at_once_lose_no_report() {
        let segment = segment(64);
        let entry = segment.health_entry(&identity(1), NOW_MS).expect("room");
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    (0..100).for_each(|_| {
                        fail(&segment, entry, 201);
                    });
                });
            }
        });
        assert_eq!(segment.health_of(entry).expect("ours").counts, [0, 200, 0, 0]);
    }

    #[test]
    fn test_the_lease_has_one_holder_and_passes_on_in_silence() {
        let segment = segment(1);
        assert!(segment.hold_lease(1) && segment.hold_lease(1));
        assert!(!segment.hold_lease(2));
        segment.leave_lease(2);
        assert!(!segment.hold_lease(2), "only its holder can leave it");
        segment.leave_lease(1);
        assert!(segment.hold_lease(2));
        let silent = monotonic_ms() - LEASE_MS - 1;
        segment.word(header::LEASE).store(silent << 16 | 2, SeqCst);
        assert!(segment.hold_lease(1) && !segment.hold_lease(2));
    }
}
