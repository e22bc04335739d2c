// SPDX-License-Identifier: Apache-2.0
//! How does a name become addresses? The types in their order, the search domains for each, CNAME and SRV to their targets.

use super::hosts::Hosts;
use super::name;
use super::query::{Client, Data, Item, Patience, Reply, Type, code_text};
use super::{Answer, Kind, Record};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

/// Most records of an answer; which of more are kept does not depend on the order they came in.
pub(super) const MOST_RECORDS: usize = 256;
/// Most CNAME records from one name to the next.
const LONGEST_CHAIN: usize = 8;
/// Most questions of one look-up, those about the targets of SRV records aside.
const MOST_QUESTIONS: usize = 64;
/// Targets of SRV records that are asked for at once.
const TARGETS_AT_ONCE: usize = 32;
/// Most lines about what was tried.
const MOST_TRIED: usize = 64;
/// Largest factor that makes shares of a weight whole, and the largest weight.
const LARGEST_SCALE: u64 = 1 << 24;
const LARGEST_WEIGHT: u64 = u16::MAX as u64;

/// `DNS` error texts that are ours.
pub(super) const EMPTY: &str = "dns client error: 101 empty record received";
const RECURSION: &str = "recursion detected";

/// One step of the order in which types are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The type that succeeded last.
    Last,
    Of(Type),
}

impl Turn {
    /// `LAST`, `A`, …
    pub fn parse(text: &str) -> Option<Turn> {
        match text.to_ascii_uppercase().as_str() {
            "LAST" => Some(Turn::Last),
            "A" => Some(Turn::Of(Type::A)),
            "AAAA" => Some(Turn::Of(Type::Aaaa)),
            "SRV" => Some(Turn::Of(Type::Srv)),
            "CNAME" => Some(Turn::Of(Type::Cname)),
            _ => None,
        }
    }
}

/// The types to ask for, each once.
pub(super) fn types_of(order: &[Turn], last: Option<Type>, name: &str, srv_of_services_only: bool) -> Vec<Type> {
    let mut types = Vec::with_capacity(order.len());
    let asked: Vec<Type> = order.iter().filter_map(|turn| if let Turn::Of(kind) = turn { Some(*kind) } else { None }).collect();
    for turn in order {
        let Some(kind) = (match turn {
            // What an order before a restart knew may no longer be among those asked for.
            Turn::Last => last.filter(|kind| asked.contains(kind)),
            Turn::Of(kind) => Some(*kind),
        }) else {
            continue;
        };
        if !types.contains(&kind) {
            types.push(kind);
        }
    }
    if srv_of_services_only {
        let is_service = name::is_service(name);
        types.retain(|kind| (*kind == Type::Srv) == is_service);
    }
    types
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub kind: Kind,
    /// In an order of their own, so that the same records are the same answer however a server turns them round.
    pub records: Vec<Record>,
    pub ttl_s: u32,
    /// The type that was asked for.
    pub asked: Type,
    /// Every target of SRV records is in it, or is known to have no address.
    pub is_whole: bool,
    /// The types before it that could not be had, and why: one of them may be the one there is.
    pub broken: Vec<(Type, String)>,
    /// What was asked in vain before.
    pub tried: Vec<Tried>,
}

impl Found {
    fn new(kind: Kind, records: Vec<Record>, ttl_s: u32, asked: Type) -> Self {
        Found { kind, records, ttl_s, asked, is_whole: true, broken: Vec::new(), tried: Vec::new() }
    }

    /// What was found, as far as it may take the place of what serves.
    ///
    /// # Errors
    /// What serves is of a type that could not be had this time: no reason to go elsewhere.
    pub fn instead_of(mut self, serving: Option<&Answer>) -> Result<Found, Failure> {
        let Some(serving) = serving.filter(|serving| serving.kind != self.kind) else { return Ok(self) };
        let kind = match serving.kind {
            Kind::Srv => Type::Srv,
            Kind::Aaaa => Type::Aaaa,
            _ => Type::A,
        };
        match self.broken.iter().position(|(broken, _)| *broken == kind) {
            Some(at) => {
                let (_, text) = self.broken.swap_remove(at);
                Err(Failure { is_not_found: false, is_gone: false, text, tried: self.tried })
            }
            None => Ok(self),
        }
    }
}

/// One question that was asked in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tried {
    pub name: String,
    pub kind: u16,
    pub outcome: String,
}

