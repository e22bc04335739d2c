// SPDX-License-Identifier: Apache-2.0
//! Which addresses has this name? The hosts file, then name servers; answers serve for their TTL, and while they are refreshed.
//!
//! [`Resolver::look_up`] waits only while nothing is known of a name. What is known is kept by [`entry`], bounded by [`cache`];
//! [`resolve`] says how a name becomes addresses, [`query`] how one question is asked.

mod cache;
mod entry;
mod files;
mod hosts;
mod name;
mod query;
mod reports;
mod resolv_conf;
mod resolve;

use crate::config::DnsSettings;
use crate::fault::{Fault, FaultKind};
use crate::observe::Level;
use cache::Cache;
use entry::{Entry, Known, Missed, Standing};
use files::Files;
use query::{Client, Patience, Type};
use reports::{Reports, Why};
use resolve::{Failure, LookUp, Tried, Turn};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

/// Longest TTL that is believed (RFC 8767 §4).
const LONGEST_TTL_S: u32 = 7 * 24 * 3600;
/// Names that are looked up at once because requests wait, and because nobody does. Apart, so that a flood of new names does
/// not keep the known ones from being refreshed.
const ASKED_AT_ONCE: usize = 256;
const REFRESHED_AT_ONCE: usize = 128;
/// Names that requests may wait for.
const MOST_AWAITED: usize = 2048;
/// How often a name may be reported, and is at least while it is in use.
const REPORT_PAUSE: Duration = Duration::from_millis(100);
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// For how long a name that is wanted ahead of requests is kept: such names are asked for once a second.
const KEEP: Duration = Duration::from_secs(30);
/// For how long an answer serves at most that lacks what could not be had.
const INCOMPLETE_TTL: Duration = Duration::from_secs(1);
/// How old the answer of a name without a TTL may be for those who do not wait.
const ONCE_AGE: Duration = Duration::from_secs(30);

/// Where the records of an answer come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The host is an address.
    Address,
    /// The hosts file.
    Hosts,
    /// A records.
    A,
    /// AAAA records.
    Aaaa,
    /// SRV records, and the addresses of the hosts they name.
    Srv,
}

impl Kind {
    /// As logs and reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Address => "address",
            Kind::Hosts => "hosts",
            Kind::A => "A",
            Kind::Aaaa => "AAAA",
            Kind::Srv => "SRV",
        }
    }
}

/// One address of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where.
    pub address: IpAddr,
    /// SRV: the port, which goes before any other.
    pub port: Option<u16>,
    /// SRV: the share of this address, at least 1.
    pub weight: Option<u32>,
    /// SRV: the host that was named.
    pub name: Option<Arc<str>>,
}

impl Record {
    /// An address, and nothing more.
    pub fn at(address: IpAddr) -> Self {
        Record { address, port: None, weight: None, name: None }
    }
}

/// What is known of a name. The same `Arc` as long as nothing of it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Where the records come from.
    pub kind: Kind,
    /// At least one, at most 256; of SRV those of the top priority alone.
    pub records: Box<[Record]>,
    /// The TTL was 0: good for the request it was asked for, and for no other.
    pub is_once: bool,
    /// Whose turn it is.
    pub turns: Turns,
}

impl Answer {
    /// Records that may serve more than once; at least one.
    pub fn new(kind: Kind, records: Box<[Record]>) -> Self {
        Answer { kind, records, is_once: false, turns: Turns::default() }
    }

    fn of(address: IpAddr, kind: Kind) -> Arc<Self> {
        Arc::new(Answer::new(kind, [Record::at(address)].into()))
    }
}

/// Counts whose turn it is; answers do not differ by it.
#[derive(Debug, Default)]
pub struct Turns(AtomicU64);

