// SPDX-License-Identifier: Apache-2.0
//! How does a message from the control process become the next snapshot? The rows, kept on the helper thread.

use super::hash::{ConfigMap, ConfigSet};
use super::message::{MessageError, Reader, write_array, write_map, write_string, write_unsigned};
use super::model::{Algorithm, Plugin, Raw, Route, Service, Target, Upstream};
use super::plugin::{PluginRegistry, PluginRow};
use super::{CompiledUpstream, Id, Snapshot, Version};
use crate::balancer::Balancer;
use crate::healthcheck::Rules;
use crate::phases::plan::Plan;
use crate::router::{CompiledRoute, RouteError, Router, RouterOptions};
use crate::tls::asking::Asking;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;

/// Why a message was not applied. The store is as it was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyError {
    /// The delta continues another state than the one held; the remedy is a whole snapshot.
    VersionMismatch {
        /// The state held.
        held: Version,
        /// The state the delta continues.
        from: Version,
    },
    /// The bytes are not such a message.
    Malformed(MessageError),
    /// A row does not have the form of its table.
    Row {
        /// The row's table.
        table: String,
        /// What is wrong, naming the field.
        detail: String,
    },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApplyError::VersionMismatch { held, from } => write!(f, "the delta continues {from}, but {held} is held"),
            ApplyError::Malformed(error) => error.fmt(f),
            ApplyError::Row { table, detail } => write!(f, "a row of `{table}` can't be read: {detail}"),
        }
    }
}

impl std::error::Error for ApplyError {}

impl From<MessageError> for ApplyError {
    fn from(error: MessageError) -> Self {
        ApplyError::Malformed(error)
    }
}

/// A cached row that is no longer what it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Invalidation {
    /// The row's table.
    pub table: String,
    /// A field by which rows are looked up.
    pub field: String,
    /// The field's old or new value.
    pub value: rmpv::Value,
}

/// A new snapshot, and what a person should know about it.
pub struct Compiled {
    /// The configuration, compiled.
    pub snapshot: Arc<Snapshot>,
    /// What is kept but has no effect: a plugin that is not loaded, a Route whose expression does not compile.
    pub warnings: Vec<String>,
}

/// Splits a frame into its name and the bytes of what follows: `["snapshot", {…}]`.
///
/// # Errors
/// The bytes are not such an array.
pub fn frame_of(bytes: &[u8]) -> Result<(&str, &[u8]), MessageError> {
    let mut reader = Reader::new(bytes);
    if reader.array()? != 2 {
        return Err(reader.error("expected an array of two elements"));
    }
    let name = reader.string()?;
    let body = reader.value()?;
    reader.end()?;
    Ok((name, body))
}

/// The rows of the configuration, with what is costly to compile. Lives on the helper thread.
pub struct Store {
    registry: Arc<PluginRegistry>,
    options: RouterOptions,
    version: Version,
    services: ConfigMap<Id, Arc<Service>>,
    routes: ConfigMap<Id, RouteRow>,
    plugins: ConfigMap<Id, PluginRow>,
    upstreams: ConfigMap<Id, UpstreamRow>,
    targets: ConfigMap<Id, Arc<Target>>,
    targets_of: ConfigMap<Id, ConfigSet<Id>>,
    made: Made,
}

/// What was compiled last, to be shared with the next snapshot as far as no row it is made of changed: most changes are of Consumers,
/// credentials or Targets, and a router of 10,000 Routes takes 10 ms.
#[derive(Default)]
struct Made {
    services: Option<Arc<ConfigMap<Id, Arc<Service>>>>,
    router: Option<(Arc<Router>, Vec<String>)>,
    /// A Route or Service changed since the router was made.
    router_is_stale: bool,
    plan: Option<(Arc<Plan>, Vec<String>)>,
    /// With what it was made of.
    asking: Option<(Arc<Router>, Arc<Plan>, Arc<Asking>)>,
    upstreams: Option<Upstreams>,
    /// Upstreams that changed since, or whose Targets did; of one that is gone or had another name, that name.
    changed_upstreams: ConfigSet<Id>,
    names_gone: Vec<Arc<str>>,
}

#[derive(Clone)]
struct Upstreams {
    by_name: Arc<ConfigMap<Arc<str>, Arc<CompiledUpstream>>>,
    watched: Arc<[Arc<CompiledUpstream>]>,
    named: Arc<[Arc<Balancer>]>,
    warnings: Vec<String>,
}