/// Why nothing was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// The name does not exist or has no such record: servers said so.
    pub is_not_found: bool,
    /// The name does not exist: servers said so of each question. Else it may exist without such a record.
    pub is_gone: bool,
    pub text: String,
    pub tried: Vec<Tried>,
}

/// What one question came to.
enum Step {
    Items {
        items: Vec<Item>,
        additionals: Vec<Item>,
        ttl_s: u32,
    },
    /// The name does not exist, or has no such record.
    Nothing(String),
    /// Each server failed.
    Broken(String),
}

/// One look-up: what it needs, and what it went through.
pub(super) struct LookUp<'a> {
    pub client: &'a Client,
    pub servers: &'a [SocketAddr],
    pub hosts: Rc<Hosts>,
    /// A or AAAA or both, in order: what the targets of SRV records are asked for.
    pub families: Vec<Type>,
    pub patience: Patience,
    questions: Cell<usize>,
    tried: RefCell<Vec<Tried>>,
    server: Cell<Option<SocketAddr>>,
    /// Some question was answered otherwise than with NXDOMAIN.
    exists: Cell<bool>,
}

impl<'a> LookUp<'a> {
    pub fn new(client: &'a Client, servers: &'a [SocketAddr], hosts: Rc<Hosts>, order: &[Turn], patience: Patience) -> Self {
        let mut families: Vec<Type> = Vec::new();
        for turn in order {
            if let Turn::Of(kind @ (Type::A | Type::Aaaa)) = turn
                && !families.contains(kind)
            {
                families.push(*kind);
            }
        }
        if families.is_empty() {
            families.push(Type::A);
        }
        let (questions, tried, server, exists) = Default::default();
        LookUp { client, servers, hosts, families, patience, questions, tried, server, exists }
    }

    /// The server that answered last.
    pub fn server(&self) -> Option<SocketAddr> {
        self.server.get()
    }

    /// Goes through the types and, for each, through the names.
    ///
    /// # Errors
    /// Nothing was found. When nobody answers a question, those after it are not asked: a name whose SRV records cannot be had
    /// must not be taken for one that has none.
    pub async fn run(&self, names: &[String], types: &[Type]) -> Result<Found, Failure> {
        let outcome = self.names(names, types, 0).await;
        let tried = self.tried.take();
        match outcome {
            Ok(found) => Ok(Found { tried, ..found }),
            Err((is_not_found, text)) => Err(Failure { is_not_found, is_gone: is_not_found && !self.exists.get(), text, tried }),
        }
    }

    /// What went wrong: is it sure that there is nothing, and a text.
    async fn names(&self, names: &[String], types: &[Type], depth: usize) -> Result<Found, (bool, String)> {
        let mut broken: Vec<(Type, String)> = Vec::new();
        let mut text = "no type of record is asked for".to_owned();
        for &kind in types {
            for name in names {
                let step = self.question(name, kind, depth).await.map_err(|error| (false, error))?;
                let has_records = matches!(step, Step::Items { .. });
                let outcome = match step {
                    Step::Items { items, additionals, ttl_s } => self.found(name, kind, items, &additionals, ttl_s, types, depth).await,
                    Step::Nothing(text) => Err((true, text)),
                    Step::Broken(text) => Err((false, text)),
                };
                match outcome {
                    Ok(mut found) => {
                        found.broken.extend(broken);
                        return Ok(found);
                    }
                    Err((is_not_found, why)) => {
                        self.note(name, kind, &why);
                        if has_records && !is_not_found {
                            // There are services, and their targets cannot be had: no reason to go elsewhere.
                            return Err((false, why));
                        }
                        if !is_not_found {
                            broken.push((kind, why.clone()));
                        }
                        text = why;
                    }
                }
            }
        }
        // One type that cannot be had may be the one there is.
        Err(broken.into_iter().next().map_or((true, text), |(_, text)| (false, text)))
    }

    fn note(&self, name: &str, kind: Type, outcome: &str) {
        let mut tried = self.tried.borrow_mut();
        if tried.len() < MOST_TRIED {
            tried.push(Tried { name: name.to_owned(), kind: kind.number(), outcome: outcome.to_owned() });
        }
    }

