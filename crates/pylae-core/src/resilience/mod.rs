// SPDX-License-Identifier: Apache-2.0
//! What is done about upstreams that are slow, full or failing? Nothing, unless a row of the plugin `resilience` asks for it.
//!
//! A *host* is what a request is for: an Upstream with all of its Targets, or the host of a Service. What is remembered of it belongs to
//! one worker and one row of the plugin, and is kept as long as that row stays what it is. Who may be chosen among Targets (slow start,
//! outliers) is the balancer's.
//!
//! Faults born here: `circuit_open`, `queue_full`, `queue_timeout`.

pub mod breaker;
pub mod budget;
mod policy;
pub mod queue;
mod window;

pub use policy::{BreakerRules, BudgetRules, HedgeRules, PLUGIN, PerTryTimeout, Policy, QueueRules};

use crate::exchange::Exchange;
use crate::snapshot::Id;
use breaker::{Breaker, Pass, Refused, Turned};
use budget::Budget;
use queue::Queue;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Hosts remembered at most.
const HOSTS_LIMIT: usize = 10_000;
/// So many are forgotten at once when there are too many.
const FORGOTTEN_AT_ONCE: usize = HOSTS_LIMIT / 100;
/// A host that nobody asked for so long is forgotten; longer than any window and any open circuit.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_700);

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HostKey {
    /// An Upstream.
    Upstream(Id),
    /// The host of a Service.
    Service(Id),
    /// Another host, which a plugin named; its hash.
    Named(u64),
}

impl HostKey {
    /// What this request is for.
    pub fn of(exchange: &Exchange) -> Self {
        let (host, port) = (&exchange.upstream.target_host, exchange.upstream.target_port);
        if let Some(upstream) = exchange.snapshot.upstream(host) {
            return HostKey::Upstream(upstream.upstream.id);
        }
        match exchange.matched.as_ref().and_then(|matched| matched.service.as_ref()) {
            Some(service) if *service.host == **host && service.port == port => HostKey::Service(service.id),
            _ => {
                let mut hasher = DefaultHasher::new();
                (host, port).hash(&mut hasher);
                HostKey::Named(hasher.finish())
            }
        }
    }
}

/// What is remembered of a host.
#[derive(Debug)]
pub struct Host {
    /// As logs name it.
    pub name: String,
    budget: Option<RefCell<Budget>>,
    breaker: Option<RefCell<Breaker>>,
    queue: Option<Rc<Queue>>,
    policy: Weak<Policy>,
    asked: Cell<Duration>,
    /// A refusal was told of last, and how many since were not.
    told: Cell<Option<Duration>>,
    untold: Cell<u64>,
}

impl Host {
    fn new(policy: &Arc<Policy>, name: String) -> Self {
        Host {
            name,
            budget: policy.retry_budget.map(|rules| RefCell::new(Budget::new(rules))),
            breaker: policy.breaker.clone().map(|rules| RefCell::new(Breaker::new(rules))),
            queue: policy.queue.map(Queue::new),
            policy: Arc::downgrade(policy),
            asked: Cell::default(),
            told: Cell::default(),
            untold: Cell::default(),
        }
    }

    /// A request is let in.
    pub fn note_request(&self, now: Duration) {
        if let Some(budget) = &self.budget {
            budget.borrow_mut().note_request(now);
        }
    }

    /// Spends one retry; false when none is left.
    pub fn take_retry(&self, now: Duration) -> bool {
        self.budget.as_ref().is_none_or(|budget| budget.borrow_mut().take(now))
    }

    /// Its queue, if requests queue for it.
    pub fn queue(&self) -> Option<&Rc<Queue>> {
        self.queue.as_ref()
    }

    /// Does nothing speak against an attempt that need not be made?
    pub fn is_well(&self) -> bool {
        self.breaker.as_ref().is_none_or(|breaker| breaker.borrow().is_closed())
    }

    /// A request is refused: shall the log hear of it? At most once a second; then how many it did not hear of.
    pub fn tell_of_refusal(&self, now: Duration) -> Option<u64> {
        if self.told.get().is_some_and(|told| now.saturating_sub(told) < Duration::from_secs(1)) {
            self.untold.set(self.untold.get() + 1);
            return None;
        }
        self.told.set(Some(now));
        Some(self.untold.take())
    }

