// SPDX-License-Identifier: Apache-2.0
//! How is a plugin's phase run? Calls the Python hook, reads its verdict, names it when it fails, blocks or returns rubbish.

use crate::event_loop;
use crate::exchange::{Answer as PyAnswer, Life};
use crate::monitor::{Label, Monitor};
use pylae_core::exchange::ExchangeRef;
use pylae_core::fault::FaultKind;
use pylae_core::observe::Level;
use pylae_core::phases::{HostCall, Phase, PluginFailure, PluginHost, Verdict};
use pylae_core::snapshot::PluginInstance;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// One plugin as Python gave it.
pub struct Definition {
    /// Its name.
    pub name: String,
    /// Bound methods by phase.
    pub hooks: [Option<Hook>; 7],
    /// Builds a configuration from MessagePack.
    pub build_config: Py<PyAny>,
    /// Bytes of body wanted under a configuration.
    pub body_limit: Option<Py<PyAny>>,
    /// Bytes of body wanted at most.
    pub reads_body: u64,
}

/// A bound method and what to call it.
pub struct Hook {
    /// The bound method.
    pub method: Py<PyAny>,
    /// Its plugin and phase.
    pub label: Rc<Label>,
}

/// What is kept with a plugin instance: its configuration, built once.
struct Built {
    config: Result<Py<PyAny>, String>,
    body_bytes: u64,
}

/// Runs Python plugins.
pub struct PythonHost {
    definitions: Vec<Definition>,
    monitor: Rc<Monitor>,
    task_class: Py<PyAny>,
    task_arguments: Py<PyDict>,
    waiting: Rc<Cell<usize>>,
}

impl PythonHost {
    /// A host for these plugins, in the order of the registry; coroutines run on `event_loop`. `waiting` counts the hooks that
    /// await something.
    pub fn new(
        py: Python<'_>,
        definitions: Vec<Definition>,
        monitor: Rc<Monitor>,
        event_loop: &Bound<'_, PyAny>,
        waiting: Rc<Cell<usize>>,
    ) -> PyResult<Self> {
        let task_arguments = PyDict::new(py);
        task_arguments.set_item("loop", event_loop)?;
        if py.version_info() >= (3, 12) {
            // Measured: a task that runs its first step at once costs 1 us when it need not wait, another one 14 us.
            task_arguments.set_item("eager_start", true)?;
        }
        let task_class = py.import("asyncio")?.getattr("Task")?.unbind();
        Ok(PythonHost { definitions, monitor, task_class, task_arguments: task_arguments.unbind(), waiting })
    }

    fn definition(&self, instance: &PluginInstance) -> &Definition {
        &self.definitions[usize::from(instance.plugin.0)]
    }

    fn built<'a>(&self, py: Python<'_>, instance: &'a Arc<PluginInstance>) -> &'a Built {
        let made = instance.host_data.get_or_init(|| {
            let definition = self.definition(instance);
            let text = |id: Option<pylae_core::snapshot::Id>| id.map(|id| id.to_string());
            let place = (
                PyBytes::new(py, &instance.config),
                instance.id.to_string(),
                text(instance.route),
                text(instance.service),
                text(instance.consumer),
            );
            let config = definition.build_config.call1(py, place).map_err(|error| describe(py, &error));
            if let Err(error) = &config {
                let text = format!("plugin {} cannot use its configuration {}: {error}", definition.name, instance.id);
                self.monitor.say(Level::Error, &text);
            }
            let body_bytes = match (&definition.body_limit, &config) {
                (Some(limit), Ok(config)) => {
                    limit.call1(py, (config,)).and_then(|value| value.extract::<u64>(py)).unwrap_or(definition.reads_body)
                }
                _ => definition.reads_body,
            };
            Box::new(Built { config, body_bytes })
        });
        made.downcast_ref::<Built>().expect("only this host fills host_data")
    }

