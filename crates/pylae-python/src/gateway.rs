// SPDX-License-Identifier: Apache-2.0
//! How does a worker's Python start and steer the data plane?

use crate::call_handler::{Definition, LogSink, PythonHost, describe};
use crate::event_loop;
use arc_swap::ArcSwap;
use pylae_core::config::DataPlaneSettings;
use pylae_core::exchange::ExchangeRef;
use pylae_core::gateway::Gateway as Core;
use pylae_core::line::{self, Event, Line, LineSettings};
use pylae_core::listener::{self, Listener};
use pylae_core::observe::Level;
use pylae_core::phases::Phase;
use pylae_core::snapshot::{PluginInfo, PluginRegistry, Store};
use pylae_shared::counters::Window;
use pylae_shared::{Segment, Statistic};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use serde::Deserialize;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

pyo3::create_exception!(_core, CallFailed, pyo3::exceptions::PyException, "The control process could not be asked, or refused.");

/// A worker whose sibling was silent this long accepts in its place.
const STRANDED_AFTER_MS: u64 = 1000;
/// How often a worker says that it is alive.
const HEARTBEAT: Duration = Duration::from_millis(200);

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// One line of `error.log` for an exchange.
pub fn log_exchange(level: &str, exchange: &ExchangeRef, message: &str) {
    CURRENT.with_borrow(|core| {
        if let Some(core) = core {
            core.logs.log_exchange(Level::parse(level), &exchange.borrow(), message, "");
        }
    });
}

#[derive(Deserialize)]
struct ListenerSpec {
    purpose: String,
    port: u16,
    flags: Vec<String>,
    fds: Vec<RawFd>,
}

/// One worker's data plane, steered from Python.
#[pyclass(unsendable, module = "pylae._core")]
pub struct Gateway {
    settings: DataPlaneSettings,
    listeners: Vec<ListenerSpec>,
    worker_index: usize,
    generation: u64,
    segment: Arc<Segment>,
    parent_fd: RawFd,
    ready_fd: Option<RawFd>,
    definitions: RefCell<Option<Vec<Definition>>>,
    registry: Arc<PluginRegistry>,
    line: RefCell<Option<Line>>,
    core: RefCell<Option<Rc<Core>>>,
    /// Called on the data-plane thread with rows to forget.
    #[pyo3(get, set)]
    on_invalidate: Option<Py<PyAny>>,
}

fn definition_of(py: Python<'_>, about: &Bound<'_, PyDict>) -> PyResult<(Definition, PluginInfo)> {
    let get = |key: &str| about.get_item(key)?.ok_or_else(|| PyValueError::new_err(format!("a plugin definition lacks `{key}`")));
    let name: String = get("name")?.extract()?;
    let hooks_given = get("phases")?;
    let mut hooks: [Option<Py<PyAny>>; 7] = [const { None }; 7];
    let mut bits = 0;
    let mut labels: [String; 7] = Default::default();
    for phase in Phase::ALL {
        labels[phase as usize] = format!("{name} {}", phase.name());
        if let Ok(hook) = hooks_given.get_item(phase.name())
            && !hook.is_none()
        {
            hooks[phase as usize] = Some(hook.unbind());
            bits |= phase.bit();
        }
    }
    if bits & Phase::Response.bit() != 0 && bits & (Phase::HeaderFilter.bit() | Phase::BodyFilter.bit()) != 0 {
        return Err(PyValueError::new_err(format!("plugin {name} has both a `response` phase and a header or body filter")));
    }
    let reads_body: u64 = get("reads_body")?.extract()?;
    let body_limit = about.get_item("body_limit")?.filter(|limit| !limit.is_none()).map(Bound::unbind);
    let info = PluginInfo { name: name.as_str().into(), priority: get("priority")?.extract()?, phases: bits, reads_body_limit_bytes: reads_body };
    let definition = Definition { name, hooks, labels, build_config: get("build_config")?.unbind(), body_limit, reads_body };
    let _ = py;
    Ok((definition, info))
}

