// SPDX-License-Identifier: Apache-2.0
//! Which Target takes this attempt? Fault born here: `no_healthy_target`.

use crate::snapshot::Id;
use crate::snapshot::model::Target;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The port of a Target that names none.
const DEFAULT_PORT: u16 = 8000;

/// What an explicit null of a Target's weight means, as in Kong's schema.
const WEIGHT_WHEN_NULL: u32 = 100;

/// Where an attempt may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The Target's row.
    pub target: Id,
    /// Host name or IP address, without brackets.
    pub host: Arc<str>,
    /// The address, when the host is one.
    pub address: Option<IpAddr>,
    /// TCP port.
    pub port: u16,
    /// Share of the requests; never 0.
    pub weight: u32,
    /// Addresses of the host that were marked unhealthy; never all of an address that stands for itself.
    pub shunned: Box<[IpAddr]>,
}

/// What an operator took out of rotation: whole Targets, and single addresses of Targets.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Marks {
    targets: HashSet<Id>,
    addresses: HashMap<Id, Vec<IpAddr>>,
}

impl Marks {
    /// Takes a Target out, or one address of it.
    pub fn take_out(&mut self, target: Id, address: Option<IpAddr>) {
        match address {
            None => {
                self.targets.insert(target);
            }
            Some(address) => self.addresses.entry(target).or_default().push(address),
        }
    }

    fn shunned(&self, target: Id) -> &[IpAddr] {
        self.addresses.get(&target).map_or(&[], Vec::as_slice)
    }

    fn is_out(&self, target: Id, address: Option<IpAddr>) -> bool {
        self.targets.contains(&target) || address.is_some_and(|address| self.shunned(target).contains(&address))
    }
}

/// No Target in rotation with a weight above 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoTarget;

impl fmt::Display for NoTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failure to get a peer from the ring-balancer")
    }
}

impl std::error::Error for NoTarget {}

/// Smooth weighted round robin over the Targets of one Upstream: with weights 5, 1, 1 the heavy one's turns are spread
/// (a a b a c a a), not bunched.
///
/// The state is atomic only because a snapshot is shared with the helper thread; the data-plane thread alone takes turns.
#[derive(Debug)]
pub struct Balancer {
    peers: Vec<Arc<Peer>>,
    /// What each peer is owed, in the order of `peers`. Their sum is 0 between two turns.
    owed: Vec<AtomicI64>,
    weight_total: i64,
}

