// SPDX-License-Identifier: Apache-2.0
//! How does a worker's Python start and steer the data plane?

use crate::call_handler::{Definition, Hook, PythonHost, describe};
use crate::event_loop;
use crate::exchange::Life;
use crate::monitor::{Label, Monitor};
use arc_swap::ArcSwap;
use pylae_core::balancer;
use pylae_core::config::DataPlaneSettings;
use pylae_core::exchange::ExchangeRef;
use pylae_core::gateway::Gateway as Core;
use pylae_core::healthcheck::{Watch, active};
use pylae_core::line::{self, CallError, Ending, Event, Line, LineSettings};
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
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// A worker whose sibling was silent this long accepts in its place.
const STRANDED_AFTER_MS: u64 = 1000;
/// How long the helper thread may take to send what waits when the worker leaves.
const FAREWELL: Duration = Duration::from_secs(1);
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
    ending: RefCell<Option<Ending>>,
    core: RefCell<Option<Rc<Core>>>,
    monitor: Rc<Monitor>,
    event_loop: RefCell<Option<Py<PyAny>>>,
    progress: Rc<Progress>,
    /// Called on the data-plane thread with rows to forget.
    #[pyo3(get, set)]
    on_invalidate: Option<Py<PyAny>>,
}

/// How far the worker is on its way from start to end.
#[derive(Default)]
struct Progress {
    /// Plugins have started.
    is_open: Cell<bool>,
    /// It is to leave now, whatever is in flight.
    must_leave: Cell<bool>,
    changed: Notify,
    /// Hooks that await something.
    waiting: Rc<Cell<usize>>,
}

fn definition_of(about: &Bound<'_, PyDict>) -> PyResult<(Definition, PluginInfo)> {
    let get = |key: &str| about.get_item(key)?.ok_or_else(|| PyValueError::new_err(format!("a plugin definition lacks `{key}`")));
    let name: String = get("name")?.extract()?;
    let hooks_given = get("phases")?;
    let mut hooks: [Option<Hook>; 7] = [const { None }; 7];
    let mut bits = 0;
    for phase in Phase::ALL {
        if let Ok(method) = hooks_given.get_item(phase.name())
            && !method.is_none()
        {
            hooks[phase as usize] = Some(Hook { method: method.unbind(), label: Label::new(&name, phase) });
            bits |= phase.bit();
        }
    }
    if bits & Phase::Response.bit() != 0 && bits & (Phase::HeaderFilter.bit() | Phase::BodyFilter.bit()) != 0 {
        return Err(PyValueError::new_err(format!("plugin {name} has both a `response` phase and a header or body filter")));
    }
    let reads_body: u64 = get("reads_body")?.extract()?;
    let wants_client_certificate = about.get_item("wants_client_certificate")?.is_some_and(|wants| wants.is_truthy().unwrap_or(false));
    let body_limit = about.get_item("body_limit")?.filter(|limit| !limit.is_none()).map(Bound::unbind);
    let info = PluginInfo {
        name: name.as_str().into(),
        priority: get("priority")?.extract()?,
        phases: bits,
        reads_body_limit_bytes: reads_body,
        wants_client_certificate,
    };
    let definition = Definition { name, hooks, build_config: get("build_config")?.unbind(), body_limit, reads_body };
    Ok((definition, info))
}

