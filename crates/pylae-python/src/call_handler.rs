// SPDX-License-Identifier: Apache-2.0
//! How is a plugin's phase run? Calls the Python hook, reads its verdict, names it when it fails, blocks or returns rubbish.

use crate::event_loop;
use crate::exchange::{Answer as PyAnswer, Life};
use pylae_core::exchange::ExchangeRef;
use pylae_core::observe::Level;
use pylae_core::phases::{HostCall, Phase, PluginFailure, PluginHost, Verdict};
use pylae_core::snapshot::PluginInstance;
use pylae_shared::{Segment, Statistic};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A hook that holds the thread longer than this is named.
const BLOCKING: Duration = Duration::from_millis(5);

/// One plugin as Python gave it.
pub struct Definition {
    /// Its name.
    pub name: String,
    /// Bound methods by phase.
    pub hooks: [Option<Py<PyAny>>; 7],
    /// `plugin phase`, for the "now running" slot.
    pub labels: [String; 7],
    /// Builds a configuration from MessagePack.
    pub build_config: Py<PyAny>,
    /// Bytes of body wanted under a configuration.
    pub body_limit: Option<Py<PyAny>>,
    /// Bytes of body wanted at most.
    pub reads_body: u64,
}

/// What is kept with a plugin instance: its configuration, built once.
struct Built {
    config: Result<Py<PyAny>, String>,
    body_bytes: u64,
}

/// Says something in `error.log`; set once the gateway exists.
pub type LogSink = Rc<RefCell<Option<Box<dyn Fn(Level, &str)>>>>;

/// Runs Python plugins.
pub struct PythonHost {
    definitions: Vec<Definition>,
    segment: Arc<Segment>,
    slot: usize,
    task_class: Py<PyAny>,
    loop_: Py<PyAny>,
    is_eager: bool,
    log: LogSink,
}

impl PythonHost {
    /// A host for these plugins, in the order of the registry; coroutines run on `loop_`.
    pub fn new(py: Python<'_>, definitions: Vec<Definition>, segment: Arc<Segment>, slot: usize, loop_: Py<PyAny>, log: LogSink) -> PyResult<Self> {
        let task_class = py.import("asyncio")?.getattr("Task")?.unbind();
        let is_eager = py.version_info() >= (3, 12);
        Ok(PythonHost { definitions, segment, slot, task_class, loop_, is_eager, log })
    }

    fn say(&self, level: Level, text: &str) {
        if let Some(log) = self.log.borrow().as_ref() {
            log(level, text);
        }
    }

    fn built<'a>(&self, py: Python<'_>, instance: &'a Arc<PluginInstance>) -> &'a Built {
        let made = instance.host_data.get_or_init(|| {
            let definition = &self.definitions[usize::from(instance.plugin.0)];
            let text = |id: Option<pylae_core::snapshot::Id>| id.map(|id| id.to_string());
            let config = definition
                .build_config
                .call1(
                    py,
                    (PyBytes::new(py, &instance.config), instance.id.to_string(), text(instance.route), text(instance.service), text(instance.consumer)),
                )
                .map_err(|error| describe(py, &error));
            if let Err(error) = &config {
                self.say(Level::Error, &format!("plugin {} cannot use its configuration {}: {error}", definition.name, instance.id));
            }
            let body_bytes = match (&definition.body_limit, &config) {
                (Some(limit), Ok(config)) => limit.call1(py, (config,)).and_then(|value| value.extract::<u64>(py)).unwrap_or(definition.reads_body),
                _ => definition.reads_body,
            };
            Box::new(Built { config, body_bytes })
        });
        made.downcast_ref::<Built>().expect("only this host fills host_data")
    }

    fn failure(&self, instance: &PluginInstance, phase: Phase, detail: String) -> Box<PluginFailure> {
        Box::new(PluginFailure { plugin: instance.name.to_string(), phase, detail })
    }