struct RouteRow {
    route: Arc<Route>,
    compiled: Result<Arc<CompiledRoute>, RouteError>,
}

struct UpstreamRow {
    upstream: Arc<Upstream>,
    rules: Arc<Rules>,
    balancer: Option<Arc<Balancer>>,
    /// A Target, a mark or the algorithm changed since the balancer was made.
    is_stale: bool,
    refused: Vec<String>,
}

impl UpstreamRow {
    fn algorithm(&self) -> Algorithm {
        self.upstream.algorithm.unwrap_or(Algorithm::RoundRobin)
    }
}

fn rules_of(upstream: &Upstream) -> Arc<Rules> {
    Arc::new(Rules::new(&upstream.healthchecks, upstream.host_header.as_deref()))
}

/// A change to one row, decoded and not yet made.
enum Change {
    Service(Arc<Service>),
    Route(Box<RouteRow>),
    Plugin(Box<PluginRow>),
    Upstream(Arc<Upstream>),
    Target(Arc<Target>),
    Delete(Table, Id),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Table {
    Services,
    Routes,
    Plugins,
    Upstreams,
    Targets,
}

impl Table {
    const ALL: [Table; 5] = [Table::Services, Table::Routes, Table::Plugins, Table::Upstreams, Table::Targets];

    fn name(self) -> &'static str {
        match self {
            Table::Services => "services",
            Table::Routes => "routes",
            Table::Plugins => "plugins",
            Table::Upstreams => "upstreams",
            Table::Targets => "targets",
        }
    }

    fn find(name: &str) -> Result<Table, ApplyError> {
        Table::ALL
            .into_iter()
            .find(|table| table.name() == name)
            .ok_or_else(|| ApplyError::Row { table: name.into(), detail: "snapshots carry no such table".into() })
    }
}

fn decode<T: DeserializeOwned>(table: Table, raw: &[u8]) -> Result<T, ApplyError> {
    rmp_serde::from_slice(raw).map_err(|error| ApplyError::Row { table: table.name().into(), detail: error.to_string() })
}

impl Store {
    /// An empty store for a worker with these plugins, whose Routes are in Kong's default flavour.
    pub fn new(registry: Arc<PluginRegistry>) -> Self {
        Store::with_options(registry, RouterOptions::default())
    }

    /// An empty store for a worker with these plugins, whose Routes are compiled so.
    pub fn with_options(registry: Arc<PluginRegistry>, options: RouterOptions) -> Self {
        Store {
            registry,
            options,
            version: Version::default(),
            services: ConfigMap::default(),
            routes: ConfigMap::default(),
            plugins: ConfigMap::default(),
            upstreams: ConfigMap::default(),
            targets: ConfigMap::default(),
            targets_of: ConfigMap::default(),
            made: Made::default(),
        }
    }

    /// The state held; no database and 0 before the first snapshot.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The plugins this worker runs.
    pub fn registry(&self) -> &Arc<PluginRegistry> {
        &self.registry
    }

    /// How Routes are compiled.
    pub fn options(&self) -> RouterOptions {
        self.options
    }

    /// Replaces everything: `{"version": [database_id, sequence], "entities": {table: [row, …], …}}`. Rows that are the same bytes as
    /// before keep what was compiled of them.
    ///
    /// # Errors
    /// The message can't be read whole; nothing changed.
    pub fn apply_snapshot(&mut self, body: &[u8]) -> Result<(), ApplyError> {
        let mut version = None;
        let mut changes = Vec::new();
        let mut reader = Reader::new(body);
        for _ in 0..reader.map()? {
            match reader.string()? {
                "version" => version = Some(read_version(&mut reader)?),
                "entities" => {
                    for _ in 0..reader.map()? {
                        let table = Table::find(reader.string()?)?;
                        for _ in 0..reader.array()? {
                            changes.push(self.read_row(table, reader.value()?)?);
                        }
                    }
                }
                _ => return Err(reader.error("a snapshot has no such key").into()),
            }
        }
        reader.end()?;
        let version = version.ok_or_else(|| reader.error("the snapshot has no version"))?;
        self.clear_all_but(&changes);
        for change in changes {
            self.make(change);
        }
        self.version = version;
        Ok(())
    }

