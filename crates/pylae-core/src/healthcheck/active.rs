// SPDX-License-Identifier: Apache-2.0
//! Do the Targets answer when nobody asks them? Probes, beside the walk of requests; one worker makes them for the node.
//!
//! Every worker runs [`run`], who holds the lease probes. A round is the probes of one Upstream's healthy or unhealthy Targets;
//! it begins at its interval, unless the one before still runs. No more than `concurrency` probes of an Upstream run at once,
//! nor more than [`IN_FLIGHT`] of all.

use super::{Observer, Outcome, Place, Probe, Turned};
use crate::balancer::{Address, mix};
use crate::fault::{Fault, FaultKind};
use crate::gateway::Gateway;
use crate::observe::Level;
use crate::snapshot::hash::ConfigSet;
use crate::snapshot::model::CheckType;
use crate::snapshot::{CompiledUpstream, Id};
use crate::upstream::handshake::Evidence;
use crate::upstream::tls::UpstreamTls;
use crate::upstream::{PoolKey, UpstreamConnection, connect};
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How often it is looked what is due.
const TICK: Duration = Duration::from_millis(100);
/// Within this time of the first look every Upstream has had its first round.
const SPREAD: Duration = Duration::from_millis(500);
/// Probes at once, of all Upstreams.
const IN_FLIGHT: usize = 256;
/// Longest status line that is read.
const STATUS_LINE_BYTES: usize = 8 * 1024;
/// Ticks in which every address is touched once.
const TICKS_PER_TOUCH: usize = 100;

/// `target.unhealthy upstream=… address=… why=…`
pub fn turned_text(upstream: &str, place: &Place, health: &super::Health) -> String {
    let word = if health.is_healthy { "healthy" } else { "unhealthy" };
    format!("target.{word} upstream={upstream} target={} address={} why={:?}", place.target(), place.address(), health.why.name())
}

/// The probes of an Upstream's healthy, or of its unhealthy, Targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RoundKey {
    upstream: Id,
    of_healthy: bool,
}

struct Round {
    upstream: Arc<CompiledUpstream>,
    due: Instant,
    is_running: Rc<Cell<bool>>,
}

/// When which round is due.
#[derive(Default)]
struct Schedule {
    watched: Option<Arc<[Arc<CompiledUpstream>]>>,
    rounds: BTreeMap<RoundKey, Round>,
    queue: BinaryHeap<Reverse<(Instant, RoundKey)>>,
}

impl Schedule {
    /// Takes in what is watched now; rounds that were known keep their time, and a shorter interval begins at once. Of many Upstreams
    /// only those are looked at that changed: an Upstream is the same one as long as it does not.
    fn adopt(&mut self, watched: &Arc<[Arc<CompiledUpstream>]>, now: Instant) {
        let before = self.watched.replace(Arc::clone(watched));
        let (mut old, mut new) = (before.as_deref().unwrap_or_default(), &watched[..]);
        if std::ptr::eq(old, new) {
            return;
        }
        // Nearly always one came, went or changed, and the others stand where they stood.
        while let ([first, rest @ ..], [other, others @ ..]) = (old, new)
            && Arc::ptr_eq(first, other)
        {
            (old, new) = (rest, others);
        }
        while let ([rest @ .., last], [others @ .., other]) = (old, new)
            && Arc::ptr_eq(last, other)
        {
            (old, new) = (rest, others);
        }
        let pointers = |all: &[Arc<CompiledUpstream>]| all.iter().map(Arc::as_ptr).collect::<ConfigSet<_>>();
        let (old_pointers, new_pointers) = (pointers(old), pointers(new));
        let mut gone: ConfigSet<Id> =
            old.iter().filter(|upstream| !new_pointers.contains(&Arc::as_ptr(upstream))).map(|upstream| upstream.upstream.id).collect();
        for upstream in new.iter().filter(|upstream| !old_pointers.contains(&Arc::as_ptr(upstream))) {
            gone.remove(&upstream.upstream.id);
            self.put(upstream, now);
        }
        for upstream in gone {
            for of_healthy in [true, false] {
                self.rounds.remove(&RoundKey { upstream, of_healthy });
            }
        }
    }

    /// The rounds of an Upstream that came or changed.
    fn put(&mut self, upstream: &Arc<CompiledUpstream>, now: Instant) {
        for of_healthy in [true, false] {
            let key = RoundKey { upstream: upstream.upstream.id, of_healthy };
            let known = self.rounds.remove(&key);
            let every =
                upstream.rules.probe.as_ref().and_then(|probe| if of_healthy { probe.healthy_every } else { probe.unhealthy_every });
            let Some(every) = every else { continue };
            let seed = u64::from_be_bytes(key.upstream.0.first_chunk().copied().unwrap_or_default());
            let first = now + every.min(SPREAD).mul_f64((mix(seed) >> 32) as f64 / f64::from(u32::MAX));
            let round = match known {
                Some(round) => Round { upstream: upstream.clone(), due: round.due.min(now + every), is_running: round.is_running },
                None => Round { upstream: upstream.clone(), due: first, is_running: Rc::default() },
            };
            self.queue.push(Reverse((round.due, key)));
            self.rounds.insert(key, round);
        }
    }