    /// Calls `f` with the "now running" slot set, and names who blocked the thread.
    fn watched<R>(&self, instance: &PluginInstance, phase: Phase, f: impl FnOnce() -> R) -> R {
        let definition = &self.definitions[usize::from(instance.plugin.0)];
        self.segment.begin_running(self.slot, &definition.labels[phase as usize]);
        let begun = Instant::now();
        let result = f();
        let took = begun.elapsed();
        self.segment.end_running(self.slot);
        if took > BLOCKING {
            self.segment.statistic(self.slot, Statistic::PluginBlocked).fetch_add(1, Ordering::Relaxed);
            self.say(
                Level::Warn,
                &format!("plugin {} blocked the worker for {} ms in {}", definition.name, took.as_millis(), phase.name()),
            );
        }
        result
    }

    fn verdict_of(&self, py: Python<'_>, instance: &PluginInstance, phase: Phase, value: &Bound<'_, PyAny>) -> Verdict {
        if value.is_none() {
            return Verdict::Continue;
        }
        if let Ok(answer) = value.cast::<PyAnswer>() {
            if phase == Phase::Log {
                return Verdict::Continue;
            }
            return Verdict::Answer(Box::new(answer.get().inner.clone()));
        }
        let kind = value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
        let _ = py;
        Verdict::Failed(self.failure(
            instance,
            phase,
            format!("returned a `{kind}`, expected None or what exchange.answer() or exchange.error() made"),
        ))
    }

    /// Starts a coroutine as a task: outside one `asyncio.timeout` raises.
    fn start<'py>(&self, py: Python<'py>, awaitable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let kwargs = PyDict::new(py);
        kwargs.set_item(pyo3::intern!(py, "loop"), &self.loop_)?;
        if self.is_eager {
            kwargs.set_item(pyo3::intern!(py, "eager_start"), true)?;
        }
        let is_coroutine = awaitable.hasattr(pyo3::intern!(py, "send"))?;
        let coroutine = if is_coroutine {
            awaitable.clone()
        } else {
            py.import("pylae.worker.event_loop")?.getattr("wait_for")?.call1((awaitable,))?
        };
        self.task_class.bind(py).call((coroutine,), Some(&kwargs))
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
    format!("{kind}: {}{place}", text.replace(['\n', '\r'], " "))
}

/// Called by asyncio when a task is over.
#[pyclass]
struct Finished {
    sender: Option<oneshot::Sender<()>>,
}

#[pymethods]
impl Finished {
    fn __call__(&mut self, _task: &Bound<'_, PyAny>) {
        if let Some(sender) = self.sender.take() {
            let _ = sender.send(());
        }
    }
}

/// A hook that awaits; dropped before its end, its task is cancelled.
struct Suspended {
    task: Option<Py<PyAny>>,
    finished: oneshot::Receiver<()>,
    read: Box<dyn FnMut(Python<'_>, &Bound<'_, PyAny>) -> Verdict>,
}

impl Future for Suspended {
    type Output = Verdict;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Verdict> {
        if Pin::new(&mut self.finished).poll(cx).is_pending() {
            return Poll::Pending;
        }
        let Some(task) = self.task.take() else { return Poll::Ready(Verdict::Continue) };
        Poll::Ready(Python::attach(|py| (self.read)(py, task.bind(py))))
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            Python::attach(|py| {
                let _ = task.call_method0(py, pyo3::intern!(py, "cancel"));
            });
            event_loop::wake();
        }
    }
}