impl Turns {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl Clone for Turns {
    fn clone(&self) -> Self {
        Turns(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}

impl PartialEq for Turns {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Turns {}

/// Where an address came from, and how good it was when it was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DnsFacts {
    /// How it stood.
    pub state: DnsState,
    /// Time since it was found; `None` where nobody was asked.
    pub age: Option<Duration>,
    /// How long it was good for when it was found.
    pub ttl: Option<Duration>,
    /// Who said so.
    pub server: Option<SocketAddr>,
}

/// How an answer stood when it was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsState {
    /// Within its TTL.
    Fresh,
    /// Past its TTL; it served while it was refreshed, or while nobody could be asked.
    Stale,
    /// Its TTL is 0: asked for this request.
    Once,
    /// The host is an address.
    Literal,
    /// The hosts file has it.
    Hosts,
}

impl DnsState {
    /// As records have it.
    pub fn name(self) -> &'static str {
        match self {
            DnsState::Fresh => "fresh",
            DnsState::Stale => "stale",
            DnsState::Once => "once",
            DnsState::Literal => "literal",
            DnsState::Hosts => "hosts",
        }
    }
}

impl DnsFacts {
    /// Nobody was asked.
    pub const fn of(state: DnsState) -> Self {
        DnsFacts { state, age: None, ttl: None, server: None }
    }
}

/// Told of every change, a JSON object each time; `false`: it could not be taken, and is told again.
pub type Sink = Box<dyn Fn(&[u8]) -> bool>;
/// Told what is worth a line of `error.log`.
pub type Log = Box<dyn Fn(Level, &str)>;

/// Looks names up, for one worker.
pub struct Resolver {
    state: Rc<State>,
}

struct State {
    servers: Vec<SocketAddr>,
    order: Vec<Turn>,
    srv_of_services_only: bool,
    valid_ttl: Option<Duration>,
    stale_ttl: Duration,
    not_found_ttl: Duration,
    error_ttl: Duration,
    no_sync: bool,
    files: Files,
    localhost: Arc<Answer>,
    client: Client,
    entries: RefCell<Cache<Entry>>,
    flights: RefCell<HashMap<Rc<str>, Rc<Flight>>>,
    awaited: Cell<usize>,
    asking: Semaphore,
    refreshing: Semaphore,
    generation: Cell<u64>,
    sink: OnceCell<Sink>,
    log: OnceCell<Log>,
    hosts_reported: RefCell<HashMap<Rc<str>, Instant>>,
    reports: RefCell<Reports>,
    is_reporting: Cell<bool>,
}

type Outcome = Result<Arc<Answer>, Rc<Failure>>;

/// A look-up under way, and those who wait for it.
#[derive(Default)]
struct Flight {
    outcome: OnceCell<Outcome>,
    landed: Notify,
}

impl Flight {
    async fn wait(&self) -> Outcome {
        loop {
            let landed = self.landed.notified();
            if let Some(outcome) = self.outcome.get() {
                return outcome.clone();
            }
            landed.await;
        }
    }
}

/// Counts a look-up that a request waits for, however it ends.
struct Awaited(Rc<State>);

impl Awaited {
    /// `None`: requests wait for too many names already.
    fn begin(state: &Rc<State>) -> Option<Self> {
        let awaited = state.awaited.get();
        (awaited < MOST_AWAITED).then(|| {
            state.awaited.set(awaited + 1);
            Awaited(Rc::clone(state))
        })
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.awaited.set(self.0.awaited.get() - 1);
    }
}

/// Lands a flight, however it ends.
struct Landing {
    state: Rc<State>,
    name: Rc<str>,
    flight: Rc<Flight>,
    _awaited: Option<Awaited>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.state.flights.borrow_mut().remove(&self.name);
        // One that was cut off, or that panicked.
        let _ = self.flight.outcome.set(Err(Rc::new(Failure::of("the look-up was given up"))));
        self.flight.landed.notify_waiters();
    }
}

impl Failure {
    fn of(text: &str) -> Self {
        Failure { is_not_found: false, is_gone: false, text: text.to_owned(), tried: Vec::new() }
    }

    /// What the request is told; `before` is how it came to be known.
    fn fault(&self, name: &str, before: &str) -> Fault {
        let mut tried = vec![format!("\"(short){name}:(na) - cache-miss\"")];
        tried.extend(self.tried.iter().map(|one| format!("\"{}\"", one.text(before))));
        let phrase = format!("DNS resolution failed: {}. Tried: [{}]", self.text, tried.join(","));
        let kind = if self.is_not_found { FaultKind::NameNotFound } else { FaultKind::ResolverFailed };
        Fault::with_phrase(kind, format!("{name}: {}", self.text), phrase)
    }
}