    /// Calls a hook with the exchange, its configuration and `more`.
    fn call<'py>(
        &self,
        py: Python<'py>,
        hook: &Hook,
        instance: &Arc<PluginInstance>,
        exchange: &ExchangeRef,
        more: Option<(Bound<'py, PyBytes>, bool)>,
    ) -> Result<(Bound<'py, PyAny>, Rc<Life>), Box<PluginFailure>> {
        let built = self.built(py, instance);
        let config = match &built.config {
            Ok(config) => config,
            Err(detail) => return Err(failure(&hook.label, format!("cannot use its configuration: {detail}"))),
        };
        let (life, view) = Life::view_of(py, exchange).map_err(|error| failure(&hook.label, describe(py, &error)))?;
        life.body_bytes.set(built.body_bytes);
        let method = hook.method.bind(py);
        let called = self.monitor.watch(&hook.label, || match more {
            None => method.call1((&view, config)),
            Some((chunk, is_last)) => {
                life.set_chunk(Some(chunk.clone().unbind()));
                let called = method.call1((&view, config, chunk, is_last));
                life.set_chunk(None);
                called
            }
        });
        match called {
            Ok(value) => Ok((value, life)),
            Err(error) => Err(raised(py, &hook.label, &error)),
        }
    }

    /// Runs an awaitable as a task: outside one `asyncio.timeout` raises.
    fn start<'py>(&self, py: Python<'py>, label: &Rc<Label>, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let coroutine = if is_coroutine(&awaitable) {
            awaitable
        } else {
            py.import("pylae.worker.event_loop")?.getattr("wait_for")?.call1((awaitable,))?
        };
        let steps = Bound::new(py, Steps { coroutine: coroutine.unbind(), label: Rc::clone(label), monitor: Rc::clone(&self.monitor) })?;
        self.task_class.bind(py).call((steps,), Some(self.task_arguments.bind(py)))
    }

    /// What a hook that awaits comes to: its verdict, if it did not have to wait after all.
    fn run_task<'py>(&self, py: Python<'py>, label: &Rc<Label>, awaitable: Bound<'py, PyAny>, life: Rc<Life>) -> PyResult<HostCall> {
        let task = self.start(py, label, awaitable)?;
        if task.call_method0(pyo3::intern!(py, "done"))?.is_truthy()? {
            return Ok(HostCall::Ready(verdict_of_task(label, &task)));
        }
        life.begin_call();
        self.waiting.set(self.waiting.get() + 1);
        let call = Rc::new(Call {
            task: RefCell::new(Some(task.clone().unbind())),
            verdict: RefCell::new(None),
            waker: RefCell::new(None),
            is_abandoned: Cell::new(false),
            label: Rc::clone(label),
            monitor: Rc::clone(&self.monitor),
            life,
            waiting: Rc::clone(&self.waiting),
        });
        let suspended = Suspended { call: Rc::clone(&call) };
        task.call_method1(pyo3::intern!(py, "add_done_callback"), (Bound::new(py, Finished { call })?,))?;
        Ok(HostCall::Suspended(Box::pin(suspended)))
    }
}

#[expect(clippy::unnecessary_box_returns, reason = "a verdict carries it boxed")]
fn failure(label: &Label, detail: String) -> Box<PluginFailure> {
    Box::new(PluginFailure { plugin: label.plugin.clone(), phase: label.phase, kind: FaultKind::PluginFailed, detail })
}

/// What an exception comes to: one that says which system could not be asked is that system's fault, not the plugin's.
#[expect(clippy::unnecessary_box_returns, reason = "as above")]
fn raised(py: Python<'_>, label: &Label, error: &PyErr) -> Box<PluginFailure> {
    let value = error.value(py);
    let text = |name: &str| value.getattr(name).ok().and_then(|text| text.extract::<String>().ok());
    if text("fault").as_deref() == Some(FaultKind::IdentitySystemFailed.facts().name)
        && let Some(said) = text("said")
    {
        let detail = said.replace(['\n', '\r'], " ");
        return Box::new(PluginFailure { plugin: label.plugin.clone(), phase: label.phase, kind: FaultKind::IdentitySystemFailed, detail });
    }
    failure(label, describe(py, error))
}

fn is_coroutine(value: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a type check on a live object.
    unsafe { ffi::PyCoro_CheckExact(value.as_ptr()) != 0 }
}

fn is_awaitable(value: &Bound<'_, PyAny>) -> bool {
    is_coroutine(value) || value.hasattr(pyo3::intern!(value.py(), "__await__")).unwrap_or(false)
}