    /// The next round that is due and whose predecessor is over.
    fn next_due(&mut self, now: Instant) -> Option<(Arc<CompiledUpstream>, bool, Rc<Cell<bool>>)> {
        while let Some(&Reverse((due, key))) = self.queue.peek() {
            if due > now {
                return None;
            }
            self.queue.pop();
            // One that is gone, or has another time by now, is in the queue still.
            let Some(round) = self.rounds.get_mut(&key).filter(|round| round.due == due) else { continue };
            let every = round.upstream.rules.probe.as_ref().and_then(|p| if key.of_healthy { p.healthy_every } else { p.unhealthy_every });
            let Some(every) = every else { continue };
            // From its time on, not from now, unless so late that rounds would follow one another without a pause.
            round.due = (due + every).max(now);
            self.queue.push(Reverse((round.due, key)));
            if !round.is_running.replace(true) {
                return Some((round.upstream.clone(), key.of_healthy, Rc::clone(&round.is_running)));
            }
        }
        None
    }
}

/// Probes for the node whenever it is our turn, until the worker drains.
pub async fn run(gateway: Rc<Gateway>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut schedule = Schedule::default();
    let slots = Rc::new(Semaphore::new(IN_FLIGHT));
    let (mut touched, mut homeless, mut is_prober) = (0, 0, false);
    loop {
        tick.tick().await;
        if gateway.drain.is_begun() {
            gateway.watch.leave_lease();
            return;
        }
        let watched = Arc::clone(gateway.snapshot.load().watched());
        touched = touch_some(&gateway, &watched, touched);
        if gateway.watch.homeless() > homeless && homeless == 0 {
            homeless = gateway.watch.homeless();
            let text = "there is no room for the health of more Targets: of those left over each worker knows what it met itself";
            gateway.logs.log(Level::Warn, text);
        }
        if !gateway.watch.holds_lease() {
            schedule = Schedule::default();
            is_prober = false;
            continue;
        }
        let now = Instant::now();
        schedule.adopt(&watched, now);
        if !is_prober && !schedule.rounds.is_empty() {
            is_prober = true;
            gateway.logs.log(Level::Notice, "this worker probes the Targets for the node");
        }
        while let Some((upstream, of_healthy, is_running)) = schedule.next_due(now) {
            tokio::task::spawn_local(round(Rc::clone(&gateway), upstream, of_healthy, Rc::clone(&slots), is_running));
        }
    }
}

/// Says of a part of the addresses that they are used; answers where the next part begins.
fn touch_some(gateway: &Gateway, watched: &[Arc<CompiledUpstream>], from: usize) -> usize {
    if from >= watched.len() {
        return 0;
    }
    let end = (from + watched.len().div_ceil(TICKS_PER_TOUCH)).min(watched.len());
    for upstream in &watched[from..end] {
        let roster = upstream.balancer.roster();
        roster.addresses().for_each(|address| gateway.watch.touch(&address.place));
        // Of those that are no addresses of the roster a mark, or what requests met, is kept all the same.
        for peer in roster.asked_each_time().map(|(peer, _)| peer).chain(upstream.balancer.idle()) {
            match peer.address {
                Some(address) => gateway.watch.touch_so_far(&peer.place(address, None)),
                None => {
                    if let Some(Ok(answer)) = gateway.resolver.known(&peer.host) {
                        answer.records.iter().for_each(|record| gateway.watch.touch_so_far(&peer.place(record.address, record.port)));
                    }
                }
            }
        }
    }
    end
}