    /// Makes the changes of `{"from": sequence, "to": sequence, "database_id": text, "changes": […], "invalidations": […]}` and
    /// returns what caches must forget.
    ///
    /// # Errors
    /// The delta does not continue the state held, or can't be read whole; nothing changed.
    pub fn apply_delta(&mut self, body: &[u8]) -> Result<Vec<Invalidation>, ApplyError> {
        let (mut from, mut to, mut database_id) = (None, None, None);
        let (mut changes_at, mut invalidations) = (None, Vec::new());
        let mut reader = Reader::new(body);
        for _ in 0..reader.map()? {
            match reader.string()? {
                "from" => from = Some(reader.unsigned()?),
                "to" => to = Some(reader.unsigned()?),
                "database_id" => database_id = Some(reader.string()?),
                "changes" => changes_at = Some(reader.value()?),
                "invalidations" => {
                    for _ in 0..reader.array()? {
                        invalidations.push(read_invalidation(&mut reader)?);
                    }
                }
                _ => return Err(reader.error("a delta has no such key").into()),
            }
        }
        reader.end()?;
        let (Some(from), Some(to), Some(database_id), Some(changes_at)) = (from, to, database_id, changes_at) else {
            return Err(reader.error("the delta lacks from, to, database_id or changes").into());
        };
        // The version is compared first: a delta for another state may speak of rows this one can't judge.
        let from = Version { database_id: database_id.into(), sequence: from };
        if from != self.version {
            return Err(ApplyError::VersionMismatch { held: self.version.clone(), from });
        }
        let mut reader = Reader::new(changes_at);
        let changes: Vec<Change> = (0..reader.array()?).map(|_| self.read_change(&mut reader)).collect::<Result<_, _>>()?;
        for change in changes {
            self.make(change);
        }
        self.version.sequence = to;
        Ok(invalidations)
    }

    fn read_change(&self, reader: &mut Reader<'_>) -> Result<Change, ApplyError> {
        if reader.array()? != 4 {
            return Err(reader.error("expected a change of four elements").into());
        }
        let table = Table::find(reader.string()?)?;
        let kind = reader.string()?;
        let id = reader.string()?;
        let id = Id::parse(id).ok_or_else(|| reader.error("expected a UUID"))?;
        match kind {
            "upsert" => self.read_row(table, reader.value()?),
            "delete" if reader.nil() => Ok(Change::Delete(table, id)),
            _ => Err(reader.error("expected `upsert` with a row or `delete` with nil").into()),
        }
    }

    fn read_row(&self, table: Table, bytes: &[u8]) -> Result<Change, ApplyError> {
        let raw = Raw(bytes.into());
        Ok(match table {
            Table::Services => Change::Service(Arc::new(Service { raw, ..decode(table, bytes)? })),
            Table::Routes => {
                let route = Arc::new(Route { raw, ..decode(table, bytes)? });
                let kept = self.routes.get(&route.id).filter(|row| row.route.raw == route.raw);
                Change::Route(Box::new(match kept {
                    Some(row) => RouteRow { route: row.route.clone(), compiled: row.compiled.clone() },
                    None => {
                        let before = self.routes.get(&route.id).and_then(|row| row.compiled.as_ref().ok());
                        let compiled = match before.and_then(|before| before.renewed(&route)) {
                            Some(renewed) => Ok(renewed),
                            None => CompiledRoute::new(route.clone(), self.options),
                        };
                        RouteRow { route, compiled: compiled.map(Arc::new) }
                    }
                }))
            }
            Table::Plugins => {
                let row: Plugin = decode(table, bytes)?;
                let config = config_of(bytes)?;
                let mut plugin = PluginRow::new(row, raw, config, &self.registry);
                if let Some(kept) = self.plugins.get(&plugin.row.id).filter(|row| row.raw == plugin.raw) {
                    plugin.instance.clone_from(&kept.instance);
                }
                Change::Plugin(Box::new(plugin))
            }
            Table::Upstreams => Change::Upstream(Arc::new(Upstream { raw, ..decode(table, bytes)? })),
            Table::Targets => Change::Target(Arc::new(Target { raw, ..decode(table, bytes)? })),
        })
    }