#[pymethods]
impl Gateway {
    /// `settings` and `listeners` are JSON texts: the data plane's settings, and the listeners the supervisor opened.
    #[new]
    #[pyo3(signature = (*, settings, listeners, worker_index, generation, shared_fd, parent_fd, plugins, ready_fd = None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn new(
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
            let (definition, info) = definition_of(about.cast::<PyDict>()?)?;
            definitions.push(definition);
            infos.push(info);
        }
        let segment = Arc::new(Segment::open(shared_fd)?);
        if worker_index >= segment.worker_slots() {
            return Err(PyValueError::new_err(format!(
                "there are {} worker slots, and none of index {worker_index}",
                segment.worker_slots()
            )));
        }
        Ok(Gateway {
            settings,
            listeners: listeners.into_iter().filter(|listener| listener.purpose == "proxy").collect(),
            worker_index,
            generation,
            monitor: Monitor::new(Arc::clone(&segment), worker_index, generation),
            segment,
            parent_fd,
            ready_fd,
            definitions: RefCell::new(Some(definitions)),
            registry: Arc::new(PluginRegistry::new(infos)),
            line: RefCell::new(None),
            ending: RefCell::new(None),
            core: RefCell::new(None),
            event_loop: RefCell::new(None),
            progress: Rc::default(),
            on_invalidate: None,
        })
    }

    fn __repr__(&self) -> String {
        format!("<gateway worker {} generation {}>", self.worker_index, self.generation)
    }

    /// Sets everything up on this thread and this asyncio loop; while the loop runs the data plane runs with it. Requests are taken
    /// once there is a configuration and `open` was called. `on_drained` is called, on the loop, when the last one was served.
    fn start(slf: &Bound<'_, Self>, py: Python<'_>, event_loop: &Bound<'_, PyAny>, on_drained: Py<PyAny>) -> PyResult<()> {
        let this = slf.borrow();
        let definitions = this.definitions.borrow_mut().take().ok_or_else(|| PyRuntimeError::new_err("started twice"))?;
        let inner = event_loop::inner()?;
        let _guard = inner.runtime.enter();

        let monitor = Rc::clone(&this.monitor);
        let host = PythonHost::new(py, definitions, Rc::clone(&monitor), event_loop, Rc::clone(&this.progress.waiting))?;
        let mut empty = Store::with_options(Arc::clone(&this.registry), this.settings.router_options());
        let served = Arc::new(ArcSwap::new(empty.compile().snapshot));
        let watch = Watch::new(Arc::clone(&this.segment), this.worker_index, this.generation);
        let core = Core::new(this.settings.clone(), Arc::clone(&served), watch, Box::new(host), random_bits()?);
        let sink = Rc::downgrade(&core);
        monitor.set_log(Box::new(move |level, text| {
            if let Some(core) = sink.upgrade() {
                core.logs.log(level, text);
            }
        }));
        let sink = Rc::downgrade(&core);
        core.resolver.set_log(Box::new(move |level, text| {
            if let Some(core) = sink.upgrade() {
                core.logs.log(level, text);
            }
        }));
        *inner.monitor.borrow_mut() = Some(Rc::clone(&monitor));
        CURRENT.set(Some(Rc::clone(&core)));
        let listeners = this.take_listeners()?;

        let line_settings = LineSettings {
            socket: this.settings.prefix.join("sockets/control.sock"),
            snapshot_file: this.settings.prefix.join("snapshot.bin"),
            worker: this.worker_index,
            generation: this.generation,
            router: this.settings.router_options(),
            release_memory: crate::release_memory,
        };
        let (line, mut events, ending) = line::start(line_settings, Arc::clone(&this.registry), served)?;
        *this.line.borrow_mut() = Some(line.clone());
        *this.ending.borrow_mut() = Some(ending);
        *this.core.borrow_mut() = Some(Rc::clone(&core));
        *this.event_loop.borrow_mut() = Some(event_loop.clone().unbind());

        let worker = Rc::new(Worker {
            core,
            segment: Arc::clone(&this.segment),
            monitor,
            line,
            slot: this.worker_index,
            generation: this.generation,
            progress: Rc::clone(&this.progress),
            reported: RefCell::default(),
        });
        // The resolver outlives the tasks; the line must not.
        let sink = Rc::downgrade(&worker);
        worker.core.resolver.set_sink(Box::new(move |item| sink.upgrade().is_none_or(|worker| worker.line.stream("dns", item.to_vec()))));
        let sink = Rc::downgrade(&worker);
        worker
            .core
            .recorder
            .set_sink(Box::new(move |channel, item| sink.upgrade().is_some_and(|worker| worker.line.stream(channel, item))));
        let (ready_fd, parent_fd) = (this.ready_fd, this.parent_fd);
        let patience = Duration::from_millis(this.settings.drain_timeout_ms);
        drop(this);

        let (gateway, of_events) = (slf.clone().unbind(), Rc::clone(&worker));
        let configured = Rc::new(Notify::new());
        let first = Rc::clone(&configured);
        inner.spawn(async move {
            while let Some(event) = events.recv().await {
                match event {
                    Event::Served => first.notify_one(),
                    Event::Invalidate(rows, mut forgetting) => Python::attach(|py| {
                        // What cannot be forgotten row by row is forgotten whole.
                        let outcome = invalidate(py, &gateway, rows).or_else(|error| {
                            of_events.core.logs.log(Level::Error, &format!("cached rows could not be forgotten: {}", describe(py, &error)));
                            invalidate(py, &gateway, None)
                        });
                        if let Err(error) = outcome {
                            of_events.core.logs.log(Level::Crit, &format!("old rows may be in use: {}", describe(py, &error)));
                        }
                        forgetting.done();
                    }),
                    Event::Log(level, text) => of_events.core.logs.log(level, &text),
                    Event::Greeted => of_events.core.resolver.report_all(),
                    Event::LogLevel(level) => of_events.core.logs.set_level(level),
                }
            }
        });
        inner.spawn(Rc::clone(&worker).open(configured, listeners, ready_fd));
        inner.spawn(Rc::clone(&worker).beat());
        inner.spawn(Rc::clone(&worker.core).housekeeping());
        inner.spawn(active::run(Rc::clone(&worker.core)));
        inner.spawn(balancer::names::run(Rc::clone(&worker.core)));
        inner.spawn(watch_parent(Rc::clone(&worker), parent_fd));
        let event_loop = event_loop.clone().unbind();
        inner.spawn(async move {
            worker.leave(patience).await;
            Python::attach(|py| {
                if let Err(error) = event_loop.call_method1(py, "call_soon", (on_drained,)) {
                    worker.core.logs.log(Level::Error, &format!("the worker can't leave: {}", describe(py, &error)));
                }
            });
        });
        Ok(())
    }

    /// Plugins have started: requests may come.
    fn open(&self) {
        self.progress.is_open.set(true);
        self.progress.changed.notify_waiters();
    }

    /// Serves what is in flight, takes nothing new, then ends.
    fn drain(&self) {
        if let Some(core) = self.core.borrow().as_ref() {
            core.drain.begin();
        }
    }

    /// Leaves now: what is in flight is cut off.
    fn stop(&self) {
        self.progress.must_leave.set(true);
        self.drain();
    }

    /// Ends what still runs on the data plane; after it, nothing of this gateway runs. Between runs of the loop only.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let inner = event_loop::inner()?;
        inner.drop_tasks();
        Life::free_unused();
        inner.monitor.borrow_mut().take();
        self.line.borrow_mut().take();
        if let Some(ending) = self.ending.borrow_mut().take()
            && !py.detach(move || ending.wait(FAREWELL))
            && let Some(core) = self.core.borrow().as_ref()
        {
            core.logs.log(Level::Warn, "control did not take the last log items of this worker in time");
        }
        Ok(())
    }

    /// Opens the log files anew.
    fn reopen_logs(&self) {
        if let Some(core) = self.core.borrow().as_ref() {
            core.logs.reopen();
        }
    }

    /// Asks control; an awaitable of MessagePack bytes.
    fn call<'py>(&self, py: Python<'py>, operation: String, args: Vec<u8>, timeout_ms: u64) -> PyResult<Bound<'py, PyAny>> {
        let not_started = || PyRuntimeError::new_err("the gateway has not started");
        let line = self.line.borrow().clone().ok_or_else(not_started)?;
        let event_loop = self.event_loop.borrow();
        let future = event_loop.as_ref().ok_or_else(not_started)?.bind(py).call_method0(pyo3::intern!(py, "create_future"))?;
        let waiting = future.clone().unbind();
        event_loop::inner()?.spawn(async move {
            let outcome = line.call(&operation, args, Duration::from_millis(timeout_ms)).await;
            // It fails only when the loop is closed already: then nobody waits.
            let _ = Python::attach(|py| settle(waiting.bind(py), outcome));
        });
        Ok(future)
    }

    /// Hands an item to control, some time; `False`: dropped and counted.
    fn stream(&self, channel: &str, item: &[u8]) -> bool {
        self.line.borrow().as_ref().is_some_and(|line| line.stream(channel, item.to_vec()))
    }

    /// Counts `cost` in every window `(limit, start_ms, end_ms)`, or in none when one would go over its limit.
    #[pyo3(signature = (identifier, limits, cost = 1))]
    fn counters_take<'py>(
        &self,
        py: Python<'py>,
        identifier: &[u8],
        limits: &Bound<'_, PyList>,
        cost: u64,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let (allowed, usages) = self.segment.take(identifier, &windows_of(limits)?, cost, pylae_core::clock::now_ms());
        (allowed, usages).into_pyobject(py)
    }

    /// What each window has, unchanged.
    fn counters_read(&self, identifier: &[u8], limits: &Bound<'_, PyList>) -> PyResult<Vec<u64>> {
        let now = pylae_core::clock::now_ms();
        Ok(windows_of(limits)?.iter().map(|window| self.segment.read(identifier, window, now)).collect())
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

/// `(limit, start_ms, end_ms)` tuples.
fn windows_of(limits: &Bound<'_, PyList>) -> PyResult<Vec<Window>> {
    let mut windows = Vec::with_capacity(limits.len());
    for limit in limits.iter() {
        let limit = limit.cast::<PyTuple>()?;
        let [limit, start_ms, end_ms] = limit.as_slice() else { return Err(PyValueError::new_err("a limit is (limit, start_ms, end_ms)")) };
        windows.push(Window { limit: limit.extract()?, start_ms: start_ms.extract()?, end_ms: end_ms.extract()? });
    }
    Ok(windows)
}

impl Gateway {
    fn take_listeners(&self) -> PyResult<Vec<Rc<Listener>>> {
        let mut listeners = Vec::new();
        let mut tls = None;
        for spec in &self.listeners {
            let wants_tls = spec.flags.iter().any(|flag| flag == "ssl");
            if wants_tls && tls.is_none() {
                let config = pylae_core::tls::ServerTls::new(&self.settings.ssl_certificates).map(Rc::new);
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
        Ok(listeners)
    }
}

/// Gives a waiting `asyncio.Future` what control answered.
fn settle(future: &Bound<'_, PyAny>, outcome: Result<Vec<u8>, CallError>) -> PyResult<()> {
    let py = future.py();
    if future.call_method0(pyo3::intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    match outcome {
        Ok(bytes) => future.call_method1(pyo3::intern!(py, "set_result"), (PyBytes::new(py, &bytes),))?,
        Err(error) => {
            let raised = py.import("pylae.sdk.entities")?.getattr("CallFailed")?.call1((error.name, error.message))?;
            future.call_method1(pyo3::intern!(py, "set_exception"), (raised,))?
        }
    };
    Ok(())
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

/// What the tasks of one worker share.
struct Worker {
    core: Rc<Core>,
    segment: Arc<Segment>,
    monitor: Rc<Monitor>,
    line: Line,
    slot: usize,
    generation: u64,
    progress: Rc<Progress>,
    /// What was added to the node's counts so far.
    reported: RefCell<[u64; 5]>,
}

impl Worker {
    /// Takes requests once there is a configuration and the plugins have started.
    async fn open(self: Rc<Self>, configured: Rc<Notify>, listeners: Vec<Rc<Listener>>, ready_fd: Option<RawFd>) {
        configured.notified().await;
        while !self.progress.is_open.get() {
            self.progress.changed.notified().await;
        }
        if self.core.drain.is_begun() {
            return;
        }
        self.segment.enter(self.slot, self.generation);
        let watched = Arc::clone(&self.segment);
        let is_stranded: listener::IsStranded = Rc::new(move |other| {
            other >= watched.worker_slots() || watched.heartbeat_age_ms(other).is_none_or(|age| age > STRANDED_AFTER_MS)
        });
        tokio::task::spawn_local(listener::run(Rc::clone(&self.core), listeners, self.slot, is_stranded));
        if let Some(fd) = ready_fd {
            // SAFETY: the supervisor passed this descriptor to us alone; closing it is part of the message.
            let mut pipe = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(fd) });
            if let Err(error) = pipe.write_all(b"1") {
                self.core.logs.log(Level::Warn, &format!("the supervisor could not be told that worker {} is ready: {error}", self.slot));
            }
        }
    }

    /// Says that the data-plane thread is alive, and brings its counts into the segment.
    async fn beat(self: Rc<Self>) {
        let mut tick = tokio::time::interval(HEARTBEAT);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_crowded = false;
        loop {
            tick.tick().await;
            // The interpreter is held as long as there is work: a thread that a plugin started gets its turn here at the latest.
            Python::attach(|py| py.detach(std::thread::yield_now));
            self.add_counts();
            let evicted = self.segment.counter_events().evicted;
            if evicted > 0 && !is_crowded {
                is_crowded = true;
                let text = "more keys are counted than there is room for: counts begin too high now, so that no limit is exceeded";
                self.core.logs.log(Level::Warn, text);
            }
            if self.core.drain.is_begun() || !self.monitor.owns_slot() {
                continue;
            }
            self.segment.beat(self.slot);
            let counts = &self.core.statistics;
            for (statistic, value) in [
                (Statistic::Active, counts.active.get()),
                (Statistic::Reading, counts.reading.get()),
                (Statistic::Writing, counts.writing.get()),
                (Statistic::Waiting, counts.waiting.get()),
            ] {
                self.segment.statistic(self.slot, statistic).store(value, Ordering::Relaxed);
            }
        }
    }

    /// Adds what was counted since the last time; generations that share a slot add to the same counts.
    fn add_counts(&self) {
        let counts = &self.core.statistics;
        let now = [counts.accepted.get(), counts.handled.get(), counts.requests.get(), self.line.lost(), self.core.logs.lost()];
        let statistics = [Statistic::Accepted, Statistic::Handled, Statistic::Requests, Statistic::StreamLost, Statistic::LogLinesLost];
        let before = self.reported.replace(now);
        for ((statistic, now), before) in statistics.into_iter().zip(now).zip(before) {
            self.segment.statistic(self.slot, statistic).fetch_add(now - before, Ordering::Relaxed);
        }
    }

    /// Waits for the drain to begin, and for the last connection and the last hook to end, at most as long as a drain may take.
    async fn leave(&self, patience: Duration) {
        let serial = self.core.next_serial();
        let mut is_known = false;
        std::future::poll_fn(|cx| self.core.drain.poll(serial, &mut is_known, cx)).await;
        if self.monitor.owns_slot() {
            // The siblings accept in our place from now on.
            self.segment.clear(self.slot);
        }
        let begun = Instant::now();
        let is_busy = || self.core.statistics.active.get() > 0 || self.progress.waiting.get() > 0;
        while is_busy() && begun.elapsed() < patience && !self.progress.must_leave.get() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.core.pool.clear();
        self.add_counts();
    }
}

/// The supervisor is gone when its pipe closes: drain and leave.
async fn watch_parent(worker: Rc<Worker>, fd: RawFd) {
    let closed = async {
        // SAFETY: the supervisor passed this descriptor to us alone.
        let pipe = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(pipe)?;
        while tokio::io::AsyncReadExt::read(&mut pipe, &mut [0u8; 64]).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    let text = match closed.await {
        Ok(()) => "the supervisor is gone: draining".to_owned(),
        Err(error) => format!("the supervisor can't be watched ({error}): draining"),
    };
    worker.core.logs.log(Level::Notice, &text);
    worker.core.drain.begin();
}