impl Tried {
    fn text(&self, before: &str) -> String {
        format!("{}:{} - {before}{}", self.name, self.kind, self.outcome)
    }
}

/// What comes of a question at once.
enum Step {
    Done(Result<Arc<Answer>, Fault>),
    /// Nothing is known, or nothing that may serve now; the newest failure, if that is what is known.
    Unknown {
        old: Option<Rc<Failure>>,
    },
}

/// How a failure that is remembered is told.
const REMEMBERED: &str = "cache-hit/";

impl Resolver {
    /// A resolver that knows nothing yet.
    pub fn new(settings: &DnsSettings) -> Self {
        let order: Vec<Turn> = settings.order.iter().filter_map(|text| Turn::parse(text)).collect();
        let place = |kind: Type| order.iter().position(|turn| *turn == Turn::Of(kind)).unwrap_or(usize::MAX);
        let prefers_ipv6 = place(Type::Aaaa) < place(Type::A);
        Resolver {
            state: Rc::new(State {
                servers: settings.servers.iter().filter_map(|text| resolv_conf::parse_server(text)).collect(),
                srv_of_services_only: settings.srv_of_services_only,
                valid_ttl: settings.valid_ttl_ms.map(Duration::from_millis),
                stale_ttl: Duration::from_millis(settings.stale_ttl_ms),
                not_found_ttl: Duration::from_millis(settings.not_found_ttl_ms),
                error_ttl: Duration::from_millis(settings.error_ttl_ms),
                no_sync: settings.no_sync,
                files: Files::new(&settings.hosts_file, &settings.resolv_conf, prefers_ipv6),
                localhost: Answer::of(IpAddr::V4(Ipv4Addr::LOCALHOST), Kind::Hosts),
                client: Client::default(),
                entries: RefCell::new(Cache::new(settings.cache_size)),
                flights: RefCell::default(),
                awaited: Cell::new(0),
                asking: Semaphore::new(ASKED_AT_ONCE),
                refreshing: Semaphore::new(REFRESHED_AT_ONCE),
                generation: Cell::new(0),
                sink: OnceCell::new(),
                log: OnceCell::new(),
                hosts_reported: RefCell::default(),
                reports: RefCell::default(),
                is_reporting: Cell::new(false),
                order,
            }),
        }
    }

    /// Who is told of changes. The first call counts.
    pub fn set_sink(&self, sink: Sink) {
        let _ = self.state.sink.set(sink);
    }

    /// Who writes `error.log`. The first call counts.
    pub fn set_log(&self, log: Log) {
        let _ = self.state.log.set(log);
    }

    /// What is known of a host; waits only as long as nothing is. To be called within a `LocalSet`.
    ///
    /// # Errors
    /// `NameNotFound` (no such name, or no address), `ResolverFailed`.
    ///
    /// # Cancel safety
    /// The look-up goes on for others, and its answer is remembered.
    pub async fn look_up(&self, host: &str) -> Result<Arc<Answer>, Fault> {
        let state = &self.state;
        let name = name::normalise(host);
        if let Step::Done(outcome) = state.at_once(&name, false) {
            return outcome;
        }
        let outcome = if state.no_sync {
            match Awaited::begin(state) {
                Some(_awaited) => state.run(&name, false).await,
                None => state.crowded(&name),
            }
        } else {
            match state.begin(&name, false) {
                Some(flight) => flight.wait().await,
                None => state.crowded(&name),
            }
        };
        outcome.map_err(|failure| failure.fault(&name, ""))
    }

    /// What is known of a host, without waiting; begins what must be looked up. `None`: nothing is known yet. What is asked for in
    /// this way again and again is not forgotten, however many names there are.
    pub fn known(&self, host: &str) -> Option<Result<Arc<Answer>, Fault>> {
        let name = name::normalise(host);
        match self.state.at_once(&name, true) {
            Step::Done(outcome) => Some(outcome),
            Step::Unknown { old } => {
                self.state.begin(&name, true);
                old.map(|failure| Err(failure.fault(&name, REMEMBERED)))
            }
        }
    }

    /// Grows whenever an answer came, changed or was lost.
    pub fn generation(&self) -> u64 {
        self.state.freshen();
        self.state.generation.get()
    }