    /// Is a request in flight there, or does one wait?
    fn is_busy(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) > 1 || self.queue.as_ref().is_some_and(|queue| queue.in_flight() + queue.waiting_count() > 0)
    }

    /// Is it remembered for nothing any more?
    fn is_forgotten(self: &Rc<Self>, now: Duration) -> bool {
        self.policy.strong_count() == 0 || (!self.is_busy() && now.saturating_sub(self.asked.get()) > FORGOTTEN_AFTER)
    }
}

/// The word that attempts at a host may be made; dropped without a word on how it went, it is given back.
#[derive(Debug)]
pub struct Ticket {
    host: Rc<Host>,
    pass: Option<Pass>,
    is_told: Cell<bool>,
}

impl Ticket {
    /// Asks the host's circuit.
    ///
    /// # Errors
    /// It is open.
    pub fn of(host: &Rc<Host>, now: Duration) -> Result<Self, Refused> {
        let pass = host.breaker.as_ref().map(|breaker| breaker.borrow_mut().admit(now)).transpose()?;
        Ok(Ticket { host: Rc::clone(host), pass, is_told: Cell::new(false) })
    }

    /// An answer of this status came.
    pub fn answered(&self, status: u16, now: Duration) -> Option<Turned> {
        self.tell(|breaker, pass| {
            if breaker.is_failure(status) { breaker.fail(pass, now, &format!("status {status}")) } else { breaker.succeed(pass, now) }
        })
    }

    /// No answer came, and `what` says why.
    pub fn failed(&self, what: &str, now: Duration) -> Option<Turned> {
        self.tell(|breaker, pass| breaker.fail(pass, now, what))
    }

    fn tell(&self, how: impl FnOnce(&mut Breaker, Pass) -> Option<Turned>) -> Option<Turned> {
        let (breaker, pass) = (self.host.breaker.as_ref()?, self.pass?);
        // A trial is one attempt; of others there may be several, when they are hedged.
        if self.is_told.replace(true) && pass.is_trial {
            return None;
        }
        how(&mut breaker.borrow_mut(), pass)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let (Some(breaker), Some(pass), false) = (&self.host.breaker, self.pass, self.is_told.get()) {
            breaker.borrow_mut().give_back(pass);
        }
    }
}

/// The hosts that a worker remembers.
#[derive(Debug, Default)]
pub struct Hosts {
    /// By the policy's place in memory, which is nobody else's as long as a host knows it.
    known: RefCell<HashMap<(usize, HostKey), Rc<Host>>>,
    /// There were too many.
    is_crowded: Cell<bool>,
}

impl Hosts {
    /// What is remembered of a host under a policy.
    pub fn get(&self, policy: &Arc<Policy>, key: HostKey, now: Duration, name: impl FnOnce() -> String) -> Rc<Host> {
        let mut known = self.known.borrow_mut();
        let key = (Arc::as_ptr(policy) as usize, key);
        if known.len() >= HOSTS_LIMIT && !known.contains_key(&key) {
            self.is_crowded.set(true);
            forget_oldest(&mut known);
            if known.len() >= HOSTS_LIMIT {
                // All of them have requests: this one is served as if nothing were known of it.
                return Rc::new(Host::new(policy, name()));
            }
        }
        let host = known.entry(key).or_insert_with(|| Rc::new(Host::new(policy, name())));
        host.asked.set(now);
        Rc::clone(host)
    }

    /// Had some to be forgotten early?
    pub fn is_crowded(&self) -> bool {
        self.is_crowded.get()
    }

    /// Forgets hosts that nobody asks for, and policies that are gone.
    pub fn sweep(&self, now: Duration) {
        self.known.borrow_mut().retain(|_, host| !host.is_forgotten(now));
    }

