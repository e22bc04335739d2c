// SPDX-License-Identifier: Apache-2.0
//! Who are the candidates of an Upstream? Each address of each Target, as far as its name's addresses are known.

use super::key;
use super::peer::{Address, Hot, LoadRef, Peer, Seat, Tally};
use crate::fault::Fault;
use crate::healthcheck::Place;
use crate::snapshot::Id;
use crate::snapshot::hash::{ConfigMap, ConfigSet};
use crate::upstream::dns::{Answer, Resolver};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Addresses that are taken of one name: a choice looks at each of them.
pub(super) const MOST_ADDRESSES: usize = 256;

/// What a look-up came to.
pub type Found = Result<Arc<Answer>, Fault>;

/// Who tells what names have, without waiting.
pub trait Names {
    /// While it stays the same, all names have what they had.
    fn generation(&self) -> u64;

    /// What a host is known to have; `None`: nothing is known, and it is asked for.
    fn known(&self, host: &str) -> Option<Found>;
}

impl Names for Resolver {
    fn generation(&self) -> u64 {
        Resolver::generation(self)
    }

    fn known(&self, host: &str) -> Option<Found> {
        Resolver::known(self, host)
    }
}

/// What is known of a Target's name.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// Nothing: nobody answered yet.
    Nothing,
    /// That it has no address, or that nobody can be asked.
    Failed(Fault),
    /// These addresses.
    Has(Arc<Answer>),
}

impl Known {
    pub(super) fn of(found: Found) -> Self {
        match found {
            Ok(answer) => Known::Has(answer),
            Err(fault) => Known::Failed(fault),
        }
    }

    /// Are the candidates the same?
    pub(super) fn is_same(&self, other: &Known) -> bool {
        match (self, other) {
            (Known::Nothing, Known::Nothing) | (Known::Failed(_), Known::Failed(_)) => true,
            (Known::Has(one), Known::Has(two)) => Arc::ptr_eq(one, two) || one.is_once && two.is_once || one == two,
            _ => false,
        }
    }
}

/// A Target by name.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub peer: Arc<Peer>,
    pub known: Known,
}

/// The candidates, as long as Targets and the answers for their names are what they are.
#[derive(Debug)]
pub struct Roster {
    pub(super) seats: Arc<[Seat]>,
    /// In the order of `seats`.
    pub(super) hot: Arc<[Hot]>,
    /// Have all the same weight?
    pub(super) is_even: bool,
    /// Those Targets that have a name, in the order of the Targets.
    pub(super) names: Box<[Named]>,
}

/// One that is wanted.
struct Wanted {
    peer: Arc<Peer>,
    /// None: asked for at each request.
    address: Option<SocketAddr>,
    weight: u32,
    name: Option<Arc<str>>,
    is_first: bool,
}

impl Roster {
    /// The candidates of these Targets. What was known `before` of an address that stays is kept; one that came while others were
    /// there has come at `now`.
    pub(super) fn new(peers: &[Arc<Peer>], names: Box<[Named]>, before: Option<&Roster>, now: Duration) -> Self {
        let mut wanted = Vec::with_capacity(peers.len());
        let mut named = names.iter().peekable();
        let answered = |named: &&Named| !matches!(named.known, Known::Nothing);
        let answered: ConfigSet<Id> =
            before.into_iter().flat_map(|before| before.names.iter().filter(answered)).map(|named| named.peer.target).collect();
        for peer in peers {
            if let Some(address) = peer.address {
                let address = SocketAddr::new(address, peer.port);
                let is_first = !peer.is_new;
                wanted.push(Wanted { peer: peer.clone(), address: Some(address), weight: peer.weight, name: None, is_first });
            } else if let Some(of_peer) = named.next_if(|n| Arc::ptr_eq(&n.peer, peer))
                && let Known::Has(answer) = &of_peer.known
            {
                want(&mut wanted, peer, answer, !peer.is_new && !answered.contains(&peer.target));
            }
        }
        let kept = Kept::new(before);
        let mut fresh = LoadRef::block(wanted.iter().filter(|wanted| kept.load(wanted).is_none()).count());
        let mut seats = Vec::with_capacity(wanted.len());
        let mut hot = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let (host, port) = (&wanted.peer.host, wanted.peer.port);
            let load = kept.load(&wanted).cloned().or_else(|| {
                let load = fresh.next()?;
                if !wanted.is_first {
                    load.begin(now);
                }
                Some(load)
            });
            // As many fresh ones were made as are wanted.
            let Some(load) = load else { continue };
            let (text, weight) = match wanted.address {
                Some(address) => (format!("{host}:{}:{}", address.port(), address.ip()), wanted.weight),
                None => (format!("{host}:{port}"), wanted.weight),
            };
            hot.push(Hot::new(weight, key::hash(text.as_bytes()), load.clone()));
            seats.push(kept.seat(wanted, load));
        }
        let total = hot.iter().map(Hot::weight).sum::<u64>() as i64;
        for hot in &hot {
            // What was owed under greater weights would be many turns now.
            let owed = hot.load.owed.load(Ordering::Relaxed);
            if owed.abs() > total {
                hot.load.owed.store(owed.clamp(-total, total), Ordering::Relaxed);
            }
        }
        let is_even = hot.windows(2).all(|pair| pair[0].weight() == pair[1].weight());
        Roster { seats: seats.into(), hot: hot.into(), is_even, names }
    }

    /// Every address that is known.
    pub fn addresses(&self) -> impl Iterator<Item = &Arc<Address>> {
        self.seats.iter().filter_map(|seat| match seat {
            Seat::Known(address) => Some(address),
            Seat::Once(..) => None,
        })
    }

    /// The Targets whose name is asked for at each request.
    pub fn asked_each_time(&self) -> impl Iterator<Item = (&Arc<Peer>, &LoadRef)> {
        self.seats.iter().filter_map(|seat| match seat {
            Seat::Once(peer, load) => Some((peer, load)),
            Seat::Known(_) => None,
        })
    }

    /// Is there any candidate, healthy or not?
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// The Targets of whose name nothing is known yet.
    pub fn pending(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.names.iter().filter(|named| matches!(named.known, Known::Nothing)).map(|named| &named.peer)
    }

    /// Why a Target's name has no address.
    pub fn failure(&self, target: Id) -> Option<&Fault> {
        self.names.iter().find(|named| named.peer.target == target).and_then(|named| match &named.known {
            Known::Failed(fault) => Some(fault),
            _ => None,
        })
    }
}