    /// The record whose turn it is, by weight.
    pub fn turn<'a>(&self, answer: &'a Answer) -> &'a Record {
        if let [only] = &*answer.records {
            return only;
        }
        let turn = answer.turns.next();
        if answer.kind != Kind::Srv {
            return &answer.records[turn as usize % answer.records.len()];
        }
        // Spread by the golden ratio: neighbours in time are far apart in weight.
        let weight = |record: &Record| u128::from(record.weight.unwrap_or(1).max(1));
        let total: u128 = answer.records.iter().map(weight).sum();
        let point = (u128::from(turn.wrapping_mul(0x9E37_79B9_7F4A_7C15)) * total) >> 64;
        let mut upto = 0;
        let chosen = answer.records.iter().find(|record| {
            upto += weight(record);
            point < upto
        });
        chosen.unwrap_or(&answer.records[0])
    }

    /// Is the host an address, of which nothing need be asked?
    pub fn is_address(&self, host: &str) -> bool {
        is_address(host).is_some()
    }

    /// Control may know nothing any more: all names in use are told of again, one after the other.
    pub fn report_all(&self) {
        let state = &self.state;
        {
            let (entries, hosts) = (state.entries.borrow(), state.hosts_reported.borrow());
            let of_entries = entries.iter().filter(|(_, entry)| entry.reported.is_some()).map(|(name, _)| name);
            let mut reports = state.reports.borrow_mut();
            of_entries.chain(hosts.keys()).for_each(|name| reports.add(name, Why::Renewed));
        }
        state.begin_reporting();
    }

    /// How what is known of a host stands for who uses it now; `None`: nothing is known any more.
    pub fn facts(&self, host: &str, now: std::time::Instant) -> Option<DnsFacts> {
        let name = name::normalise(host);
        if let Some(facts) = self.state.entries.borrow().get(&name).and_then(|entry| entry.facts(now.into())) {
            return Some(facts);
        }
        if is_address(&name).is_some() {
            return Some(DnsFacts::of(DnsState::Literal));
        }
        let bare = name::bare(&name);
        let is_local = self.state.files.hosts().get(bare).is_some() || is_below(bare, "localhost");
        is_local.then_some(DnsFacts::of(DnsState::Hosts))
    }

    /// What is known of a host, in words: `kind=A age_ms=12 …`.
    pub fn describe(&self, host: &str) -> String {
        let name = name::normalise(host);
        if is_address(&name).is_some() {
            return "kind=address".to_owned();
        }
        if self.state.files.hosts().get(name::bare(&name)).is_some() {
            return "kind=hosts".to_owned();
        }
        self.state.entries.borrow().get(&name).map_or_else(|| "kind=none".to_owned(), |entry| entry.describe(Instant::now()))
    }
}

const CROWD: &str = "too many names are being looked up";