    /// Drops the rows that no change puts there again.
    fn clear_all_but(&mut self, changes: &[Change]) {
        let mut kept: [ConfigSet<Id>; 5] = Default::default();
        for change in changes {
            let (table, id) = match change {
                Change::Service(row) => (Table::Services, row.id),
                Change::Route(row) => (Table::Routes, row.route.id),
                Change::Plugin(row) => (Table::Plugins, row.row.id),
                Change::Upstream(row) => (Table::Upstreams, row.id),
                Change::Target(row) => (Table::Targets, row.id),
                Change::Delete(..) => continue,
            };
            kept[table as usize].insert(id);
        }
        let gone = |table: Table, ids: &mut dyn Iterator<Item = &Id>| -> Vec<Change> {
            ids.filter(|id| !kept[table as usize].contains(*id)).map(|id| Change::Delete(table, *id)).collect()
        };
        let deletions = [
            gone(Table::Services, &mut self.services.keys()),
            gone(Table::Routes, &mut self.routes.keys()),
            gone(Table::Plugins, &mut self.plugins.keys()),
            gone(Table::Upstreams, &mut self.upstreams.keys()),
            gone(Table::Targets, &mut self.targets.keys()),
        ];
        for deletion in deletions.into_iter().flatten() {
            self.make(deletion);
        }
    }

    /// Puts a row where it belongs; what was compiled of it, if it is another than before, is made anew.
    fn make(&mut self, change: Change) {
        match change {
            Change::Service(row) => {
                let before = self.services.get(&row.id);
                if before.is_some_and(|before| before.raw == row.raw) {
                    return;
                }
                if before.is_none_or(|before| before.enabled != row.enabled) {
                    self.made.plan = None;
                }
                self.made.services = None;
                self.made.router_is_stale = true;
                self.services.insert(row.id, row);
            }
            Change::Route(row) => {
                let before = self.routes.get(&row.route.id);
                if before.is_some_and(|before| before.route.raw == row.route.raw) {
                    return;
                }
                let is_same_to_plugins =
                    |before: &RouteRow| before.route.service == row.route.service && before.compiled.is_ok() == row.compiled.is_ok();
                if !before.is_some_and(is_same_to_plugins) {
                    self.made.plan = None;
                }
                self.made.router_is_stale = true;
                self.routes.insert(row.route.id, *row);
            }
            Change::Plugin(row) => {
                if self.plugins.get(&row.row.id).is_some_and(|before| before.raw == row.raw) {
                    return;
                }
                self.made.plan = None;
                self.plugins.insert(row.row.id, *row);
            }
            Change::Upstream(row) => {
                let id = row.id;
                match self.upstreams.get_mut(&row.id) {
                    Some(kept) if kept.upstream.raw == row.raw => return,
                    Some(kept) => {
                        if kept.upstream.name != row.name {
                            self.made.names_gone.push(kept.upstream.name.clone());
                        }
                        kept.is_stale |= kept.upstream.algorithm != row.algorithm;
                        kept.rules = rules_of(&row);
                        kept.upstream = row;
                    }
                    None => {
                        let rules = rules_of(&row);
                        self.upstreams
                            .insert(row.id, UpstreamRow { upstream: row, rules, balancer: None, is_stale: true, refused: Vec::new() });
                    }
                }
                self.made.changed_upstreams.insert(id);
            }
            Change::Target(row) => {
                let before = self.targets.insert(row.id, row.clone());
                if let Some(before) = before.as_ref().filter(|before| before.upstream != row.upstream) {
                    self.leave_upstream(before.upstream.id, row.id);
                }
                self.targets_of.entry(row.upstream.id).or_default().insert(row.id);
                if before.as_ref().is_none_or(|before| differs(before, &row)) {
                    self.forget_balancer(row.upstream.id);
                    if let Some(before) = before {
                        self.forget_balancer(before.upstream.id);
                    }
                }
            }
            Change::Delete(Table::Services, id) => {
                if self.services.remove(&id).is_some() {
                    self.made.services = None;
                    self.made.router_is_stale = true;
                    self.made.plan = None;
                }
            }
            Change::Delete(Table::Routes, id) => {
                if self.routes.remove(&id).is_some() {
                    self.made.router_is_stale = true;
                    self.made.plan = None;
                }
            }
            Change::Delete(Table::Plugins, id) => {
                if self.plugins.remove(&id).is_some() {
                    self.made.plan = None;
                }
            }
            Change::Delete(Table::Upstreams, id) => {
                if let Some(gone) = self.upstreams.remove(&id) {
                    self.made.names_gone.push(gone.upstream.name.clone());
                    self.made.changed_upstreams.insert(id);
                }
            }
            Change::Delete(Table::Targets, id) => {
                if let Some(target) = self.targets.remove(&id) {
                    self.leave_upstream(target.upstream.id, id);
                    self.forget_balancer(target.upstream.id);
                }
            }
        }
    }

