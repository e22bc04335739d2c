// SPDX-License-Identifier: Apache-2.0
//! How do asyncio and tokio share one thread? asyncio's blocking point, `selector.select(timeout)`, *is* the tokio
//! runtime: asyncio's own descriptors lie in an inner epoll that tokio watches. The Python half is
//! `python/pylae/worker/event_loop.py`.

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

/// The runtime of the data-plane thread.
pub struct Inner {
    /// tokio.
    pub runtime: Runtime,
    /// Tasks that stay on this thread.
    pub local: LocalSet,
    epoll: AsyncFd<OwnedFd>,
    wake: Notify,
    is_waiting: Cell<bool>,
}

thread_local! {
    static INNER: RefCell<Option<Rc<Inner>>> = const { RefCell::new(None) };
}

/// The runtime of this thread, made on first use.
///
/// # Errors
/// No descriptors left.
pub fn inner() -> io::Result<Rc<Inner>> {
    if let Some(inner) = INNER.with_borrow(Option::clone) {
        return Ok(inner);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // SAFETY: a plain system call; the result is checked.
    let raw = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `raw` is fresh and owned by nobody else.
    let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
    let epoll = {
        let _guard = runtime.enter();
        // SAFETY: the AsyncFd owns the descriptor, so it stays open as long as it is registered.
        unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }.map_err(io::Error::from)?
    };
    let inner = Rc::new(Inner { runtime, local: LocalSet::new(), epoll, wake: Notify::new(), is_waiting: Cell::new(false) });
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

/// What the asyncio selector asks of the runtime.
#[pyclass(unsendable)]
pub struct Reactor {
    inner: Rc<Inner>,
}

struct OnThisThread<T>(T);
// SAFETY: `Python::detach` runs its closure on the calling thread; nothing leaves it. The bound exists for closures that do.
unsafe impl<T> Send for OnThisThread<T> {}

impl<T> OnThisThread<T> {
    fn into_inner(self) -> T {
        self.0
    }
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
        let inner = Rc::clone(&self.inner);
        let work = OnThisThread(inner);
        py.detach(move || {
            let inner = work.into_inner();
            inner.is_waiting.set(true);
            inner.local.block_on(&inner.runtime, async {
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
                    ready = inner.epoll.readable() => {
                        if let Ok(mut guard) = ready {
                            guard.clear_ready();
                        }
                    }
                    () = inner.wake.notified() => {}
                    () = pause => {}
                }
            });
            inner.is_waiting.set(false);
        });
        // SAFETY: plain data the call fills in.
        let mut events: [libc::epoll_event; 64] = unsafe { std::mem::zeroed() };
        // SAFETY: our descriptor, a valid array of 64; returns at once.
        let count = unsafe { libc::epoll_wait(self.inner.epoll.as_raw_fd(), events.as_mut_ptr(), 64, 0) };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(Vec::new()) } else { Err(error.into()) };
        }
        Ok(events[..count as usize].iter().map(|event| (event.u64 as RawFd, event.events)).collect())
    }

    /// Ends a `wait` that is going on; without one it does nothing.
    #[expect(clippy::unused_self, reason = "a method in Python")]
    fn wake(&self) {
        wake();
    }
}