/// The addresses of an answer, each once.
fn want(wanted: &mut Vec<Wanted>, peer: &Arc<Peer>, answer: &Answer, is_first: bool) {
    if answer.is_once {
        wanted.push(Wanted { peer: peer.clone(), address: None, weight: peer.weight, name: None, is_first });
        return;
    }
    let begin = wanted.len();
    for record in answer.records.iter().take(MOST_ADDRESSES) {
        let address = SocketAddr::new(record.address, record.port.unwrap_or(peer.port));
        let weight = record.weight.map_or(peer.weight, |weight| weight.max(1));
        match wanted[begin..].iter_mut().find(|one| one.address == Some(address)) {
            // Two hosts of an SRV record that have the same address.
            Some(same) if record.weight.is_some() => same.weight = same.weight.saturating_add(weight),
            Some(_) => {}
            None => wanted.push(Wanted { peer: peer.clone(), address: Some(address), weight, name: record.name.clone(), is_first }),
        }
    }
}

/// What was there before, found fast.
struct Kept<'a>(ConfigMap<(Id, Option<SocketAddr>), &'a Seat>);

impl<'a> Kept<'a> {
    fn new(before: Option<&'a Roster>) -> Self {
        let of_seat = |seat: &'a Seat| match seat {
            Seat::Known(address) => ((address.peer.target, Some(address.place.address())), seat),
            Seat::Once(peer, _) => ((peer.target, None), seat),
        };
        Kept(before.into_iter().flat_map(|before| before.seats.iter().map(of_seat)).collect())
    }

    fn find(&self, wanted: &Wanted) -> Option<&'a Seat> {
        self.0.get(&(wanted.peer.target, wanted.address)).copied()
    }

    fn load(&self, wanted: &Wanted) -> Option<&'a LoadRef> {
        self.find(wanted).map(Seat::load)
    }

    /// The seat of one that is wanted: the same as before, as far as it can be.
    fn seat(&self, wanted: Wanted, load: LoadRef) -> Seat {
        let Some(address) = wanted.address else { return Seat::Once(wanted.peer, load) };
        let known = self.find(&wanted).and_then(|seat| if let Seat::Known(address) = seat { Some(address) } else { None });
        if let Some(known) = known
            && Arc::ptr_eq(&known.peer, &wanted.peer)
            && known.weight == wanted.weight
            && known.name == wanted.name
        {
            return Seat::Known(Arc::clone(known));
        }
        let place = known.map_or_else(
            || Arc::new(Place::new(wanted.peer.upstream, wanted.peer.target, address.ip(), address.port())),
            |known| Arc::clone(&known.place),
        );
        Seat::Known(Arc::new(Address { peer: wanted.peer, place, name: wanted.name, weight: wanted.weight, load, tally: Tally::default() }))
    }
}