    fn forget_balancer(&mut self, upstream: Id) {
        if let Some(row) = self.upstreams.get_mut(&upstream) {
            row.is_stale = true;
            self.made.changed_upstreams.insert(upstream);
        }
    }

    fn leave_upstream(&mut self, upstream: Id, target: Id) {
        if let Some(targets) = self.targets_of.get_mut(&upstream) {
            targets.remove(&target);
            if targets.is_empty() {
                self.targets_of.remove(&upstream);
            }
        }
    }

    /// Compiles the state held. What did not change since the last time is shared with the snapshots before.
    pub fn compile(&mut self) -> Compiled {
        let upstreams = self.compile_upstreams();
        let (router, of_router) = self.compile_router();
        let (plan, of_plan) = self.compile_plan(&router);
        let asking = self.compile_asking(&router, &plan);
        let services = Arc::clone(self.made.services.get_or_insert_with(|| Arc::new(self.services.clone())));
        let mut warnings = [upstreams.warnings.as_slice(), &of_router, &of_plan].concat();
        warnings.sort_unstable();
        let Upstreams { by_name: upstreams, watched, named, .. } = upstreams;
        let snapshot = Snapshot { version: self.version.clone(), router, plan, asking, services, upstreams, watched, named };
        Compiled { snapshot: Arc::new(snapshot), warnings }
    }

    /// Of 10,000 Upstreams with ten Targets each one change is worked out for its Upstream alone.
    fn compile_upstreams(&mut self) -> Upstreams {
        if let Some(made) = &self.made.upstreams
            && self.made.changed_upstreams.is_empty()
        {
            return made.clone();
        }
        let changed = std::mem::take(&mut self.made.changed_upstreams);
        let before = self.made.upstreams.take();
        let mut by_name = before.map_or_else(ConfigMap::default, |before| Arc::unwrap_or_clone(before.by_name));
        for name in self.made.names_gone.drain(..) {
            by_name.remove(&name);
        }
        for id in changed {
            let Some(row) = self.upstreams.get_mut(&id) else { continue };
            if row.is_stale {
                let targets = self.targets_of.get(&id).into_iter().flatten().filter_map(|id| self.targets.get(id).map(Arc::as_ref));
                let (balancer, refused) = Balancer::new(row.algorithm(), targets, row.balancer.as_deref());
                row.balancer = Some(Arc::new(balancer));
                row.is_stale = false;
                row.refused = refused;
            }
            if let Some(balancer) = &row.balancer {
                let upstream = CompiledUpstream { upstream: row.upstream.clone(), rules: row.rules.clone(), balancer: balancer.clone() };
                by_name.insert(row.upstream.name.clone(), Arc::new(upstream));
            }
        }
        let warnings = self.upstreams.values().flat_map(|row| row.refused.iter().cloned()).collect();
        let watched = by_name.values().filter(|upstream| upstream.rules.is_on).cloned().collect();
        let named = by_name.values().map(|upstream| &upstream.balancer).filter(|balancer| balancer.has_names()).cloned().collect();
        let made = Upstreams { by_name: Arc::new(by_name), watched, named, warnings };
        self.made.upstreams = Some(made.clone());
        made
    }

    fn compile_router(&mut self) -> (Arc<Router>, Vec<String>) {
        if let Some(made) = &self.made.router
            && !self.made.router_is_stale
        {
            return made.clone();
        }
        let mut warnings = Vec::new();
        let routes = self.compile_routes(&mut warnings);
        let router = match &self.made.router {
            Some((before, _)) => before.renewed(routes),
            None => Router::new(routes, self.options),
        };
        let made = (Arc::new(router), warnings);
        self.made.router = Some(made.clone());
        self.made.router_is_stale = false;
        made
    }

    fn compile_routes(&self, warnings: &mut Vec<String>) -> Vec<(Arc<CompiledRoute>, Option<Arc<Service>>)> {
        let mut routes = Vec::with_capacity(self.routes.len());
        for row in self.routes.values() {
            let service = match row.route.service {
                None => None,
                Some(reference) => match self.services.get(&reference.id) {
                    // Requests to a disabled Service are answered as if its Routes were not there.
                    Some(service) if !service.enabled => continue,
                    Some(service) => Some(service.clone()),
                    None => {
                        warnings.push(format!("routes {}: its service {} is not there", row.route.id, reference.id));
                        continue;
                    }
                },
            };
            match &row.compiled {
                Ok(compiled) => routes.push((compiled.clone(), service)),
                Err(error) => warnings.push(error.to_string()),
            }
        }
        routes
    }