    /// Makes addresses of records.
    #[expect(clippy::too_many_arguments, reason = "one step of a walk, cut out for its size")]
    async fn found(
        &self,
        name: &str,
        kind: Type,
        items: Vec<Item>,
        additionals: &[Item],
        ttl_s: u32,
        types: &[Type],
        depth: usize,
    ) -> Result<Found, (bool, String)> {
        match kind {
            Type::A | Type::Aaaa => {
                let records = addresses(&items).into_iter().map(Record::at).collect();
                Ok(Found::new(if kind == Type::A { Kind::A } else { Kind::Aaaa }, records, ttl_s, kind))
            }
            Type::Srv => self.services(name, items, additionals, ttl_s).await,
            Type::Cname => {
                let target = items.into_iter().find_map(|item| if let Data::Cname(target) = item.data { Some(target) } else { None });
                let Some(target) = target.filter(|target| name::flaw(target).is_none()) else { return Err((true, EMPTY.to_owned())) };
                if depth >= LONGEST_CHAIN {
                    return Err((true, RECURSION.to_owned()));
                }
                let types: Vec<Type> = types.iter().copied().filter(|kind| *kind != Type::Cname).collect();
                let types = if types.is_empty() { self.families.clone() } else { types };
                let further: Pin<Box<dyn Future<Output = _>>> = Box::pin(self.names(std::slice::from_ref(&target), &types, depth + 1));
                let found = further.await?;
                Ok(Found { ttl_s: found.ttl_s.min(ttl_s), ..found })
            }
        }
    }

    /// Asks one question, and follows the CNAME records in its answer to where the records are.
    ///
    /// # Errors
    /// Nobody answers.
    async fn question(&self, name: &str, kind: Type, depth: usize) -> Result<Step, String> {
        let mut current = name.to_owned();
        let mut ttl_s = u32::MAX;
        for _ in depth..=LONGEST_CHAIN {
            let asked = self.questions.get() + 1;
            self.questions.set(asked);
            if asked > MOST_QUESTIONS {
                return Ok(Step::Broken("too many questions for one name".to_owned()));
            }
            let reply =
                self.client.ask(self.servers, &current, kind, self.patience).await.inspect_err(|error| self.note(&current, kind, error))?;
            self.server.set(Some(reply.server));
            let code = reply.code;
            self.exists.set(self.exists.get() || code != 3);
            if code != 0 {
                let text = format!("dns server error: {code} {}", code_text(code));
                return Ok(if code == 3 { Step::Nothing(text) } else { Step::Broken(text) });
            }
            match pick(reply, &current, kind, &mut ttl_s) {
                Picked::Items { items, additionals } => return Ok(Step::Items { items, additionals, ttl_s }),
                Picked::Elsewhere(target) if name::flaw(&target).is_none() => current = target,
                Picked::Elsewhere(_) | Picked::Nothing => return Ok(Step::Nothing(EMPTY.to_owned())),
                Picked::Round => return Ok(Step::Nothing(RECURSION.to_owned())),
            }
        }
        Ok(Step::Nothing(RECURSION.to_owned()))
    }

    /// The addresses behind the SRV records of the highest priority.
    async fn services(&self, name: &str, items: Vec<Item>, additionals: &[Item], ttl_s: u32) -> Result<Found, (bool, String)> {
        let owner = items.first().map(|item| item.owner.clone());
        let mut services = top_services(items);
        let is_itself = |service: &Service| service.target == name || Some(&service.target) == owner.as_ref();
        if !services.is_empty() && services.iter().all(is_itself) {
            // They say that the name has addresses, not where else to go.
            return Err((true, RECURSION.to_owned()));
        }
        // A target `.` says that there is no such service (RFC 2782).
        services.retain(|service| name::flaw(&service.target).is_none());
        services.truncate(MOST_RECORDS);
        let mut enclosed = self.enclosed(additionals);
        let mut targets: BTreeMap<String, Addresses> = BTreeMap::new();
        // Sorted by target: the same ones stand together.
        let mut unknown: Vec<String> = Vec::new();
        for target in services.iter().map(|service| &service.target) {
            if targets.contains_key(target) || unknown.last() == Some(target) {
                continue;
            }
            match self.without_asking(target).or_else(|| enclosed.remove(target.as_str())) {
                Some(addresses) => {
                    targets.insert(target.clone(), addresses);
                }
                None => unknown.push(target.clone()),
            }
        }
        let (problem, is_whole) = self.targets(unknown, &mut targets).await;
        // What is missing for now is asked for again soon.
        let ttl_s = if is_whole { ttl_s } else { ttl_s.min(1) };
        let ttl_s = targets.values().map(|addresses| addresses.ttl_s).fold(ttl_s, u32::min);
        let records = records_of(&services, &targets);
        if records.is_empty() {
            let why = problem.unwrap_or_else(|| EMPTY.to_owned());
            return Err((is_whole, format!("{why}, for the targets of SRV {name}")));
        }
        Ok(Found { is_whole, ..Found::new(Kind::Srv, records, ttl_s, Type::Srv) })
    }