#[pymethods]
impl Gateway {
    /// `settings` and `listeners` are JSON texts: the data plane's settings, and the listeners the supervisor opened.
    #[new]
    #[pyo3(signature = (*, settings, listeners, worker_index, generation, shared_fd, parent_fd, plugins, ready_fd = None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn new(
        py: Python<'_>,
        settings: &str,
        listeners: &str,
        worker_index: usize,
        generation: u64,
        shared_fd: RawFd,
        parent_fd: RawFd,
        plugins: &Bound<'_, PyList>,
        ready_fd: Option<RawFd>,
    ) -> PyResult<Self> {
        let bad = |what: &str, error: &dyn std::fmt::Display| PyValueError::new_err(format!("{what}: {error}"));
        let settings: DataPlaneSettings = serde_json::from_str(settings).map_err(|error| bad("settings of the data plane", &error))?;
        let listeners: Vec<ListenerSpec> = serde_json::from_str(listeners).map_err(|error| bad("listeners", &error))?;
        let mut definitions = Vec::new();
        let mut infos = Vec::new();
        for about in plugins.iter() {
            let (definition, info) = definition_of(py, about.cast::<PyDict>()?)?;
            definitions.push(definition);
            infos.push(info);
        }
        Ok(Gateway {
            settings,
            listeners: listeners.into_iter().filter(|listener| listener.purpose == "proxy").collect(),
            worker_index,
            generation,
            segment: Arc::new(Segment::open(shared_fd)?),
            parent_fd,
            ready_fd,
            definitions: RefCell::new(Some(definitions)),
            registry: Arc::new(PluginRegistry::new(infos)),
            line: RefCell::new(None),
            core: RefCell::new(None),
            on_invalidate: None,
        })
    }

    fn __repr__(&self) -> String {
        format!("<gateway worker {} generation {}>", self.worker_index, self.generation)
    }

    /// Sets everything up on this thread and this asyncio loop; then the loop is run for ever and the data plane with it.
    /// `on_drained` is called, on the loop, once the last request is served.
    fn start(slf: &Bound<'_, Self>, py: Python<'_>, loop_: Py<PyAny>, on_drained: Py<PyAny>) -> PyResult<()> {
        let this = slf.borrow();
        let definitions = this.definitions.borrow_mut().take().ok_or_else(|| PyRuntimeError::new_err("started twice"))?;
        let inner = event_loop::inner()?;
        let _guard = inner.runtime.enter();

        let log: LogSink = Rc::default();
        let host = PythonHost::new(py, definitions, Arc::clone(&this.segment), this.worker_index, loop_.clone_ref(py), Rc::clone(&log))?;
        let mut empty = Store::new(Arc::clone(&this.registry));
        let served = Arc::new(ArcSwap::new(empty.compile().snapshot));
        let seed = random_bits()?;
        let core = Core::new(this.settings.clone(), Arc::clone(&served), Box::new(host), seed);
        let sink = Rc::downgrade(&core);
        *log.borrow_mut() = Some(Box::new(move |level, text| {
            if let Some(core) = sink.upgrade() {
                core.logs.log(level, text);
            }
        }));
        CURRENT.set(Some(Rc::clone(&core)));

        let mut listeners = Vec::new();
        let mut tls = None;
        for spec in &this.listeners {
            let wants_tls = spec.flags.iter().any(|flag| flag == "ssl");
            if wants_tls && tls.is_none() {
                let config = pylae_core::tls::server_config(&this.settings.ssl_certificates);
                tls = Some(config.map_err(PyRuntimeError::new_err)?);
            }
            let mut sockets = Vec::new();
            for &fd in &spec.fds {
                // SAFETY: the supervisor passed these descriptors to this process for us alone; each is taken once.
                let socket = std::net::TcpListener::from(unsafe { OwnedFd::from_raw_fd(fd) });
                socket.set_nonblocking(true)?;
                sockets.push(Rc::new(TcpListener::from_std(socket)?));
            }
            listeners.push(Rc::new(Listener { port: spec.port, tls: if wants_tls { tls.clone() } else { None }, sockets }));
        }

        let line_settings = LineSettings {
            socket: this.settings.prefix.join("sockets/control.sock"),
            snapshot_file: this.settings.prefix.join("snapshot.bin"),
            worker: this.worker_index,
            generation: this.generation,
        };
        let (line, mut events) = line::start(line_settings, Arc::clone(&this.registry), served)?;
        *this.line.borrow_mut() = Some(line.clone());
        *this.core.borrow_mut() = Some(Rc::clone(&core));
        let (segment, slot) = (Arc::clone(&this.segment), this.worker_index);
        let (ready_fd, parent_fd, generation) = (this.ready_fd, this.parent_fd, this.generation);
        let drain_timeout = Duration::from_millis(this.settings.drain_timeout_ms);
        drop(this);

        // The helper thread's events: the first configuration opens the doors.
        let gateway = slf.clone().unbind();
        let (core_for_events, segment_for_events) = (Rc::clone(&core), Arc::clone(&segment));
        inner.local.spawn_local(async move {
            let mut listeners = Some(listeners);
            while let Some(event) = events.recv().await {
                match event {
                    Event::Served => {
                        if let Some(listeners) = listeners.take() {
                            segment_for_events.enter(slot, generation);
                            let watched = Arc::clone(&segment_for_events);
                            let is_stranded: listener::IsStranded = Rc::new(move |other| {
                                other >= watched.worker_slots() || watched.heartbeat_age_ms(other).is_none_or(|age| age > STRANDED_AFTER_MS)
                            });
                            tokio::task::spawn_local(listener::run(Rc::clone(&core_for_events), listeners, slot, is_stranded));
                            if let Some(fd) = ready_fd {
                                // SAFETY: the supervisor's pipe, ours to write to.
                                unsafe { libc::write(fd, c"1".as_ptr().cast(), 1) };
                            }
                        }
                    }
                    Event::Invalidate(rows) => Python::attach(|py| {
                        if let Err(error) = invalidate(py, &gateway, rows) {
                            core_for_events.logs.log(Level::Error, &format!("cached rows could not be forgotten: {}", describe(py, &error)));
                        }
                    }),
                    Event::Log(level, text) => core_for_events.logs.log(level, &text),
                }
            }
        });
        inner.local.spawn_local(beat(Rc::clone(&core), Arc::clone(&segment), slot, generation, line));
        inner.local.spawn_local(Rc::clone(&core).housekeeping());
        inner.local.spawn_local(watch_parent(Rc::clone(&core), parent_fd));
        inner.local.spawn_local(async move {
            leave(&core, drain_timeout).await;
            if segment.generation(slot) == generation {
                segment.clear(slot);
            }
            Python::attach(|py| {
                let _ = loop_.call_method1(py, "call_soon", (on_drained,));
            });
            event_loop::wake();
        });
        Ok(())
    }

    /// Serves what is in flight, takes nothing new, then ends.
    fn drain(&self) {
        if let Some(core) = self.core.borrow().as_ref() {
            core.drain.begin();
        }
    }

    /// Opens the log files anew.
    fn reopen_logs(&self) {
        if let Some(core) = self.core.borrow().as_ref() {
            core.logs.reopen();
        }
    }

    /// Asks control; an awaitable of MessagePack bytes.
    fn call<'py>(&self, py: Python<'py>, operation: String, args: Vec<u8>, timeout_ms: u64) -> PyResult<Bound<'py, PyAny>> {
        let line = self.line.borrow().clone().ok_or_else(|| PyRuntimeError::new_err("the gateway has not started"))?;
        let running = py.import(pyo3::intern!(py, "asyncio"))?.call_method0(pyo3::intern!(py, "get_running_loop"))?;
        let future = running.call_method0(pyo3::intern!(py, "create_future"))?;
        let waiting = future.clone().unbind();
        event_loop::inner()?.local.spawn_local(async move {
            let outcome = line.call(&operation, args, Duration::from_millis(timeout_ms)).await;
            Python::attach(|py| {
                let future = waiting.bind(py);
                if future.call_method0("done").and_then(|done| done.extract::<bool>()).unwrap_or(true) {
                    return;
                }
                let set = match outcome {
                    Ok(bytes) => future.call_method1("set_result", (PyBytes::new(py, &bytes),)),
                    Err(error) => {
                        let raised = CallFailed::new_err((error.name, error.message));
                        future.call_method1("set_exception", (raised.into_value(py),))
                    }
                };
                let _ = set;
            });
            event_loop::wake();
        });
        Ok(future)
    }

    /// Hands an item to control, some time; `False`: dropped and counted.
    fn stream(&self, channel: &str, item: &[u8]) -> bool {
        self.line.borrow().as_ref().is_some_and(|line| line.stream(channel, item.to_vec()))
    }

    /// Counts `cost` in every window `(limit, start_ms, end_ms)`, or in none when one would go over its limit.
    #[pyo3(signature = (identifier, limits, cost = 1))]
    fn counters_take<'py>(&self, py: Python<'py>, identifier: &[u8], limits: Vec<(u64, u64, u64)>, cost: u64) -> PyResult<Bound<'py, PyTuple>> {
        let windows: Vec<Window> = limits.into_iter().map(|(limit, start_ms, end_ms)| Window { limit, start_ms, end_ms }).collect();
        let (allowed, usages) = self.segment.take(identifier, &windows, cost, pylae_core::clock::now_ms());
        (allowed, usages).into_pyobject(py)
    }

    /// What each window has, unchanged.
    fn counters_read(&self, identifier: &[u8], limits: Vec<(u64, u64, u64)>) -> Vec<u64> {
        let now = pylae_core::clock::now_ms();
        limits.into_iter().map(|(limit, start_ms, end_ms)| self.segment.read(identifier, &Window { limit, start_ms, end_ms }, now)).collect()
    }

    /// One line of `error.log`.
    fn log(&self, level: &str, message: &str) {
        if let Some(core) = self.core.borrow().as_ref() {
            core.logs.log(Level::parse(level), &message.replace(['\n', '\r'], " "));
        }
    }

    /// `(database id, sequence)` of the configuration served; the id is empty before the first.
    fn version(&self) -> (String, u64) {
        self.core.borrow().as_ref().map_or_else(Default::default, |core| {
            let snapshot = core.snapshot.load();
            (snapshot.version.database_id.clone(), snapshot.version.sequence)
        })
    }
}