impl PluginHost for PythonHost {
    fn run(&self, phase: Phase, instance: &Arc<PluginInstance>, exchange: &ExchangeRef) -> HostCall {
        Python::attach(|py| {
            let definition = &self.definitions[usize::from(instance.plugin.0)];
            let Some(hook) = &definition.hooks[phase as usize] else { return HostCall::Ready(Verdict::Continue) };
            let built = self.built(py, instance);
            let config = match &built.config {
                Ok(config) => config,
                Err(detail) => return HostCall::Ready(Verdict::Failed(self.failure(instance, phase, format!("cannot use its configuration: {detail}")))),
            };
            let view = match Life::view_of(py, exchange) {
                Ok(view) => view,
                Err(error) => return HostCall::Ready(Verdict::Failed(self.failure(instance, phase, describe(py, &error)))),
            };
            view.borrow().life.body_bytes.set(built.body_bytes);
            let called = self.watched(instance, phase, || hook.bind(py).call1((&view, config)));
            let value = match called {
                Ok(value) if value.is_none() => return HostCall::Ready(Verdict::Continue),
                Ok(value) => value,
                Err(error) => return HostCall::Ready(Verdict::Failed(self.failure(instance, phase, describe(py, &error)))),
            };
            let is_awaitable = !value.is_instance_of::<PyAnswer>() && value.hasattr(pyo3::intern!(py, "__await__")).unwrap_or(false);
            if !is_awaitable {
                return HostCall::Ready(self.verdict_of(py, instance, phase, &value));
            }
            let started = self.watched(instance, phase, || self.start(py, &value));
            let task = match started {
                Ok(task) => task,
                Err(error) => return HostCall::Ready(Verdict::Failed(self.failure(instance, phase, describe(py, &error)))),
            };
            let plugin = Arc::clone(instance);
            let name = definition.name.clone();
            let read = move |py: Python<'_>, task: &Bound<'_, PyAny>| match task.call_method0(pyo3::intern!(py, "result")) {
                Ok(value) if value.is_none() => Verdict::Continue,
                Ok(value) => match value.cast::<PyAnswer>() {
                    Ok(_) if phase == Phase::Log => Verdict::Continue,
                    Ok(answer) => Verdict::Answer(Box::new(answer.get().inner.clone())),
                    Err(_) => Verdict::Failed(Box::new(PluginFailure {
                        plugin: name.clone(),
                        phase,
                        detail: format!(
                            "returned a `{}`, expected None or what exchange.answer() or exchange.error() made",
                            value.get_type().name().map_or_else(|_| "?".to_owned(), |n| n.to_string())
                        ),
                    })),
                },
                Err(error) => Verdict::Failed(Box::new(PluginFailure { plugin: plugin.name.to_string(), phase, detail: describe(py, &error) })),
            };
            let is_done = task.call_method0(pyo3::intern!(py, "done")).and_then(|done| done.extract::<bool>()).unwrap_or(false);
            if is_done {
                return HostCall::Ready(read(py, &task));
            }
            let (sender, finished) = oneshot::channel();
            let callback = Py::new(py, Finished { sender: Some(sender) });
            let added = callback.and_then(|callback| task.call_method1(pyo3::intern!(py, "add_done_callback"), (callback,)));
            if let Err(error) = added {
                return HostCall::Ready(Verdict::Failed(self.failure(instance, phase, describe(py, &error))));
            }
            // asyncio sits in `select` while we run: it must look at its queue for the task to go on.
            event_loop::wake();
            HostCall::Suspended(Box::pin(Suspended { task: Some(task.unbind()), finished, read: Box::new(read) }))
        })
    }

    fn filter_body(
        &self,
        instance: &Arc<PluginInstance>,
        exchange: &ExchangeRef,
        chunk: &[u8],
        is_last: bool,
    ) -> Result<Option<Vec<u8>>, Box<PluginFailure>> {
        let phase = Phase::BodyFilter;
        Python::attach(|py| {
            let definition = &self.definitions[usize::from(instance.plugin.0)];
            let Some(hook) = &definition.hooks[phase as usize] else { return Ok(None) };
            let config = match &self.built(py, instance).config {
                Ok(config) => config,
                Err(detail) => return Err(self.failure(instance, phase, format!("cannot use its configuration: {detail}"))),
            };
            let fail = |error: PyErr| self.failure(instance, phase, describe(py, &error));
            let view = Life::view_of(py, exchange).map_err(fail)?;
            let value = self
                .watched(instance, phase, || hook.bind(py).call1((&view, config, PyBytes::new(py, chunk), is_last)))
                .map_err(|error| self.failure(instance, phase, describe(py, &error)))?;
            if value.is_none() {
                return Ok(None);
            }
            match value.cast::<PyBytes>() {
                Ok(bytes) => Ok(Some(bytes.as_bytes().to_vec())),
                Err(_) => {
                    let kind = value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
                    Err(self.failure(instance, phase, format!("returned a `{kind}`, expected bytes or None")))
                }
            }
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
            Python::attach(|_| {
                if let Ok(life) = data.downcast::<Rc<Life>>() {
                    life.end();
                }
            });
        }
    }
}

/// The error a kept view raises.
pub fn over() -> PyErr {
    PyRuntimeError::new_err("this exchange is over: take what you need from it during the phase, do not keep it")
}