    /// Asks for targets, so many at once. When some are known, the others are waited for as long as one server may take. What went
    /// wrong first, and whether each was answered.
    async fn targets(&self, unknown: Vec<String>, targets: &mut BTreeMap<String, Addresses>) -> (Option<String>, bool) {
        let (mut problem, mut is_whole) = (None, true);
        let mut waiting = unknown.iter();
        let mut running: Vec<_> = Vec::with_capacity(unknown.len().min(TARGETS_AT_ONCE));
        let mut late = std::pin::pin!(tokio::time::sleep(self.patience.timeout));
        std::future::poll_fn(|cx| {
            loop {
                let room = TARGETS_AT_ONCE - running.len();
                running.extend(waiting.by_ref().take(room).map(|target| (target, Box::pin(self.target(target)))));
                let before = running.len();
                running.retain_mut(|(target, look_up)| match look_up.as_mut().poll(cx) {
                    Poll::Pending => true,
                    Poll::Ready(Ok(addresses)) => {
                        targets.insert((*target).clone(), addresses);
                        false
                    }
                    Poll::Ready(Err((is_sure, why))) => {
                        is_whole &= is_sure;
                        problem.get_or_insert(why);
                        false
                    }
                });
                if running.is_empty() && waiting.len() == 0 {
                    return Poll::Ready(());
                }
                if running.len() == before || waiting.len() == 0 {
                    break;
                }
            }
            // Polled first: it must wake us even when nothing is known yet.
            if late.as_mut().poll(cx).is_ready() && !targets.is_empty() {
                is_whole = false;
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
        (problem, is_whole)
    }

    fn without_asking(&self, target: &str) -> Option<Addresses> {
        let addresses = match target.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => self.hosts.get(target)?.records.iter().map(|record| record.address).collect(),
        };
        Some(Addresses { addresses, ttl_s: u32::MAX })
    }

    /// The addresses that the server sent along, by target.
    fn enclosed<'b>(&self, additionals: &'b [Item]) -> HashMap<&'b str, Addresses> {
        let first = self.families.first().copied().unwrap_or(Type::A);
        let mut enclosed: HashMap<&str, Vec<Item>> = HashMap::new();
        for item in additionals.iter().filter(|item| is_of(&item.data, first)) {
            enclosed.entry(&item.owner).or_default().push(item.clone());
        }
        let of = |items: Vec<Item>| {
            let ttl_s = items.iter().map(|item| item.ttl_s).min().unwrap_or(0);
            Addresses { addresses: addresses(&items), ttl_s }
        };
        enclosed.into_iter().map(|(target, items)| (target, of(items))).collect()
    }

    async fn target(&self, target: &str) -> Result<Addresses, (bool, String)> {
        let mut why = (true, EMPTY.to_owned());
        for &family in &self.families {
            // Each target has a budget of its own: there are no more than records.
            self.questions.set(0);
            match self.question(target, family, 0).await.map_err(|error| (false, error))? {
                Step::Items { items, ttl_s, .. } => return Ok(Addresses { addresses: addresses(&items), ttl_s }),
                Step::Nothing(text) => why.1 = text,
                Step::Broken(text) => why = (false, text),
            }
        }
        Err(why)
    }
}

/// What a target of SRV records has.
struct Addresses {
    addresses: Vec<IpAddr>,
    ttl_s: u32,
}

/// An SRV record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Service {
    target: String,
    port: u16,
    weight: u16,
}

/// Those of the highest priority, in an order of their own.
fn top_services(items: Vec<Item>) -> Vec<Service> {
    let mut top = u16::MAX;
    let mut services = Vec::new();
    for item in items {
        let Data::Srv { priority, weight, port, target } = item.data else { continue };
        if priority < top {
            services.clear();
            top = priority;
        }
        if priority == top {
            services.push(Service { target, port, weight: weight.max(1) });
        }
    }
    services.sort_unstable();
    services.dedup();
    services
}

