// SPDX-License-Identifier: Apache-2.0
//! What is the configuration at this moment? Compiled, immutable, versioned; a change makes a new one.

mod explanation;
pub(crate) mod hash;
mod id;
mod message;
pub mod model;
mod plugin;
mod store;

pub use explanation::{Account, Applied};
pub use id::Id;
pub use message::MessageError;
pub use plugin::{PluginIndex, PluginInfo, PluginInstance, PluginRegistry};
pub use store::{ApplyError, Compiled, Invalidation, Store, frame_of};

use crate::balancer::Balancer;
use crate::healthcheck::Rules;
use crate::phases::plan::Plan;
use crate::router::Router;
use crate::tls::asking::Asking;
use hash::ConfigMap;
use model::{Service, Upstream};
use std::fmt;
use std::sync::Arc;

/// Which state of which database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Version {
    /// Made when the database was.
    pub database_id: String,
    /// Counts the changes; never falls, not even over restarts.
    pub sequence: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.database_id, self.sequence)
    }
}

/// An Upstream with its Targets.
#[derive(Debug, Clone)]
pub struct CompiledUpstream {
    /// The row.
    pub upstream: Arc<Upstream>,
    /// When a Target of it counts as dead.
    pub rules: Arc<Rules>,
    /// Chooses the Target; stays the same, with its turns, while the Targets do.
    pub balancer: Arc<Balancer>,
}

/// The whole configuration, compiled.
pub struct Snapshot {
    /// Which state this is.
    pub version: Version,
    /// Which Route a request belongs to.
    pub router: Arc<Router>,
    /// Which plugin instances apply.
    pub plan: Arc<Plan>,
    /// Which clients are asked for a certificate.
    pub asking: Arc<Asking>,
    services: Arc<ConfigMap<Id, Arc<Service>>>,
    upstreams: Arc<ConfigMap<Arc<str>, Arc<CompiledUpstream>>>,
    watched: Arc<[Arc<CompiledUpstream>]>,
    named: Arc<[Arc<Balancer>]>,
}

impl Snapshot {
    /// A Service by its id.
    pub fn service(&self, id: Id) -> Option<&Arc<Service>> {
        self.services.get(&id)
    }

    /// The Upstream that a Service's host names; none when the host is a plain name or address.
    pub fn upstream(&self, host: &str) -> Option<&Arc<CompiledUpstream>> {
        self.upstreams.get(host)
    }

    /// The Upstreams whose Targets' health is looked at, in no order.
    pub fn watched(&self) -> &Arc<[Arc<CompiledUpstream>]> {
        &self.watched
    }

    /// The balancers of Upstreams that have a Target by name, in no order.
    pub fn named(&self) -> &Arc<[Arc<Balancer>]> {
        &self.named
    }

    /// Every Upstream, in no order.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<CompiledUpstream>> {
        self.upstreams.values()
    }
}

const fn is_shared_between_threads<T: Send + Sync>() {}
const _: () = is_shared_between_threads::<Snapshot>();
const _: () = is_shared_between_threads::<Store>();