impl Balancer {
    /// A balancer over these Targets, in the order of their ids, without those that are marked. Those that can't be read are
    /// named in the second part.
    pub fn new<'a>(targets: impl IntoIterator<Item = &'a Target>, marks: &Marks) -> (Self, Vec<String>) {
        let mut peers = Vec::new();
        let mut refused = Vec::new();
        for target in targets {
            let weight = target.weight.unwrap_or(WEIGHT_WHEN_NULL);
            match split_target(&target.target) {
                Some((host, port)) if weight > 0 => {
                    let address = host.parse().ok();
                    if !marks.is_out(target.id, address) {
                        let shunned = marks.shunned(target.id).into();
                        peers.push(Arc::new(Peer { target: target.id, host: host.into(), address, port, weight, shunned }));
                    }
                }
                Some(_) => {}
                None => refused.push(format!("targets {}: `{}` is not `host:port`", target.id, target.target)),
            }
        }
        peers.sort_by_key(|peer| peer.target);
        let owed = peers.iter().map(|_| AtomicI64::new(0)).collect();
        let weight_total = peers.iter().map(|peer| i64::from(peer.weight)).sum();
        (Balancer { peers, owed, weight_total }, refused)
    }

    /// The peer whose turn it is.
    ///
    /// # Errors
    /// No Target in rotation has a weight above 0.
    pub fn next(&self) -> Result<&Arc<Peer>, NoTarget> {
        let mut best: Option<(usize, i64)> = None;
        for (at, (peer, owed)) in self.peers.iter().zip(&self.owed).enumerate() {
            let owes = owed.load(Ordering::Relaxed) + i64::from(peer.weight);
            owed.store(owes, Ordering::Relaxed);
            if best.is_none_or(|(_, most)| owes > most) {
                best = Some((at, owes));
            }
        }
        let (at, owes) = best.ok_or(NoTarget)?;
        self.owed[at].store(owes - self.weight_total, Ordering::Relaxed);
        Ok(&self.peers[at])
    }

    /// Every Target in rotation with a weight above 0.
    pub fn peers(&self) -> &[Arc<Peer>] {
        &self.peers
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`; also takes a bare IPv6 address.
fn split_target(text: &str) -> Option<(&str, u16)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
    } else if text.parse::<Ipv6Addr>().is_ok() {
        (text, None)
    } else if let Some((host, port)) = text.split_once(':') {
        (host, Some(port))
    } else {
        (text, None)
    };
    if host.is_empty() {
        return None;
    }
    match port {
        None => Some((host, DEFAULT_PORT)),
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => Some((host, digits.parse().ok()?)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::model::{Raw, Reference};

    fn target(number: u8, text: &str, weight: u32) -> Target {
        let mut bytes = [0; 16];
        bytes[15] = number;
        Target {
            id: Id(bytes),
            created_at: 0.0,
            updated_at: 0.0,
            upstream: Reference { id: Id::NIL },
            target: text.into(),
            weight: Some(weight),
            tags: None,
            raw: Raw::default(),
        }
    }

    fn turns(balancer: &Balancer, count: usize) -> String {
        (0..count).map(|_| balancer.next().expect("a peer").host.to_string()).collect()
    }

    #[test]
    fn the_turns_of_a_heavy_target_are_spread() {
        let (balancer, refused) = Balancer::new(&[target(1, "a", 5), target(2, "b", 1), target(3, "c", 1)], &Marks::default());
        assert!(refused.is_empty());
        assert_eq!(turns(&balancer, 14), "aabacaaaabacaa");
    }

    #[test]
    fn shares_follow_the_weights() {
        for weights in [[1, 1, 1], [100, 100, 1], [3, 7, 0], [65_535, 1, 13]] {
            let (balancer, _) =
                Balancer::new(&[target(1, "a", weights[0]), target(2, "b", weights[1]), target(3, "c", weights[2])], &Marks::default());
            let total: u32 = weights.iter().sum();
            let order = turns(&balancer, total as usize);
            for (name, weight) in ["a", "b", "c"].into_iter().zip(weights) {
                assert_eq!(order.matches(name).count(), weight as usize, "{weights:?}");
            }
        }
    }

    #[test]
    fn a_target_of_weight_zero_gets_nothing() {
        let (balancer, _) = Balancer::new(&[target(1, "a", 0)], &Marks::default());
        assert_eq!(balancer.next(), Err(NoTarget));
        let (balancer, _) = Balancer::new(&[], &Marks::default());
        assert_eq!(balancer.next(), Err(NoTarget));
    }

    #[test]
    fn targets_are_read_in_every_form() {
        assert_eq!(split_target("a.example"), Some(("a.example", 8000)));
        assert_eq!(split_target("a.example:81"), Some(("a.example", 81)));
        assert_eq!(split_target("10.0.0.1:0"), Some(("10.0.0.1", 0)));
        assert_eq!(split_target("[::1]:80"), Some(("::1", 80)));
        assert_eq!(split_target("[0000:0000:0000:0000:0000:0000:0000:0001]"), Some(("0000:0000:0000:0000:0000:0000:0000:0001", 8000)));
        assert_eq!(split_target("::1"), Some(("::1", 8000)));
        for text in ["", ":80", "[::1", "[::1]80", "[x]:80", "a:b", "a:", "a:70000", "a:+1"] {
            assert_eq!(split_target(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_is_told_from_a_name() {
        let (balancer, refused) =
            Balancer::new(&[target(1, "[::1]:80", 1), target(2, "a.example:80", 1), target(3, "[x]:1", 1)], &Marks::default());
        let addresses: Vec<_> = balancer.peers().iter().map(|peer| peer.address.is_some()).collect();
        assert_eq!(addresses, [true, false]);
        assert_eq!(refused.len(), 1);
    }

    #[test]
    fn a_marked_target_gets_nothing_and_a_marked_address_is_shunned() {
        let targets = [target(1, "10.0.0.1:80", 1), target(2, "b", 1), target(3, "10.0.0.3:80", 1)];
        let address = |text: &str| Some(text.parse::<IpAddr>().expect("an address"));
        let mut marks = Marks::default();
        marks.take_out(targets[0].id, address("10.0.0.1"));
        marks.take_out(targets[1].id, address("10.0.0.2"));
        marks.take_out(targets[2].id, address("10.0.0.9"));
        let (balancer, _) = Balancer::new(&targets, &marks);
        let hosts: Vec<_> = balancer.peers().iter().map(|peer| &*peer.host).collect();
        assert_eq!(hosts, ["b", "10.0.0.3"]);
        assert_eq!(*balancer.peers()[0].shunned, [address("10.0.0.2").expect("an address")]);
        marks.take_out(targets[1].id, None);
        assert_eq!(Balancer::new(&targets, &marks).0.peers().len(), 1);
    }
}
