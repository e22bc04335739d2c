// SPDX-License-Identifier: Apache-2.0
//! What does a configuration do with a request that is only described? Control reads its own snapshot with the workers' code and asks.

use pylae_core::http::head::parse_authority;
use pylae_core::http::headers::Headers;
use pylae_core::listener::connection::is_identity;
use pylae_core::phases::Phase;
use pylae_core::router::path::normalise;
use pylae_core::router::{Failed, Held, Near, RequestView, RouterOptions, Withheld};
use pylae_core::snapshot::model::{Route, Service};
use pylae_core::snapshot::{Account, Applied, CompiledUpstream, Id, PluginInfo, PluginRegistry, Snapshot, Store, frame_of};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyDict, PyList};
use serde::Deserialize;
use std::collections::HashSet;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Bytes of the length before a frame.
const FRAME_HEAD_BYTES: usize = 4;

/// A whole configuration, compiled.
#[pyclass(frozen)]
pub struct Configuration {
    snapshot: Arc<Snapshot>,
    registry: PluginRegistry,
    authenticating: HashSet<String>,
    warnings: Vec<String>,
}

fn bad(what: &str, error: impl Display) -> PyErr {
    PyValueError::new_err(format!("{what}: {error}"))
}

/// A setting whose values are names.
fn named<T: for<'de> Deserialize<'de>>(what: &str, name: &str) -> PyResult<T> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).map_err(|error| bad(what, error))
}

fn read_plugins(plugins: &[Bound<'_, PyDict>]) -> PyResult<(PluginRegistry, HashSet<String>)> {
    let mut authenticating = HashSet::new();
    let mut infos = Vec::with_capacity(plugins.len());
    for about in plugins {
        let get = |key: &str| about.get_item(key)?.ok_or_else(|| bad("plugins", format!("one lacks `{key}`")));
        let name: String = get("name")?.extract()?;
        let given = get("phases")?;
        let mut phases = 0;
        for phase in Phase::ALL {
            phases |= if given.contains(phase.name())? { phase.bit() } else { 0 };
        }
        infos.push(PluginInfo {
            name: name.as_str().into(),
            priority: get("priority")?.extract()?,
            phases,
            reads_body_limit_bytes: get("reads_body")?.extract()?,
            // Nobody shakes hands here.
            wants_client_certificate: false,
        });
        if about.get_item("authenticates")?.is_some_and(|authenticates| authenticates.is_truthy().unwrap_or(false)) {
            authenticating.insert(name);
        }
    }
    Ok((PluginRegistry::new(infos), authenticating))
}

#[pymethods]
impl Configuration {
    #[new]
    #[pyo3(signature = (message, *, router_flavor = "traditional_compatible", router_ranking = "kong", plugins = Vec::new()))]
    #[expect(clippy::needless_pass_by_value, reason = "what Python's list becomes is ours")]
    fn new(
        py: Python<'_>,
        message: PyBackedBytes,
        router_flavor: &str,
        router_ranking: &str,
        plugins: Vec<Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let options = RouterOptions { flavour: named("router_flavor", router_flavor)?, ranking: named("router_ranking", router_ranking)? };
        let (registry, authenticating) = read_plugins(&plugins)?;
        py.detach(move || {
            let body = message.get(FRAME_HEAD_BYTES..).unwrap_or_default();
            let (name, body) = frame_of(body).map_err(|error| bad("message", error))?;
            if name != "snapshot" {
                return Err(bad("message", format!("expected a snapshot, not `{name}`")));
            }
            let registry = Arc::new(registry);
            let mut store = Store::with_options(Arc::clone(&registry), options);
            store.apply_snapshot(body).map_err(|error| bad("message", error))?;
            let compiled = store.compile();
            drop(store);
            let registry = Arc::try_unwrap(registry).map_err(|_| bad("plugins", "still held"))?;
            Ok(Configuration { snapshot: compiled.snapshot, registry, authenticating, warnings: compiled.warnings })
        })
    }

    fn __repr__(&self) -> String {
        format!("<configuration {}>", self.snapshot.version)
    }

    #[getter]
    fn version(&self) -> (&str, u64) {
        (&self.snapshot.version.database_id, self.snapshot.version.sequence)
    }

    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    /// What a described request meets.
    #[pyo3(signature = (request, *, nearest = 5))]
    fn explain<'py>(&self, py: Python<'py>, request: &Bound<'py, PyDict>, nearest: usize) -> PyResult<Bound<'py, PyDict>> {
        let asked = Asked::new(&request.extract()?, request.contains("sni")?)?;
        let account = py.detach(|| asked.account(self, nearest));
        self.told(py, &account)
    }
}

/// A request as Python describes it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Description {
    method: String,
    scheme: String,
    #[pyo3(default)]
    host: Option<String>,
    path: String,
    headers: Vec<(String, Option<String>)>,
    #[pyo3(default)]
    query: Option<String>,
    #[pyo3(default)]
    hidden_query: Vec<String>,
    #[pyo3(default)]
    has_more_headers: bool,
    #[pyo3(default)]
    has_more_arguments: bool,
    #[pyo3(default)]
    client_ip: Option<String>,
    #[pyo3(default)]
    client_port: Option<u16>,
    #[pyo3(default)]
    listen_port: Option<u16>,
    #[pyo3(default)]
    local_address: Option<String>,
    #[pyo3(default)]
    sni: Option<String>,
    #[pyo3(default)]
    consumer_id: Option<String>,
    #[pyo3(default)]
    is_trusted: bool,
}