fn verdict_of(label: &Label, value: &Bound<'_, PyAny>) -> Verdict {
    if value.is_none() {
        return Verdict::Continue;
    }
    match value.cast::<PyAnswer>() {
        Ok(_) if matches!(label.phase, Phase::HeaderFilter | Phase::Log) => {
            Verdict::Failed(failure(label, format!("returned an answer, which {} may not", label.phase.name())))
        }
        Ok(answer) => Verdict::Answer(Box::new(answer.get().inner.clone())),
        Err(_) => {
            let kind = value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
            let detail = format!("returned a `{kind}`, expected None or what exchange.answer() or exchange.error() made");
            Verdict::Failed(failure(label, detail))
        }
    }
}

fn verdict_of_task(label: &Label, task: &Bound<'_, PyAny>) -> Verdict {
    match task.call_method0(pyo3::intern!(task.py(), "result")) {
        Ok(value) => verdict_of(label, &value),
        Err(error) => Verdict::Failed(raised(task.py(), label, &error)),
    }
}

/// The exception in one line: `ValueError: … (my_plugin.py:12)`.
pub fn describe(py: Python<'_>, error: &PyErr) -> String {
    let mut place = String::new();
    let mut traceback = error.traceback(py).map(Bound::into_any);
    while let Some(current) = traceback {
        let file = current
            .getattr("tb_frame")
            .and_then(|frame| frame.getattr("f_code"))
            .and_then(|code| code.getattr("co_filename"))
            .and_then(|name| name.extract::<String>())
            .unwrap_or_default();
        let line = current.getattr("tb_lineno").and_then(|line| line.extract::<u32>()).unwrap_or(0);
        let short = file.rsplit('/').take(2).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("/");
        place = format!(" ({short}:{line})");
        traceback = current.getattr("tb_next").ok().filter(|next| !next.is_none());
    }
    let text = error.value(py).str().map(|s| s.to_string()).unwrap_or_default();
    let kind = error.get_type(py).name().map_or_else(|_| "exception".to_owned(), |name| name.to_string());
    let colon = if text.is_empty() { "" } else { ": " };
    format!("{kind}{colon}{}{place}", text.replace(['\n', '\r'], " "))
}

/// A coroutine whose every step is watched: what blocks the thread after an `await` has a name, too.
#[pyclass(frozen, unsendable, module = "pylae._core")]
struct Steps {
    coroutine: Py<PyAny>,
    label: Rc<Label>,
    monitor: Rc<Monitor>,
}

impl Steps {
    fn step<'py>(&self, py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.monitor.watch(&self.label, || {
            let mut result = std::ptr::null_mut();
            // SAFETY: both are live objects, and this thread is attached.
            let sent = unsafe { ffi::PyIter_Send(self.coroutine.as_ptr(), value.as_ptr(), &raw mut result) };
            // SAFETY: unless it failed, `PyIter_Send` gave us a new reference.
            let result = unsafe { Bound::from_owned_ptr_or_opt(py, result) };
            match (sent, result) {
                (ffi::PySendResult::PYGEN_NEXT, Some(result)) => Ok(result),
                (ffi::PySendResult::PYGEN_RETURN, Some(result)) => Err(PyStopIteration::new_err((result.unbind(),))),
                _ => Err(PyErr::fetch(py)),
            }
        })
    }
}

#[pymethods]
impl Steps {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.step(py, &py.None().into_bound(py))
    }

    fn send<'py>(&self, py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.step(py, value)
    }

    #[pyo3(signature = (*error))]
    fn throw<'py>(&self, py: Python<'py>, error: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.monitor.watch(&self.label, || self.coroutine.bind(py).call_method1(pyo3::intern!(py, "throw"), error))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.coroutine.call_method0(py, pyo3::intern!(py, "close")).map(|_| ())
    }

    /// Names, frames and the like are the coroutine's own.
    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine.bind(py).getattr(name)
    }
}

/// A hook that awaits something. Whoever waits for it may go away; its task is then cancelled, and lives on here until it is over.
struct Call {
    /// asyncio keeps weak references only. None when the task is over.
    task: RefCell<Option<Py<PyAny>>>,
    verdict: RefCell<Option<Verdict>>,
    waker: RefCell<Option<Waker>>,
    is_abandoned: Cell<bool>,
    label: Rc<Label>,
    monitor: Rc<Monitor>,
    life: Rc<Life>,
    waiting: Rc<Cell<usize>>,
}

/// Called by asyncio when a task is over.
#[pyclass(frozen, unsendable, module = "pylae._core")]
struct Finished {
    call: Rc<Call>,
}