/// The address that a host is, in brackets or not.
pub fn is_address(name: &str) -> Option<IpAddr> {
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    bare.parse().ok()
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

impl State {
    /// Reads the files again that have changed.
    fn freshen(&self) {
        if self.files.freshen() {
            self.generation.set(self.generation.get() + 1);
            self.hosts_reported.borrow_mut().clear();
        }
    }

    /// Answers from what is known; begins a refresh when it is stale. `is_patient`: nobody waits for it.
    fn at_once(self: &Rc<Self>, name: &str, is_patient: bool) -> Step {
        if let Some(address) = is_address(name) {
            return Step::Done(Ok(Answer::of(address, Kind::Address)));
        }
        self.freshen();
        let bare = name::bare(name);
        if let Some(answer) = self.files.hosts().get(bare) {
            self.report_hosts(bare);
            return Step::Done(Ok(Arc::clone(answer)));
        }
        let now = Instant::now();
        let (standing, why) = match self.entries.borrow().get(name) {
            Some(entry) => {
                let is_old = entry.reported.is_some_and(|at| now.duration_since(at) >= REPORT_EVERY);
                let standing = entry.standing(now);
                let is_news = matches!(standing, Standing::Stale { .. }) && !entry.is_stale_told;
                (standing, if is_news { Some(Why::Changed) } else { is_old.then_some(Why::Renewed) })
            }
            None => (Standing::Lapsed(None), None),
        };
        if let Some(why) = why {
            self.report(name, why);
        }
        if is_patient {
            self.keep(name, now + KEEP);
        }
        match standing {
            Standing::Fresh(answer) => Step::Done(Ok(answer)),
            Standing::Stale { answer, may_ask } => {
                if may_ask {
                    self.begin(name, true);
                }
                Step::Done(Ok(answer))
            }
            Standing::Once { answer, age } if is_patient => {
                if age >= ONCE_AGE {
                    self.begin(name, true);
                }
                Step::Done(Ok(answer))
            }
            Standing::Once { .. } => Step::Unknown { old: None },
            Standing::Failed(failure) => Step::Done(Err(failure.fault(name, REMEMBERED))),
            Standing::Lapsed(Some(failure)) => Step::Unknown { old: Some(failure) },
            Standing::Lapsed(None) => self.unasked(name),
        }
    }

    /// What is answered without asking anybody.
    fn unasked(&self, name: &str) -> Step {
        let bare = name::bare(name);
        if is_below(bare, "localhost") {
            return Step::Done(Ok(Arc::clone(&self.localhost)));
        }
        if let Some(flaw) = name::flaw(name) {
            let failure = Failure { is_not_found: true, ..Failure::of(&format!("dns client error: invalid name: {flaw}")) };
            return Step::Done(Err(failure.fault(&name.escape_debug().to_string(), "")));
        }
        // RFC 6761 §6.4: names under `invalid.` do not exist, and nobody need be asked.
        if is_below(bare, "invalid") {
            let text = "dns server error: 3 name error";
            let types = resolve::types_of(&self.order, None, bare, self.srv_of_services_only);
            let tried = types.iter().map(|kind| Tried { name: bare.to_owned(), kind: kind.number(), outcome: text.to_owned() }).collect();
            return Step::Done(Err(Failure { is_not_found: true, is_gone: true, text: text.to_owned(), tried }.fault(name, "")));
        }
        Step::Unknown { old: None }
    }

    /// A name is wanted ahead of requests.
    fn keep(&self, name: &str, until: Instant) {
        if self.entries.borrow().keep(name, until) || name::flaw(name).is_some() {
            return;
        }
        let name: Rc<str> = Rc::from(name);
        let gone = self.entries.borrow_mut().insert(Rc::clone(&name), Entry::default());
        self.entries.borrow().keep(&name, until);
        self.forget(gone);
    }

    /// There is no room to look up one more name.
    fn crowded(&self, name: &str) -> Outcome {
        let entries = self.entries.borrow();
        entries.get(name).and_then(|entry| entry.serving(Instant::now())).ok_or_else(|| Rc::new(Failure::of(CROWD)))
    }

    /// Joins the look-up of a name, or begins one. `None`: requests wait for too many names already.
    fn begin(self: &Rc<Self>, name: &str, is_background: bool) -> Option<Rc<Flight>> {
        if let Some(flight) = self.flights.borrow().get(name) {
            return Some(Rc::clone(flight));
        }
        let awaited = if is_background { None } else { Some(Awaited::begin(self)?) };
        let name: Rc<str> = Rc::from(name);
        let flight = Rc::new(Flight::default());
        self.flights.borrow_mut().insert(Rc::clone(&name), Rc::clone(&flight));
        let landing = Landing { state: Rc::clone(self), name, flight: Rc::clone(&flight), _awaited: awaited };
        tokio::task::spawn_local(async move {
            let outcome = landing.state.run(&landing.name, is_background).await;
            let _ = landing.flight.outcome.set(outcome);
        });
        Some(flight)
    }

    /// Looks a name up, and remembers what came of it.
    async fn run(self: &Rc<Self>, name: &str, is_background: bool) -> Outcome {
        let begun = Instant::now();
        let conf = self.files.resolv_conf();
        let servers = if self.servers.is_empty() { &conf.servers } else { &self.servers };
        let tries = conf.tries_of(servers.len());
        let timeout = conf.timeout();
        let deadline = begun + timeout.saturating_mul(u32::try_from(tries).unwrap_or(u32::MAX));
        let patience = Patience { timeout, tries, deadline, rotates: conf.rotates };
        let slots = if is_background { &self.refreshing } else { &self.asking };
        let Ok(Ok(_slot)) = tokio::time::timeout_at(deadline, slots.acquire()).await else {
            // Of a name that is known nothing changes by it.
            return match self.crowded(name) {
                Err(_) => self.remember(name, Err(Failure::of(CROWD)), None, begun),
                answer => answer,
            };
        };
        let look_up = LookUp::new(&self.client, servers, self.files.hosts(), &self.order, patience);
        let names = name::candidates(name, &conf.search, conf.ndots);
        let last = self.entries.borrow().get(name).and_then(|entry| entry.last);
        let types = resolve::types_of(&self.order, last, name, self.srv_of_services_only);
        let outcome = look_up.run(&names, &types).await;
        self.remember(name, outcome, look_up.server(), begun)
    }

    fn remember(
        self: &Rc<Self>,
        name: &str,
        outcome: Result<resolve::Found, Failure>,
        server: Option<SocketAddr>,
        begun: Instant,
    ) -> Outcome {
        let (now, now_ms) = (Instant::now(), crate::clock::now_ms());
        let mut entries = self.entries.borrow_mut();
        let mut gone = Vec::new();
        if entries.get_mut(name).is_none() {
            gone = entries.insert(Rc::from(name), Entry::default());
        }
        let Some(entry) = entries.get_mut(name) else { return Err(Rc::new(Failure::of("nothing can be remembered"))) };
        entry.took = now.duration_since(begun);
        let before = entry.known.as_ref().map(|known| Arc::clone(&known.answer));
        let serving = entry.serving(now);
        let generation = self.generation.get();
        let line;
        let mut is_change = false;
        let outcome = match outcome.and_then(|found| found.instead_of(serving.as_deref())) {
            Ok(found) => {
                let ttl = self.valid_ttl.unwrap_or(Duration::from_secs(u64::from(found.ttl_s.min(LONGEST_TTL_S))));
                let ttl = if found.is_whole { ttl } else { ttl.min(INCOMPLETE_TTL) };
                let answer = Answer { is_once: ttl.is_zero(), ..Answer::new(found.kind, found.records.into()) };
                let answer = before.as_ref().filter(|before| ***before == answer).cloned().unwrap_or_else(|| Arc::new(answer));
                let expires = now + ttl;
                entry.known = Some(Known {
                    answer: Arc::clone(&answer),
                    ttl,
                    found: now,
                    found_ms: now_ms,
                    expires,
                    stale_until: expires + self.stale_ttl,
                    server,
                });
                if found.broken.is_empty() {
                    entry.last = Some(found.asked);
                }
                is_change |= entry.is_stale_told;
                entry.is_stale_told = false;
                let had_failed = entry.missed.take().is_some();
                // What a name without a TTL has is nobody's but the request's that asked.
                let is_same = |before: Arc<Answer>| Arc::ptr_eq(&before, &answer) || before.is_once && answer.is_once;
                if had_failed || !before.is_some_and(is_same) {
                    self.generation.set(self.generation.get() + 1);
                }
                line = Some((Level::Debug, format!("name.found name={name} addresses={} {}", addresses_of(&answer), entry.describe(now))));
                Ok(answer)
            }
            Err(failure) => {
                let ttl = if failure.is_not_found { self.not_found_ttl } else { self.error_ttl };
                let failure = Rc::new(failure);
                // That a name is gone is the truth, but for Kong's new client; that nobody says is no reason to forget, nor is it that
                // a name that exists has no record for now.
                let is_lost = failure.is_gone && !self.srv_of_services_only || serving.is_none();
                if is_lost {
                    entry.known = None;
                }
                if is_lost && (before.is_some() || entry.missed.is_none()) {
                    self.generation.set(self.generation.get() + 1);
                }
                let word = match (before.is_some(), is_lost) {
                    (true, true) => Some("lost"),
                    (true, false) if entry.missed.is_none() => Some("stale"),
                    _ => None,
                };
                line = word.map(|word| (Level::Warn, format!("name.{word} name={name} why={:?}", failure.text)));
                is_change |= entry.missed.is_none();
                entry.missed = Some(Missed { failure: Rc::clone(&failure), since_ms: now_ms, until: now + ttl, ttl });
                serving.filter(|_| !is_lost).ok_or(failure)
            }
        };
        drop(entries);
        is_change |= generation != self.generation.get();
        if let (Some((level, text)), Some(log)) = (line, self.log.get()) {
            log(level, &text);
        }
        self.forget(gone);
        self.report(name, if is_change { Why::Changed } else { Why::Renewed });
        outcome
    }

    /// Control is told that names are no longer remembered; those who hold their answers keep them.
    fn forget(&self, gone: Vec<(Rc<str>, Entry)>) {
        let mut reports = self.reports.borrow_mut();
        for (name, entry) in gone {
            if entry.reported.is_some() {
                reports.add(&name, Why::Forgotten);
            }
        }
    }

    /// What is known of a name is to be reported, as soon as it may be.
    fn report(self: &Rc<Self>, name: &str, why: Why) {
        if self.sink.get().is_some() {
            self.reports.borrow_mut().add(&Rc::from(name), why);
            self.begin_reporting();
        }
    }

    fn report_hosts(self: &Rc<Self>, name: &str) {
        if self.sink.get().is_none() {
            return;
        }
        let now = Instant::now();
        let mut reported = self.hosts_reported.borrow_mut();
        if reported.get(name).is_some_and(|at| now.duration_since(*at) < REPORT_EVERY) {
            return;
        }
        reported.insert(name.into(), now);
        drop(reported);
        self.report(name, Why::Changed);
    }

    /// Reports what is due, until nothing is.
    fn begin_reporting(self: &Rc<Self>) {
        if self.is_reporting.get() || self.reports.borrow().is_empty() {
            return;
        }
        self.is_reporting.set(true);
        let state = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            let mut tick = tokio::time::interval(reports::TICK);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let Some(state) = state.upgrade() else { return };
                state.report_some();
                if state.reports.borrow().is_empty() {
                    state.is_reporting.set(false);
                    return;
                }
            }
        });
    }

    fn report_some(&self) {
        let Some(sink) = self.sink.get() else { return };
        let now = Instant::now();
        // Those that are put off are not come to twice.
        let mut later = Vec::new();
        for _ in 0..reports::REPORTS_PER_TICK {
            let Some((name, why)) = self.reports.borrow_mut().take() else { break };
            let report = match self.report_of(&name, why, now) {
                Ok(Some(report)) => report,
                Ok(None) => continue,
                Err(()) => {
                    later.push((name, why));
                    continue;
                }
            };
            if !sink(report.to_string().as_bytes()) {
                later.push((name, why));
                break;
            }
            if let Some(entry) = self.entries.borrow_mut().get_mut(&name) {
                entry.reported = Some(now);
                entry.is_stale_told = matches!(entry.standing(now), Standing::Stale { .. });
            }
        }
        let mut reports = self.reports.borrow_mut();
        for (name, why) in later {
            reports.add(&name, why);
        }
    }

    /// `None`: there is nothing to say.
    ///
    /// # Errors
    /// It is too early.
    fn report_of(&self, name: &str, why: Why, now: Instant) -> Result<Option<serde_json::Value>, ()> {
        let now_ms = crate::clock::now_ms();
        if let Some(answer) = self.files.hosts().get(name) {
            return Ok(Some(entry::hosts_report(name, answer, now_ms)));
        }
        let mut entries = self.entries.borrow_mut();
        match entries.get_mut(name) {
            Some(entry) if entry.reported.is_some_and(|at| now.duration_since(at) < REPORT_PAUSE) => Err(()),
            Some(entry) if entry.known.is_some() || entry.missed.is_some() => Ok(Some(entry.report(name, now, now_ms))),
            None if why == Why::Forgotten => Ok(Some(Entry::default().report(name, now, now_ms))),
            _ => Ok(None),
        }
    }
}

fn addresses_of(answer: &Answer) -> String {
    let texts: Vec<String> = answer
        .records
        .iter()
        .take(8)
        .map(|record| match record.port {
            Some(port) => SocketAddr::new(record.address, port).to_string(),
            None => record.address.to_string(),
        })
        .collect();
    texts.join(",")
}

#[cfg(test)]
mod tests;