/// The same, read.
struct Asked {
    is_https: bool,
    /// Before a trusted proxy, it may be, if not here.
    is_https_to_client: bool,
    method: Vec<u8>,
    host: String,
    host_port: Option<u16>,
    path: Vec<u8>,
    headers: Headers,
    query: Option<Vec<u8>>,
    source: SocketAddr,
    listen_port: u16,
    local_address: IpAddr,
    sni: Option<String>,
    consumer: Option<Id>,
    withheld: Withheld,
}

fn address(what: &str, text: Option<&String>) -> PyResult<Option<IpAddr>> {
    text.map(|text| text.parse().map_err(|_| bad(what, "expected an IP address"))).transpose()
}

impl Asked {
    fn new(about: &Description, is_sni_known: bool) -> PyResult<Self> {
        let is_https = match about.scheme.as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(bad("scheme", "expected `http` or `https`")),
        };
        let (host, host_port) = match about.host.as_deref() {
            None => (String::new(), None),
            // As the listener has it of a request without a host.
            Some("") => ("pylae".to_owned(), None),
            Some(host) => parse_authority(host.as_bytes()).ok_or_else(|| bad("host", "expected a host, and perhaps a port"))?,
        };
        let path = normalise(about.path.as_bytes()).map_err(|error| bad("path", error))?.into_owned();
        let mut headers = Headers::new();
        let mut withheld = Withheld {
            headers: Headers::new(),
            query: about.hidden_query.join("&").into_bytes(),
            more_headers: about.has_more_headers,
            more_arguments: about.has_more_arguments,
            host: about.host.is_none(),
            listen_port: about.listen_port.is_none(),
            local_address: about.local_address.is_none(),
            source_address: about.client_ip.is_none(),
            source_port: about.client_port.is_none(),
            sni: !is_sni_known,
        };
        for (name, value) in &about.headers {
            if name.is_empty() || name.len() > usize::from(u16::MAX) {
                return Err(bad("headers", "expected names of 1 to 65535 bytes"));
            }
            if about.is_trusted || !is_identity(name.as_bytes()) {
                match value {
                    Some(value) => headers.add(name, value),
                    None => withheld.headers.add(name, ""),
                }
            }
        }
        let consumer = about.consumer_id.as_ref().map(|id| Id::parse(id).ok_or_else(|| bad("consumer_id", "expected a UUID")));
        let source_address = address("client_ip", about.client_ip.as_ref())?.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let is_https_to_client = about.is_trusted && headers.get("x-forwarded-proto") == Some(b"https");
        Ok(Asked {
            is_https,
            is_https_to_client,
            method: about.method.as_bytes().to_vec(),
            host,
            host_port,
            path,
            headers,
            query: about.query.as_ref().map(|query| query.as_bytes().to_vec()),
            source: SocketAddr::new(source_address, about.client_port.unwrap_or(0)),
            listen_port: about.listen_port.unwrap_or(0),
            local_address: address("local_address", about.local_address.as_ref())?.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
            sni: about.sni.clone().filter(|_| is_https),
            consumer: consumer.transpose()?,
            withheld,
        })
    }

    fn account(&self, configuration: &Configuration, nearest: usize) -> Account {
        let view = RequestView {
            is_https: self.is_https,
            method: &self.method,
            host: self.host.as_bytes(),
            host_port: self.host_port,
            listen_port: self.listen_port,
            path: &self.path,
            headers: &self.headers,
            sni: self.sni.as_deref().map(str::as_bytes),
            query: self.query.as_deref(),
            source: self.source,
            local_address: self.local_address,
        };
        let authenticates = |name: &str| configuration.authenticating.contains(name);
        let is_https = self.is_https || self.is_https_to_client;
        configuration.snapshot.explain(&configuration.registry, (&view, &self.withheld), is_https, self.consumer, &authenticates, nearest)
    }
}

// === as Python sees it ===

fn named_row<'py>(py: Python<'py>, id: Id, name: Option<&str>) -> PyResult<Bound<'py, PyDict>> {
    let row = PyDict::new(py);
    row.set_item("id", id.to_string())?;
    row.set_item("name", name)?;
    Ok(row)
}

fn of_route<'py>(py: Python<'py>, route: &Route) -> PyResult<Bound<'py, PyDict>> {
    named_row(py, route.id, route.name.as_deref())
}