fn invalidate(py: Python<'_>, gateway: &Py<Gateway>, rows: Option<Vec<pylae_core::snapshot::Invalidation>>) -> PyResult<()> {
    let callback = gateway.borrow(py).on_invalidate.as_ref().map(|callback| callback.clone_ref(py));
    let Some(callback) = callback else { return Ok(()) };
    let argument = match rows {
        None => py.None(),
        Some(rows) => {
            let list = PyList::empty(py);
            for row in rows {
                let mut bytes = Vec::new();
                rmpv::encode::write_value(&mut bytes, &row.value).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
                let value = py.import("msgspec.msgpack")?.call_method1("decode", (PyBytes::new(py, &bytes),))?;
                list.append((row.table, row.field, value))?;
            }
            list.into_any().unbind()
        }
    };
    callback.call1(py, (argument,))?;
    Ok(())
}

fn random_bits() -> PyResult<u128> {
    let mut bytes = [0u8; 16];
    // SAFETY: the buffer is 16 bytes long.
    if unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), 16, 0) } != 16 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(u128::from_ne_bytes(bytes))
}

/// Says that the data-plane thread is alive, and brings its counts into the segment.
async fn beat(core: Rc<Core>, segment: Arc<Segment>, slot: usize, generation: u64, line: Line) {
    let mut tick = tokio::time::interval(HEARTBEAT);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let base: HashMap<usize, u64> = [Statistic::Accepted, Statistic::Handled, Statistic::Requests, Statistic::StreamLost, Statistic::LogLinesLost]
        .into_iter()
        .map(|statistic| (statistic as usize, segment.statistic(slot, statistic).load(Ordering::Relaxed)))
        .collect();
    let serving = Cell::new(false);
    loop {
        tick.tick().await;
        if core.drain.is_begun() {
            return;
        }
        let ours = segment.generation(slot) == generation && segment.pid(slot) == u64::from(std::process::id());
        serving.set(ours);
        if !serving.get() {
            continue;
        }
        segment.beat(slot);
        let counts = &core.statistics;
        let total = |statistic: Statistic, value: u64| {
            let before = base.get(&(statistic as usize)).copied().unwrap_or(0);
            segment.statistic(slot, statistic).store(before + value, Ordering::Relaxed);
        };
        total(Statistic::Accepted, counts.accepted.get());
        total(Statistic::Handled, counts.handled.get());
        total(Statistic::Requests, counts.requests.get());
        total(Statistic::StreamLost, line.lost());
        total(Statistic::LogLinesLost, core.logs.lost());
        for (statistic, value) in [
            (Statistic::Active, counts.active.get()),
            (Statistic::Reading, counts.reading.get()),
            (Statistic::Writing, counts.writing.get()),
            (Statistic::Waiting, counts.waiting.get()),
        ] {
            segment.statistic(slot, statistic).store(value, Ordering::Relaxed);
        }
    }
}

/// The supervisor is gone when its pipe closes: drain and leave.
async fn watch_parent(core: Rc<Core>, fd: RawFd) {
    // SAFETY: the supervisor passed this descriptor to us alone.
    let pipe = unsafe { OwnedFd::from_raw_fd(fd) };
    let Ok(mut pipe) = tokio::net::unix::pipe::Receiver::from_owned_fd(pipe) else { return };
    let mut byte = [0u8; 1];
    loop {
        match tokio::io::AsyncReadExt::read(&mut pipe, &mut byte).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    core.logs.log(Level::Notice, "the supervisor is gone: draining");
    core.drain.begin();
}

/// Waits for the drain to begin and for the last connection to end, at most as long as a drain may take.
async fn leave(core: &Rc<Core>, patience: Duration) {
    let serial = core.next_serial();
    let mut known = false;
    std::future::poll_fn(|cx| core.drain.poll(serial, &mut known, cx)).await;
    let begun = Instant::now();
    while core.statistics.active.get() > 0 && begun.elapsed() < patience {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    core.pool.clear();
}
