// SPDX-License-Identifier: Apache-2.0
//! Which plugins does this worker run, and with which rows are they configured?

use super::hash::ConfigMap;
use super::id::Id;
use super::model::{Plugin, Raw};
use crate::resilience::{self, Policy};
use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A plugin's place in the [`PluginRegistry`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PluginIndex(pub u16);

/// What the core must know of a plugin.
#[derive(Debug, Clone)]
pub struct PluginInfo {
    /// The plugin's name.
    pub name: Arc<str>,
    /// Higher runs first.
    pub priority: i64,
    /// Bit of each phase it takes part in (`Phase::bit`).
    pub phases: u8,
    /// Bytes of the request body it wants to see; 0 = none.
    pub reads_body_limit_bytes: u64,
    /// Are clients asked for a certificate where a row of it applies?
    pub wants_client_certificate: bool,
}

/// The plugins loaded, and the order in which they run.
#[derive(Debug, Default)]
pub struct PluginRegistry {
    plugins: Vec<PluginInfo>,
    by_name: ConfigMap<Arc<str>, PluginIndex>,
    /// Falling priority, equal ones by falling name.
    order: Vec<PluginIndex>,
}

impl PluginRegistry {
    /// A registry of `plugins`; a plugin's index is its place in this list.
    pub fn new(plugins: Vec<PluginInfo>) -> Self {
        let by_name = plugins.iter().enumerate().map(|(at, plugin)| (plugin.name.clone(), PluginIndex(at as u16))).collect();
        let mut order: Vec<PluginIndex> = (0..plugins.len()).map(|at| PluginIndex(at as u16)).collect();
        order.sort_by(|a, b| {
            let (a, b) = (&plugins[usize::from(a.0)], &plugins[usize::from(b.0)]);
            b.priority.cmp(&a.priority).then_with(|| b.name.cmp(&a.name))
        });
        PluginRegistry { plugins, by_name, order }
    }

    /// The plugin of this name.
    pub fn find(&self, name: &str) -> Option<PluginIndex> {
        self.by_name.get(name).copied()
    }

    /// What is known of a plugin.
    ///
    /// # Panics
    /// When the index is of another registry.
    pub fn get(&self, index: PluginIndex) -> &PluginInfo {
        &self.plugins[usize::from(index.0)]
    }

    /// All plugins in the order they run.
    pub fn in_order(&self) -> &[PluginIndex] {
        &self.order
    }

    /// Number of plugins.
    pub fn len(&self) -> usize {
        self.plugins.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.plugins.is_empty()
    }
}

/// One row of `plugins`, ready to run. As long as its row does not change, the same `Arc` is in every snapshot.
pub struct PluginInstance {
    /// The row's primary key.
    pub id: Id,
    /// The plugin's name.
    pub name: Arc<str>,
    /// The plugin's place in the registry.
    pub plugin: PluginIndex,
    /// Bit of each phase the plugin takes part in.
    pub phases: u8,
    /// The `config` record, MessagePack.
    pub config: Arc<[u8]>,
    /// Applies to this Route only.
    pub route: Option<Id>,
    /// Applies to this Service only.
    pub service: Option<Id>,
    /// Applies to this Consumer only.
    pub consumer: Option<Id>,
    /// What a row of the plugin `resilience` asks for; none of any other plugin.
    pub policy: Option<Arc<Policy>>,
    /// What the host keeps for this instance, such as the config object it built; made on first use.
    pub host_data: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl fmt::Debug for PluginInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.id)
    }
}

/// A row of `plugins` as the store keeps it.
#[derive(Debug)]
pub(crate) struct PluginRow {
    pub(crate) row: Plugin,
    pub(crate) raw: Raw,
    /// None when this worker has no plugin of that name.
    pub(crate) instance: Option<Arc<PluginInstance>>,
    /// Why it has no effect although there is a plugin of that name.
    pub(crate) refused: Option<String>,
}

impl PluginRow {
    pub(crate) fn new(row: Plugin, raw: Raw, config: &[u8], registry: &PluginRegistry) -> Self {
        let mut refused = None;
        let instance = registry.find(&row.name).map(|plugin| {
            let is_policy = &*row.name == resilience::PLUGIN && registry.get(plugin).phases == 0;
            let policy = if is_policy {
                Policy::read(config).unwrap_or_else(|error| {
                    refused = Some(format!("plugins {}: `{}` has no effect: {error}", row.id, row.name));
                    None
                })
            } else {
                None
            };
            Arc::new(PluginInstance {
                id: row.id,
                name: row.name.clone(),
                plugin,
                phases: registry.get(plugin).phases,
                config: config.into(),
                route: row.route.map(|reference| reference.id),
                service: row.service.map(|reference| reference.id),
                consumer: row.consumer.map(|reference| reference.id),
                policy: policy.map(Arc::new),
                host_data: OnceLock::new(),
            })
        });
        PluginRow { row, raw, instance, refused }
    }

    /// The instance, if it counts for HTTP requests.
    pub(crate) fn active(&self) -> Option<&Arc<PluginInstance>> {
        let counts = self.row.enabled && self.row.protocols.iter().any(|protocol| protocol.is_http());
        // One that cannot be read leaves its place to a broader one.
        self.instance.as_ref().filter(|_| counts && self.refused.is_none())
    }
}