    /// Hosts remembered.
    pub fn len(&self) -> usize {
        self.known.borrow().len()
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Forgets those asked for least recently, but none that has requests.
fn forget_oldest(known: &mut HashMap<(usize, HostKey), Rc<Host>>) {
    let mut idle: Vec<_> = known.iter().filter(|(_, host)| !host.is_busy()).map(|(key, host)| (host.asked.get(), *key)).collect();
    let count = FORGOTTEN_AT_ONCE.min(idle.len());
    if count < idle.len() {
        idle.select_nth_unstable_by_key(count, |(asked, _)| *asked);
    }
    idle[..count].iter().for_each(|(_, key)| drop(known.remove(key)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Arc<Policy> {
        let budget = BudgetRules { percent: 0.0, least_per_s: 0.1, window: Duration::from_secs(10) };
        let breaker = BreakerRules {
            failures: Some(1),
            failure_percent: None,
            least_requests: 1,
            window: Duration::from_secs(10),
            open: Duration::from_secs(10),
            half_open_requests: 1,
            statuses: [503].into(),
        };
        Arc::new(Policy { retry_budget: Some(budget), breaker: Some(breaker), ..Policy::default() })
    }

    const NOW: Duration = Duration::from_secs(100);
    const KEY: HostKey = HostKey::Named(7);

    #[test]
    fn test_a_host_is_remembered_as_long_as_its_policy() {
        let (hosts, kept, changed) = (Hosts::default(), policy(), policy());
        assert!(hosts.get(&kept, KEY, NOW, String::new).take_retry(NOW));
        assert!(!hosts.get(&kept, KEY, NOW, String::new).take_retry(NOW));
        assert!(hosts.get(&changed, KEY, NOW, String::new).take_retry(NOW), "another row begins anew");
        drop(changed);
        hosts.sweep(NOW);
        assert_eq!(hosts.len(), 1);
        hosts.sweep(NOW + FORGOTTEN_AFTER * 2);
        assert!(hosts.is_empty());
    }

    #[test]
    fn test_memory_is_bounded() {
        let (hosts, policy) = (Hosts::default(), policy());
        let limit = HOSTS_LIMIT as u64;
        let held = hosts.get(&policy, KEY, NOW, String::new);
        for number in 100..100 + limit - 1 {
            hosts.get(&policy, HostKey::Named(number), NOW + Duration::from_secs(number), String::new);
        }
        assert!(!hosts.is_crowded());
        let late = NOW + Duration::from_secs(2 * limit);
        hosts.get(&policy, HostKey::Named(2 * limit), late, String::new);
        assert!(hosts.is_crowded());
        assert_eq!(hosts.len(), HOSTS_LIMIT - FORGOTTEN_AT_ONCE + 1);
        let known = hosts.known.borrow();
        let is_known = |number| known.contains_key(&(Arc::as_ptr(&policy) as usize, HostKey::Named(number)));
        assert!(!is_known(100) && is_known(100 + limit - 2) && is_known(2 * limit), "the oldest are forgotten");
        assert!(is_known(7), "but none that has requests");
        drop(held);
    }

    #[test]
    fn test_a_host_with_requests_is_not_forgotten() {
        let hosts = Hosts::default();
        let rules = QueueRules { most_connections: 1, most_waiting: 1, deadline: Duration::from_secs(1) };
        let policy = Arc::new(Policy { queue: Some(rules), ..Policy::default() });
        let place = hosts.get(&policy, KEY, NOW, String::new).queue().expect("it has one").enter();
        assert!(place.is_some());
        hosts.sweep(NOW + FORGOTTEN_AFTER * 2);
        assert_eq!(hosts.len(), 1);
        drop(place);
        hosts.sweep(NOW + FORGOTTEN_AFTER * 2);
        assert!(hosts.is_empty());
    }

    #[test]
    fn test_refusals_are_told_of_once_a_second() {
        let host = Hosts::default().get(&policy(), KEY, NOW, String::new);
        let told: Vec<_> = [0, 10, 999, 1_000, 1_500, 9_000].map(|ms| host.tell_of_refusal(NOW + Duration::from_millis(ms))).into();
        assert_eq!(told, [Some(0), None, None, Some(2), None, Some(1)]);
    }

    #[test]
    fn test_a_trial_without_a_word_is_given_back() {
        let (hosts, policy) = (Hosts::default(), policy());
        let host = hosts.get(&policy, KEY, NOW, String::new);
        assert!(Ticket::of(&host, NOW).expect("it is closed").answered(503, NOW).is_some());
        assert!(!host.is_well());
        let later = NOW + Duration::from_secs(10);
        let trial = Ticket::of(&host, later).expect("it is half-open");
        assert!(Ticket::of(&host, later).is_err());
        drop(trial);
        let trial = Ticket::of(&host, later).expect("the trial was given back");
        assert!(trial.answered(200, later).is_some());
        drop(trial);
        assert!(host.is_well());
    }
}