/// A record for each address. A target's weight is its own, however many addresses it has: they share it.
fn records_of(services: &[Service], targets: &BTreeMap<String, Addresses>) -> Vec<Record> {
    let count = |service: &Service| targets.get(&service.target).map_or(0, |target| target.addresses.len() as u64);
    let known: Vec<&Service> = services.iter().filter(|service| count(service) > 0).collect();
    let weights = shares(known.iter().map(|service| (u64::from(service.weight), count(service))));
    let mut names: HashMap<&str, Arc<str>> = HashMap::new();
    let mut records = Vec::new();
    for (service, weight) in known.into_iter().zip(weights) {
        let name = names.entry(&service.target).or_insert_with(|| Arc::from(service.target.as_str()));
        for &address in targets.get(&service.target).map(|target| target.addresses.as_slice()).unwrap_or_default() {
            // Port 0 is none.
            let port = (service.port > 0).then_some(service.port);
            records.push(Record { address, port, weight: Some(weight), name: Some(Arc::clone(name)) });
        }
    }
    records.truncate(MOST_RECORDS);
    records
}

/// What each of a target's addresses weighs, of `(weight, addresses)` of each target: numbers as SRV has them, from 1 to 65535.
fn shares(targets: impl Iterator<Item = (u64, u64)> + Clone) -> Vec<u32> {
    if targets.clone().all(|(_, count)| count == 1) {
        return targets.map(|(weight, _)| weight as u32).collect();
    }
    let whole =
        targets.clone().fold(1, |whole: u64, (_, count)| (whole / common_divisor(whole, count)).saturating_mul(count).min(LARGEST_SCALE));
    let exact: Vec<u64> = targets.map(|(weight, count)| weight * whole / count).collect();
    let divisor = exact.iter().fold(0, |divisor, &share| common_divisor(divisor, share)).max(1);
    let largest = exact.iter().max().map_or(1, |share| share / divisor);
    let fitting = |share: u64| if largest > LARGEST_WEIGHT { share * LARGEST_WEIGHT / largest } else { share };
    exact.iter().map(|share| fitting(share / divisor).max(1) as u32).collect()
}

fn common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn is_of(data: &Data, kind: Type) -> bool {
    match data {
        Data::Address(address) => kind == if address.is_ipv4() { Type::A } else { Type::Aaaa },
        Data::Cname(_) => kind == Type::Cname,
        Data::Srv { .. } => kind == Type::Srv,
    }
}

/// The addresses in records, each once, in an order of their own.
fn addresses(items: &[Item]) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> =
        items.iter().filter_map(|item| if let Data::Address(address) = item.data { Some(address) } else { None }).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MOST_RECORDS);
    addresses
}

enum Picked {
    Items {
        items: Vec<Item>,
        additionals: Vec<Item>,
    },
    /// The name is another's, of which the server said nothing.
    Elsewhere(String),
    /// The CNAME records lead round.
    Round,
    Nothing,
}

