// SPDX-License-Identifier: Apache-2.0
//! Who holds the thread? Python that runs on the data plane is named in shared memory while it runs, and in the log when it
//! ran long.

use pylae_core::observe::Level;
use pylae_core::phases::Phase;
use pylae_shared::{Segment, Statistic, monotonic};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Python that holds the thread longer than this is named.
const BLOCKING: Duration = Duration::from_millis(5);
/// What is named while asyncio runs and no hook is known to.
const EVENT_LOOP: &str = "the event loop";

/// One plugin's phase.
#[derive(Debug)]
pub struct Label {
    /// The plugin's name.
    pub plugin: String,
    /// The phase.
    pub phase: Phase,
    /// `plugin phase`, as the "now running" slot has it.
    text: String,
}

impl Label {
    /// The label of a plugin's phase.
    pub fn new(plugin: &str, phase: Phase) -> Rc<Self> {
        Rc::new(Label { plugin: plugin.to_owned(), phase, text: format!("{plugin} {}", phase.name()) })
    }
}

/// How long the kernel has kept this thread waiting for a processor: time that nobody blocked.
struct Withheld {
    statistics: Option<File>,
    at: Cell<Duration>,
    total: Cell<Duration>,
}

impl Withheld {
    /// A reading that is older than this is taken again before a hook; a hook is blamed for this much at most that it did not do.
    const FRESH: Duration = Duration::from_millis(1);

    fn new() -> Self {
        // Absent where the kernel keeps no such statistics: then all time counts.
        let statistics = File::open("/proc/thread-self/schedstat").ok();
        let withheld = Withheld { statistics, at: Cell::new(monotonic()), total: Cell::new(Duration::ZERO) };
        withheld.read();
        withheld
    }

    fn read(&self) -> Duration {
        let mut text = [0u8; 96];
        let read = self.statistics.as_ref().and_then(|file| file.read_at(&mut text, 0).ok());
        let waited_ns = read.and_then(|length| std::str::from_utf8(&text[..length]).ok()?.split(' ').nth(1)?.parse().ok());
        let total = waited_ns.map_or(Duration::ZERO, Duration::from_nanos);
        self.at.set(monotonic());
        self.total.set(total);
        total
    }

    /// The total, as it was not long ago.
    fn before(&self, now: Duration) -> Duration {
        if now.saturating_sub(self.at.get()) > Withheld::FRESH { self.read() } else { self.total.get() }
    }
}

/// Writes a line of `error.log`.
pub type LogSink = Box<dyn Fn(Level, &str)>;

/// Watches the data-plane thread.
pub struct Monitor {
    segment: Arc<Segment>,
    slot: usize,
    generation: u64,
    pid: u64,
    log: RefCell<Option<LogSink>>,
    /// Since when asyncio has been running, and what had been withheld then; `None` while the data plane runs.
    in_loop: Cell<Option<(Duration, Duration)>>,
    /// Time of this round of asyncio that hooks are known to have taken.
    named: Cell<Duration>,
    withheld: Withheld,
}

impl Monitor {
    /// A monitor that speaks for a worker's slot; made on the thread that it watches.
    pub fn new(segment: Arc<Segment>, slot: usize, generation: u64) -> Rc<Self> {
        Rc::new(Monitor {
            segment,
            slot,
            generation,
            pid: u64::from(std::process::id()),
            log: RefCell::new(None),
            in_loop: Cell::new(None),
            named: Cell::new(Duration::ZERO),
            withheld: Withheld::new(),
        })
    }

    /// Lines go there from now on.
    pub fn set_log(&self, log: LogSink) {
        *self.log.borrow_mut() = Some(log);
    }

    /// Writes a line of `error.log`.
    pub fn say(&self, level: Level, text: &str) {
        if let Some(log) = self.log.borrow().as_ref() {
            log(level, text);
        }
    }

    /// Is the slot ours? After a reload it belongs to the next generation while we drain.
    pub fn owns_slot(&self) -> bool {
        self.segment.generation(self.slot) == self.generation && self.segment.pid(self.slot) == self.pid
    }

    fn begin(&self, text: &str, at: Duration) {
        if self.owns_slot() {
            self.segment.begin_running(self.slot, text, at.as_millis() as u64);
        }
    }

    fn end(&self, at: Duration) {
        if self.in_loop.get().is_some() {
            self.begin(EVENT_LOOP, at);
        } else if self.owns_slot() {
            self.segment.end_running(self.slot);
        }
    }

    /// Runs a hook, or a step of one.
    pub fn watch<R>(&self, label: &Label, f: impl FnOnce() -> R) -> R {
        let begun = monotonic();
        self.begin(&label.text, begun);
        let withheld = self.withheld.before(begun);
        let result = f();
        let ended = monotonic();
        let took = ended.saturating_sub(begun);
        self.end(ended);
        if took > BLOCKING {
            let held = took.saturating_sub(self.withheld.read().saturating_sub(withheld));
            self.named.set(self.named.get() + held);
            if held > BLOCKING {
                self.count_blocked();
                let text = format!("plugin {} blocked the worker for {} ms in {}", label.plugin, held.as_millis(), label.phase.name());
                self.say(Level::Warn, &text);
            }
        }
        result
    }

    /// asyncio's turn begins.
    pub fn enter_loop(&self) {
        self.named.set(Duration::ZERO);
        let now = monotonic();
        self.in_loop.set(Some((now, self.withheld.before(now))));
        self.begin(EVENT_LOOP, now);
    }

    /// The data plane's turn begins.
    pub fn leave_loop(&self) {
        let Some((since, withheld)) = self.in_loop.take() else { return };
        let now = monotonic();
        let took = now.saturating_sub(since);
        self.end(now);
        // Before the first request nobody waits: plugins that start may take their time.
        if took.saturating_sub(self.named.get()) > BLOCKING && self.owns_slot() {
            let held = took.saturating_sub(self.named.get()).saturating_sub(self.withheld.read().saturating_sub(withheld));
            if held > BLOCKING {
                self.count_blocked();
                let text = format!("a task or callback of a plugin blocked the worker for {} ms on the event loop", held.as_millis());
                self.say(Level::Warn, &text);
            }
        }
    }

    fn count_blocked(&self) {
        self.segment.statistic(self.slot, Statistic::PluginBlocked).fetch_add(1, Ordering::Relaxed);
    }
}
