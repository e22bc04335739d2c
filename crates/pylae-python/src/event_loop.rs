// SPDX-License-Identifier: Apache-2.0
//! How do asyncio and tokio share one thread? asyncio's blocking point, `selector.select(timeout)`, *is* the tokio
//! runtime: asyncio's own descriptors lie in an inner epoll that tokio watches. The Python half is
//! `python/pylae/worker/event_loop.py`.

use crate::monitor::Monitor;
use pyo3::prelude::*;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::LocalSet;

/// Descriptors of asyncio told at once; what is left is told the next time.
const EVENTS_AT_ONCE: usize = 64;

/// The runtime of the data-plane thread.
pub struct Inner {
    /// tokio.
    pub runtime: Runtime,
    local: RefCell<LocalSet>,
    epoll: AsyncFd<OwnedFd>,
    wake: Notify,
    is_waiting: Cell<bool>,
    /// Told whose turn it is, once there is a worker.
    pub monitor: RefCell<Option<Rc<Monitor>>>,
}

thread_local! {
    static INNER: RefCell<Option<Rc<Inner>>> = const { RefCell::new(None) };
}

impl Inner {
    fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().on_thread_park(park).on_thread_unpark(unpark).build()?;
        // SAFETY: a plain system call; the result is checked.
        let raw = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` is fresh and owned by nobody else.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        let epoll = {
            let _guard = runtime.enter();
            // SAFETY: an `OwnedFd` names the same open descriptor as long as the `AsyncFd` holds it.
            unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }.map_err(io::Error::from)?
        };
        Ok(Inner {
            runtime,
            local: RefCell::new(LocalSet::new()),
            epoll,
            wake: Notify::new(),
            is_waiting: Cell::new(false),
            monitor: RefCell::new(None),
        })
    }

    /// Starts a task on this thread.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.local.borrow().spawn_local(task);
    }

    /// Ends every task where it stands.
    ///
    /// # Panics
    /// When called from inside one of them.
    pub fn drop_tasks(&self) {
        let _guard = self.runtime.enter();
        let old = self.local.replace(LocalSet::new());
        drop(old);
    }

    /// Runs the data plane until asyncio has something to do.
    fn turn(&self, timeout: Option<f64>) {
        self.is_waiting.set(true);
        let local = self.local.borrow();
        local.block_on(&self.runtime, async {
            let pause = async {
                match timeout {
                    // Something is ready in asyncio already: one turn for the data plane, then back.
                    Some(seconds) if seconds <= 0.0 => tokio::task::yield_now().await,
                    Some(seconds) => tokio::time::sleep(Duration::from_secs_f64(seconds.min(86_400.0))).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                ready = self.epoll.readable() => {
                    if let Ok(mut guard) = ready {
                        guard.clear_ready();
                    }
                }
                () = self.wake.notified() => {}
                () = pause => {}
            }
        });
        self.is_waiting.set(false);
    }

    /// asyncio's descriptors that are ready now, with their epoll masks.
    fn poll_descriptors(&self) -> io::Result<Vec<(RawFd, u32)>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_AT_ONCE];
        // SAFETY: our descriptor, a valid array of that length; returns at once.
        let count = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), EVENTS_AT_ONCE as i32, 0) };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(Vec::new()) } else { Err(error) };
        }
        Ok(events[..count as usize].iter().map(|event| (event.u64 as RawFd, event.events)).collect())
    }
}

/// The runtime of this thread, made on first use.
///
/// # Errors
/// No descriptors left.
pub fn inner() -> io::Result<Rc<Inner>> {
    if let Some(inner) = INNER.with_borrow(Option::clone) {
        return Ok(inner);
    }
    let inner = Rc::new(Inner::new()?);
    INNER.set(Some(Rc::clone(&inner)));
    Ok(inner)
}

/// Lets asyncio look at its queue now: something became ready inside the runtime.
pub fn wake() {
    INNER.with_borrow(|inner| {
        if let Some(inner) = inner
            && inner.is_waiting.get()
        {
            inner.wake.notify_one();
        }
    });
}

thread_local! {
    /// The interpreter's state of this thread while it waits; null while it works.
    static PARKED: Cell<*mut pyo3::ffi::PyThreadState> = const { Cell::new(std::ptr::null_mut()) };
}

/// The thread is about to sleep in the kernel: other Python threads may run. Releasing the interpreter here, once a sleep,
/// and not around the whole wait, spares taking the interpreter's lock for each hook: docs/decisions/0005, which says what is not measured.
fn park() {
    if INNER.with_borrow(|inner| inner.as_ref().is_some_and(|inner| inner.is_waiting.get())) {
        // SAFETY: `is_waiting` says that `Reactor::wait` holds the interpreter on this thread, below us on the stack, and
        // touches nothing of Python before `unpark` has restored it.
        PARKED.set(unsafe { pyo3::ffi::PyEval_SaveThread() });
    }
}

/// It is awake again.
fn unpark() {
    let state = PARKED.replace(std::ptr::null_mut());
    if !state.is_null() {
        // SAFETY: this thread's own state, saved by `park`.
        unsafe { pyo3::ffi::PyEval_RestoreThread(state) };
    }
}

/// What the asyncio selector asks of the runtime.
#[pyclass(unsendable, module = "pylae._core")]
pub struct Reactor {
    inner: Rc<Inner>,
}

#[pymethods]
impl Reactor {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Reactor { inner: inner()? })
    }

    /// Adds (1), removes (2) or changes (3) a descriptor; `events` is an epoll mask.
    fn control(&self, operation: i32, fd: RawFd, events: u32) -> PyResult<()> {
        let mut event = libc::epoll_event { events, u64: fd as u64 };
        // SAFETY: our epoll descriptor and a valid event; a bad `fd` is an error.
        if unsafe { libc::epoll_ctl(self.inner.epoll.as_raw_fd(), operation, fd, &raw mut event) } < 0 {
            return Err(io::Error::last_os_error().into());
        }
        Ok(())
    }

    /// Runs the data plane until one of asyncio's descriptors is ready, `wake` is called, or `timeout` seconds are over
    /// (`None`: for ever). Answers `[(fd, epoll mask)]`.
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Vec<(RawFd, u32)>> {
        let monitor = self.inner.monitor.borrow().clone();
        if let Some(monitor) = &monitor {
            monitor.leave_loop();
        }
        // tokio hears of our epoll when something in it *becomes* ready. What has stayed ready since the last time (a socket
        // not read to its end, more descriptors than are told at once) must be found here, or it would wait for ever.
        let is_ready = !self.inner.poll_descriptors()?.is_empty();
        let timeout = if is_ready { Some(0.0) } else { timeout };
        self.inner.turn(timeout);
        let _ = py;
        let ready = self.inner.poll_descriptors()?;
        if let Some(monitor) = &monitor {
            monitor.enter_loop();
        }
        Ok(ready)
    }

    /// Ends a `wait` that is going on; without one it does nothing.
    #[expect(clippy::unused_self, reason = "a method in Python")]
    fn wake(&self) {
        wake();
    }

    /// Ends every task of the data plane where it stands; between waits only.
    fn drop_tasks(&self) {
        self.inner.drop_tasks();
    }
}