fn of_service<'py>(py: Python<'py>, service: &Service) -> PyResult<Bound<'py, PyDict>> {
    let row = named_row(py, service.id, service.name.as_deref())?;
    row.set_item("protocol", service.protocol.name())?;
    row.set_item("host", &*service.host)?;
    row.set_item("port", service.port)?;
    row.set_item("path", service.path.as_deref())?;
    Ok(row)
}

fn of_upstream<'py>(py: Python<'py>, upstream: &CompiledUpstream) -> PyResult<Bound<'py, PyDict>> {
    let row = named_row(py, upstream.upstream.id, Some(&upstream.upstream.name))?;
    let targets = PyList::empty(py);
    for peer in upstream.balancer.peers().iter().chain(upstream.balancer.idle()) {
        let target = PyDict::new(py);
        target.set_item("id", peer.target.to_string())?;
        target.set_item("host", &*peer.host)?;
        target.set_item("port", peer.port)?;
        target.set_item("weight", peer.weight)?;
        targets.append(target)?;
    }
    row.set_item("targets", targets)?;
    Ok(row)
}

fn of_held<'py>(py: Python<'py>, held: &Held) -> PyResult<Bound<'py, PyDict>> {
    let row = PyDict::new(py);
    row.set_item("condition", &held.condition)?;
    row.set_item("value", &held.value)?;
    Ok(row)
}

fn of_failed<'py>(py: Python<'py>, failed: &Failed) -> PyResult<Bound<'py, PyDict>> {
    let row = PyDict::new(py);
    row.set_item("condition", &failed.condition)?;
    row.set_item("wanted", &failed.wanted)?;
    match failed.got.as_slice() {
        [(_, value)] => row.set_item("got", value)?,
        several => {
            let got = PyDict::new(py);
            for (field, value) in several {
                got.set_item(field, value)?;
            }
            row.set_item("got", got)?;
        }
    }
    Ok(row)
}

fn of_near<'py>(py: Python<'py>, near: &Near) -> PyResult<Bound<'py, PyDict>> {
    let row = of_route(py, &near.route)?;
    let failed = near.failed.iter().map(|failed| of_failed(py, failed)).collect::<PyResult<Vec<_>>>()?;
    row.set_item("failed", failed)?;
    Ok(row)
}

impl Configuration {
    fn told<'py>(&self, py: Python<'py>, account: &Account) -> PyResult<Bound<'py, PyDict>> {
        let routing = &account.routing;
        let told = PyDict::new(py);
        let route = routing.matched.as_ref().map(|matched| of_route(py, &matched.route)).transpose()?;
        if let Some(route) = &route {
            route.set_item("why", routing.why.iter().map(|held| of_held(py, held)).collect::<PyResult<Vec<_>>>()?)?;
        }
        told.set_item("route", route)?;
        let service = routing.matched.as_ref().and_then(|matched| matched.service.as_ref());
        told.set_item("service", service.map(|service| of_service(py, service)).transpose()?)?;
        told.set_item("upstream", account.upstream.as_ref().map(|upstream| of_upstream(py, upstream)).transpose()?)?;
        let path = account.upstream_path.as_ref().map(|path| String::from_utf8_lossy(path).into_owned());
        told.set_item("upstream_path", path)?;
        told.set_item("plugins", account.plugins.iter().map(|applied| self.of_plugin(py, applied)).collect::<PyResult<Vec<_>>>()?)?;
        told.set_item("status", account.status)?;
        told.set_item("fault", account.fault.map(|fault| fault.facts().name))?;
        told.set_item("outranked", routing.outranked.iter().map(|route| of_route(py, route)).collect::<PyResult<Vec<_>>>()?)?;
        told.set_item("nearest", routing.nearest.iter().map(|near| of_near(py, near)).collect::<PyResult<Vec<_>>>()?)?;
        told.set_item("unknown", &routing.unknown)?;
        told.set_item("open", routing.open.iter().map(Id::to_string).collect::<Vec<_>>())?;
        Ok(told)
    }

    fn of_plugin<'py>(&self, py: Python<'py>, applied: &Applied) -> PyResult<Bound<'py, PyDict>> {
        let instance = &applied.instance;
        let row = named_row(py, instance.id, Some(&instance.name))?;
        let scopes = [("route", instance.route), ("service", instance.service), ("consumer", instance.consumer)];
        let scopes: Vec<&str> = scopes.iter().filter(|(_, id)| id.is_some()).map(|(name, _)| *name).collect();
        row.set_item("scope", if scopes.is_empty() { "global".to_owned() } else { scopes.join("+") })?;
        row.set_item("reads_body", self.registry.get(instance.plugin).reads_body_limit_bytes > 0)?;
        row.set_item("authenticates", self.authenticating.contains(&*instance.name))?;
        row.set_item("depends_on_consumer", applied.depends_on_consumer)?;
        Ok(row)
    }
}