/// The records that answer the question; those of other names are no answer, unless CNAME records lead to them.
fn pick(reply: Reply, name: &str, kind: Type, ttl_s: &mut u32) -> Picked {
    let mut current = name;
    for _ in 0..=LONGEST_CHAIN {
        let items: Vec<Item> = reply.answers.iter().filter(|item| item.owner == current && is_of(&item.data, kind)).cloned().collect();
        if !items.is_empty() {
            *ttl_s = items.iter().map(|item| item.ttl_s).fold(*ttl_s, u32::min);
            return Picked::Items { items, additionals: reply.additionals };
        }
        let next = reply.answers.iter().find_map(|item| match &item.data {
            Data::Cname(target) if item.owner == current => Some((target, item.ttl_s)),
            _ => None,
        });
        match next {
            Some((target, ttl)) => {
                *ttl_s = ttl.min(*ttl_s);
                current = target;
            }
            None if current == name => return Picked::Nothing,
            None => return Picked::Elsewhere(current.to_owned()),
        }
    }
    Picked::Round
}

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Item {
        Item { owner: "s.test".to_owned(), ttl_s: 10, data: Data::Srv { priority, weight, port, target: target.to_owned() } }
    }

    fn a(owner: &str, address: &str) -> Item {
        Item { owner: owner.to_owned(), ttl_s: 10, data: Data::Address(address.parse().expect(address)) }
    }

    fn cname(owner: &str, target: &str) -> Item {
        Item { owner: owner.to_owned(), ttl_s: 5, data: Data::Cname(target.to_owned()) }
    }

    fn reply(answers: Vec<Item>) -> Reply {
        Reply { code: 0, answers, additionals: vec![], server: "127.0.0.1:53".parse().expect("an address") }
    }

    #[test]
    fn test_only_the_highest_priority_counts_and_weight_0_is_1() {
        let services = top_services(vec![srv(2, 5, 1, "c"), srv(1, 0, 2, "b"), srv(1, 7, 3, "a"), srv(9, 1, 1, "d"), srv(1, 0, 2, "b")]);
        let found: Vec<_> = services.iter().map(|service| (service.target.as_str(), service.port, service.weight)).collect();
        assert_eq!(found, [("a", 3, 7), ("b", 2, 1)]);
    }

    #[test]
    fn test_the_addresses_of_a_target_share_its_weight() {
        let services = top_services(vec![srv(1, 10, 1, "one"), srv(1, 10, 2, "three"), srv(1, 5, 3, "two"), srv(1, 1, 1, "none")]);
        let addresses = |count: u8| Addresses { addresses: (0..count).map(|n| IpAddr::from([10, 0, count, n])).collect(), ttl_s: 1 };
        let targets = [("one", 1), ("two", 2), ("three", 3)].map(|(name, count)| (name.to_owned(), addresses(count)));
        let records = records_of(&services, &targets.into_iter().collect());
        let share = |port| records.iter().filter(|r| r.port == Some(port)).filter_map(|r| r.weight).sum::<u32>();
        assert_eq!(records.len(), 6);
        assert_eq!((share(1), share(2), share(3)), (12, 12, 6));
    }

    #[test]
    fn test_shares_are_weights_that_srv_could_have() {
        let of = |targets: &[(u64, u64)]| shares(targets.iter().copied());
        assert_eq!(of(&[(10, 1), (65535, 1)]), [10, 65535]);
        assert_eq!(of(&[(5, 10)]), [1]);
        assert_eq!(of(&[(65535, 1), (1, 256)]), [65535, 1]);
        assert_eq!(of(&[(1, 251), (1, 241), (1, 239), (65535, 233)]).iter().max(), Some(&65535));
    }

    #[test]
    fn test_a_flood_of_records_is_cut_to_the_same_ones_whatever_their_order() {
        let mut items: Vec<Item> = (0..5000u32).map(|n| a("a", &std::net::Ipv4Addr::from(n).to_string())).collect();
        let first = addresses(&items);
        items.reverse();
        assert_eq!(first.len(), MOST_RECORDS);
        assert_eq!(first, addresses(&items));
    }

    #[test]
    fn test_records_of_other_names_are_no_answer() {
        let mut ttl_s = u32::MAX;
        let answers = vec![a("evil.test", "10.0.0.9"), srv(1, 1, 1, "x")];
        assert!(matches!(pick(reply(answers), "good.test", Type::A, &mut ttl_s), Picked::Nothing));
    }

    #[test]
    fn test_cname_records_lead_to_the_answer_and_shorten_its_ttl() {
        let mut ttl_s = u32::MAX;
        let answers = vec![cname("a", "b"), a("c", "10.0.0.1"), cname("b", "c"), a("a.other", "10.0.0.2")];
        let Picked::Items { items, .. } = pick(reply(answers), "a", Type::A, &mut ttl_s) else { panic!("nothing") };
        assert_eq!((items.len(), ttl_s), (1, 5));
        assert!(matches!(pick(reply(vec![cname("a", "b")]), "a", Type::A, &mut ttl_s), Picked::Elsewhere(name) if name == "b"));
        assert!(matches!(pick(reply(vec![cname("a", "b"), cname("b", "a")]), "a", Type::A, &mut ttl_s), Picked::Round));
    }

    #[test]
    fn test_the_order_of_types() {
        let order: Vec<Turn> = ["LAST", "SRV", "a", "CNAME"].iter().filter_map(|text| Turn::parse(text)).collect();
        assert_eq!(types_of(&order, None, "a", false), [Type::Srv, Type::A, Type::Cname]);
        assert_eq!(types_of(&order, Some(Type::A), "a", false), [Type::A, Type::Srv, Type::Cname]);
        assert_eq!(types_of(&order, Some(Type::Aaaa), "a", false), [Type::Srv, Type::A, Type::Cname]);
        assert_eq!(types_of(&order, None, "a.test", true), [Type::A, Type::Cname]);
        assert_eq!(types_of(&order, None, "_a._tcp.test", true), [Type::Srv]);
        assert_eq!(Turn::parse("TXT"), None);
    }
}