    fn compile_plan(&mut self, router: &Router) -> (Arc<Plan>, Vec<String>) {
        if let Some(made) = &self.made.plan {
            return made.clone();
        }
        let mut warnings = Vec::new();
        for row in self.plugins.values().filter(|row| row.instance.is_none() && row.row.enabled) {
            warnings.push(format!("plugins {}: `{}` is not loaded, so this row has no effect", row.row.id, row.row.name));
        }
        warnings.extend(self.plugins.values().filter(|row| row.row.enabled).filter_map(|row| row.refused.clone()));
        let ids = router.routes().map(|route| (route.id, route.service.map(|reference| reference.id)));
        let plan = Plan::new(&self.registry, self.plugins.values().filter_map(PluginRow::active), ids);
        let made = (Arc::new(plan), warnings);
        self.made.plan = Some(made.clone());
        made
    }

    fn compile_asking(&mut self, router: &Arc<Router>, plan: &Arc<Plan>) -> Arc<Asking> {
        if let Some((of_router, of_plan, asking)) = &self.made.asking
            && Arc::ptr_eq(of_router, router)
            && Arc::ptr_eq(of_plan, plan)
        {
            return Arc::clone(asking);
        }
        let asking = Arc::new(Asking::new(&self.registry, plan, router.routes()));
        self.made.asking = Some((Arc::clone(router), Arc::clone(plan), Arc::clone(&asking)));
        asking
    }

    /// The state held as the body of a `snapshot` frame, rows in the order of their ids.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write_map(&mut out, 2);
        write_string(&mut out, "version");
        write_array(&mut out, 2);
        write_string(&mut out, &self.version.database_id);
        write_unsigned(&mut out, self.version.sequence);
        write_string(&mut out, "entities");
        write_map(&mut out, Table::ALL.len());
        for table in Table::ALL {
            let mut rows: Vec<(Id, &Raw)> = match table {
                Table::Services => self.services.values().map(|row| (row.id, &row.raw)).collect(),
                Table::Routes => self.routes.values().map(|row| (row.route.id, &row.route.raw)).collect(),
                Table::Plugins => self.plugins.values().map(|row| (row.row.id, &row.raw)).collect(),
                Table::Upstreams => self.upstreams.values().map(|row| (row.upstream.id, &row.upstream.raw)).collect(),
                Table::Targets => self.targets.values().map(|row| (row.id, &row.raw)).collect(),
            };
            rows.sort_unstable_by_key(|(id, _)| *id);
            write_string(&mut out, table.name());
            write_array(&mut out, rows.len());
            for (_, raw) in rows {
                out.extend_from_slice(&raw.0);
            }
        }
        out
    }

    /// The same as a whole frame: `["snapshot", {…}]`.
    pub fn encode_frame(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write_array(&mut out, 2);
        write_string(&mut out, "snapshot");
        out.extend_from_slice(&self.encode());
        out
    }
}

/// Does the balancer see a difference?
fn differs(before: &Target, after: &Target) -> bool {
    before.upstream != after.upstream || before.target != after.target || before.weight != after.weight
}

fn read_version(reader: &mut Reader<'_>) -> Result<Version, ApplyError> {
    if reader.array()? != 2 {
        return Err(reader.error("expected a version of two elements").into());
    }
    Ok(Version { database_id: reader.string()?.into(), sequence: reader.unsigned()? })
}

fn read_invalidation(reader: &mut Reader<'_>) -> Result<Invalidation, ApplyError> {
    if reader.array()? != 3 {
        return Err(reader.error("expected an invalidation of three elements").into());
    }
    let (table, field) = (reader.string()?.into(), reader.string()?.into());
    let mut bytes = reader.value()?;
    let value = rmpv::decode::read_value(&mut bytes).map_err(|_| reader.error("expected a value"))?;
    Ok(Invalidation { table, field, value })
}

/// The bytes of a plugin row's `config`.
fn config_of(row: &[u8]) -> Result<&[u8], ApplyError> {
    let mut reader = Reader::new(row);
    for _ in 0..reader.map()? {
        let is_config = reader.string()? == "config";
        let value = reader.value()?;
        if is_config {
            return Ok(value);
        }
    }
    Err(reader.error("the row has no config").into())
}

#[cfg(test)]
mod tests;