#[pymethods]
impl Finished {
    fn __call__(&self, task: &Bound<'_, PyAny>) {
        let call = &self.call;
        call.task.borrow_mut().take();
        call.waiting.set(call.waiting.get() - 1);
        let is_cancelled = task.call_method0(pyo3::intern!(task.py(), "cancelled")).and_then(|is| is.is_truthy()).unwrap_or(false);
        let verdict = if call.is_abandoned.get() && is_cancelled { Verdict::Continue } else { verdict_of_task(&call.label, task) };
        call.life.end_call(task.py());
        if call.is_abandoned.get() {
            if let Verdict::Failed(failed) = verdict {
                let text =
                    format!("plugin {} failed in {} after the client had left: {}", failed.plugin, failed.phase.name(), failed.detail);
                call.monitor.say(Level::Warn, &text);
            }
            return;
        }
        *call.verdict.borrow_mut() = Some(verdict);
        let waker = call.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The journey's end of a call; dropped before the verdict is in, it cancels the task.
struct Suspended {
    call: Rc<Call>,
}

impl Future for Suspended {
    type Output = Verdict;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Verdict> {
        if let Some(verdict) = self.call.verdict.borrow_mut().take() {
            return Poll::Ready(verdict);
        }
        *self.call.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        self.call.is_abandoned.set(true);
        // The interpreter is gone already when the process ends in the middle of things.
        let _ = Python::try_attach(|py| {
            let task = self.call.task.borrow().as_ref().map(|task| task.clone_ref(py));
            if let Some(task) = task
                && let Err(error) = task.call_method0(py, pyo3::intern!(py, "cancel"))
            {
                self.call.monitor.say(
                    Level::Warn,
                    &format!("a task of plugin {} could not be cancelled: {}", self.call.label.plugin, describe(py, &error)),
                );
            }
        });
        event_loop::wake();
    }
}

impl PluginHost for PythonHost {
    fn run(&self, phase: Phase, instance: &Arc<PluginInstance>, exchange: &ExchangeRef) -> HostCall {
        let Some(hook) = &self.definition(instance).hooks[phase as usize] else { return HostCall::Ready(Verdict::Continue) };
        Python::attach(|py| match self.call(py, hook, instance, exchange, None) {
            Err(failed) => HostCall::Ready(Verdict::Failed(failed)),
            Ok((value, _)) if value.is_none() => HostCall::Ready(Verdict::Continue),
            Ok((value, _)) if !is_awaitable(&value) => HostCall::Ready(verdict_of(&hook.label, &value)),
            Ok((value, life)) => self
                .run_task(py, &hook.label, value, life)
                .unwrap_or_else(|error| HostCall::Ready(Verdict::Failed(raised(py, &hook.label, &error)))),
        })
    }

    fn filter_body(
        &self,
        instance: &Arc<PluginInstance>,
        exchange: &ExchangeRef,
        chunk: &[u8],
        is_last: bool,
    ) -> Result<Option<Vec<u8>>, Box<PluginFailure>> {
        let Some(hook) = &self.definition(instance).hooks[Phase::BodyFilter as usize] else { return Ok(None) };
        Python::attach(|py| {
            let (value, _) = self.call(py, hook, instance, exchange, Some((PyBytes::new(py, chunk), is_last)))?;
            if value.is_none() {
                return Ok(None);
            }
            if let Ok(bytes) = value.cast::<PyBytes>() {
                return Ok(Some(bytes.as_bytes().to_vec()));
            }
            if is_coroutine(&value) {
                // Nobody will run it: closed, so that Python does not warn of it.
                let _ = value.call_method0(pyo3::intern!(py, "close"));
            }
            let kind = value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
            Err(failure(&hook.label, format!("returned a `{kind}`, expected bytes or None")))
        })
    }

    fn reads_body_bytes(&self, instance: &Arc<PluginInstance>) -> u64 {
        Python::attach(|py| self.built(py, instance).body_bytes)
    }

    fn attached(&self, f: &mut dyn FnMut()) {
        Python::attach(|_| f());
    }

    fn release(&self, exchange: &ExchangeRef) {
        let data = exchange.borrow_mut().host_data.take();
        if let Some(data) = data {
            Python::attach(|py| {
                if let Ok(life) = data.downcast::<Rc<Life>>() {
                    life.end(py);
                }
            });
        }
    }
}

/// The error a kept view raises.
pub fn over() -> PyErr {
    PyRuntimeError::new_err("this exchange is over: take what you need from it during the phase, do not keep it")
}