/// Ends a round, however it ends.
struct Ending(Rc<Cell<bool>>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

async fn round(gateway: Rc<Gateway>, upstream: Arc<CompiledUpstream>, of_healthy: bool, slots: Rc<Semaphore>, is_running: Rc<Cell<bool>>) {
    let _ending = Ending(is_running);
    let Some(probe) = &upstream.rules.probe else { return };
    let mut queue = VecDeque::new();
    upstream.balancer.refresh(&*gateway.resolver, pylae_shared::monotonic());
    let roster = upstream.balancer.roster();
    let mut wanted = |address: &Arc<Address>| {
        if gateway.watch.health(&address.place).is_healthy == of_healthy {
            queue.push_back(Arc::clone(address));
        }
    };
    roster.addresses().for_each(&mut wanted);
    for (peer, load) in roster.asked_each_time() {
        if let Ok(answer) = gateway.resolver.look_up(&peer.host).await {
            Address::all_of(peer, load, &answer.records).for_each(|address| wanted(&Arc::new(address)));
        }
    }
    let count = probe.concurrency.min(queue.len()).min(IN_FLIGHT);
    let queue = Rc::new(RefCell::new(queue));
    let hands: Vec<_> = (0..count)
        .map(|_| {
            let (gateway, upstream, queue, slots) = (Rc::clone(&gateway), upstream.clone(), Rc::clone(&queue), Rc::clone(&slots));
            tokio::task::spawn_local(async move {
                let next = || queue.borrow_mut().pop_front();
                while let Some(address) = next() {
                    let Ok(_slot) = slots.acquire().await else { return };
                    probe_one(&gateway, &upstream, &address).await;
                }
            })
        })
        .collect();
    for hand in hands {
        // One that panicked has said so; the others go on.
        let _ = hand.await;
    }
}

async fn probe_one(gateway: &Gateway, upstream: &CompiledUpstream, address: &Address) {
    let Some(probe) = &upstream.rules.probe else { return };
    let place = &address.place;
    let by_record = address.name.as_deref().filter(|_| upstream.upstream.use_srv_name == Some(true));
    let begun = Instant::now();
    let (outcome, found) = ask(&gateway.upstream_tls, probe, by_record.unwrap_or(&address.peer.host), place).await;
    let evidence = format!("{found} after {} ms", begun.elapsed().as_millis());
    gateway.watch.note(place, &evidence);
    let name = &upstream.upstream.name;
    if gateway.logs.is_enabled(Level::Debug) {
        gateway.logs.log(Level::Debug, &format!("target.probed upstream={name} address={} found={evidence:?}", place.address()));
    }
    if let Some(Turned { health }) = gateway.watch.report(place, &probe.limits, Observer::Active, outcome, String::new) {
        let level = if health.is_healthy { Level::Notice } else { Level::Warn };
        gateway.logs.log(level, &format!("{} evidence={evidence:?}", turned_text(name, place, &health)));
    }
}

/// One probe: what it came to, and in words.
async fn ask(upstream_tls: &UpstreamTls, probe: &Probe, own_host: &str, place: &Place) -> (Outcome, String) {
    let host = probe.host_header.as_deref().unwrap_or(own_host);
    let is_tls = matches!(probe.kind, CheckType::Https | CheckType::Grpcs);
    let tls = is_tls.then(|| {
        let of_host = || crate::http::head::parse_authority(host.as_bytes()).map_or_else(|| host.to_owned(), |(name, _)| name);
        let name = probe.server_name.clone().unwrap_or_else(|| if probe.host_header.is_some() { of_host() } else { host.to_owned() });
        (name, probe.verify)
    });
    let key = PoolKey { address: place.address(), tls };
    let mut connection = match connect(&key, upstream_tls, probe.timeout, &mut Evidence::default()).await {
        Ok(connection) => connection,
        Err(fault) => return unconnected(&fault),
    };
    if !matches!(probe.kind, CheckType::Http | CheckType::Https) {
        return (Outcome::Connected, "connected".to_owned());
    }
    let mut request = format!("GET {} HTTP/1.0\r\nConnection: close\r\n", probe.path);
    for (name, value) in &probe.headers {
        request.extend([name, ": ", value, "\r\n"]);
    }
    let bracketed = if host.contains(':') && probe.host_header.is_none() { format!("[{host}]") } else { host.to_owned() };
    request.extend(["Host: ", &bracketed, "\r\n\r\n"]);
    match status_line(&mut connection, request.as_bytes(), probe.timeout).await {
        Ok(line) => match status_of(&line) {
            Some(status) => (Outcome::Status(status), format!("GET {}: {status}", probe.path)),
            None => (Outcome::NoStatus, format!("GET {}: no HTTP: {}", probe.path, crate::http::head::printable(&line, 32))),
        },
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => (Outcome::Timeout, format!("GET {}: no answer", probe.path)),
        Err(error) => (Outcome::TcpFailure, format!("GET {}: {}", probe.path, crate::upstream::errno_text(&error))),
    }
}

fn unconnected(fault: &Fault) -> (Outcome, String) {
    match fault.kind {
        FaultKind::ConnectTimeout => (Outcome::Timeout, "no connection".to_owned()),
        _ => (Outcome::TcpFailure, fault.phrase().to_owned()),
    }
}

/// Sends the request and reads the first line of the answer; each step may take `patience`, all of it three times that.
async fn status_line(connection: &mut UpstreamConnection, request: &[u8], patience: Duration) -> std::io::Result<Vec<u8>> {
    let wire = &mut connection.wire;
    let talk = async {
        wire.write_all(request, patience).await?;
        loop {
            let end = wire.buffered().iter().position(|&byte| byte == b'\n');
            if let Some(end) = end.or_else(|| (wire.buffered().len() > STATUS_LINE_BYTES).then_some(STATUS_LINE_BYTES)) {
                return Ok(wire.buffered()[..end].to_vec());
            }
            if wire.fill(patience).await? == 0 {
                return Err(std::io::Error::other("the connection was closed before an answer"));
            }
        }
    };
    tokio::time::timeout(patience.saturating_mul(3), talk).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

/// The status of `HTTP/1.1 200 OK`.
fn status_of(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/")?;
    let mut words = rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.next().filter(|version| version.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.'))?;
    let digits: Vec<u8> = words.next()?.iter().copied().take_while(u8::is_ascii_digit).collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
