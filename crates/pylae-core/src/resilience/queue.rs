// SPDX-License-Identifier: Apache-2.0
//! Whose turn is it at a host that takes only so many requests at once? First come, first served.

use super::policy::QueueRules;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// One host's requests in flight, and those that wait.
#[derive(Debug)]
pub struct Queue {
    rules: QueueRules,
    in_flight: Cell<usize>,
    /// By ticket: the lowest came first.
    waiting: RefCell<BTreeMap<u64, Waker>>,
    next: Cell<u64>,
}

/// The right to be in flight, until it is dropped.
#[derive(Debug)]
pub struct Place(Rc<Queue>);

/// A request that waits; dropped, it leaves the queue.
#[derive(Debug)]
pub struct Waiting {
    queue: Rc<Queue>,
    ticket: u64,
    is_over: bool,
}

impl Queue {
    /// An empty one.
    pub fn new(rules: QueueRules) -> Rc<Self> {
        Rc::new(Queue { rules, in_flight: Cell::new(0), waiting: RefCell::default(), next: Cell::new(0) })
    }

    /// What was configured.
    pub fn rules(&self) -> &QueueRules {
        &self.rules
    }

    /// A place, if there is one and nobody waits for it.
    pub fn enter(self: &Rc<Self>) -> Option<Place> {
        let is_free = self.in_flight.get() < self.rules.most_connections && self.waiting.borrow().is_empty();
        is_free.then(|| {
            self.in_flight.set(self.in_flight.get() + 1);
            Place(Rc::clone(self))
        })
    }

    /// Queues up; none when too many wait already.
    pub fn queue_up(self: &Rc<Self>) -> Option<Waiting> {
        if self.waiting_count() >= self.rules.most_waiting {
            return None;
        }
        let ticket = self.next.get();
        self.next.set(ticket + 1);
        self.waiting.borrow_mut().insert(ticket, Waker::noop().clone());
        Some(Waiting { queue: Rc::clone(self), ticket, is_over: false })
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// Requests that wait.
    pub fn waiting_count(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// A place is free: it goes to whoever waits longest.
    fn release(&self) {
        let first = self.waiting.borrow_mut().pop_first();
        match first {
            Some((_, waker)) => waker.wake(),
            None => self.in_flight.set(self.in_flight.get() - 1),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Waiting {
    /// Ready with a place when it is this one's turn.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Place> {
        if let Some(waker) = self.queue.waiting.borrow_mut().get_mut(&self.ticket) {
            waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        self.is_over = true;
        Poll::Ready(Place(Rc::clone(&self.queue)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let was_waiting = self.queue.waiting.borrow_mut().remove(&self.ticket).is_some();
        if !was_waiting {
            // It was given a place and did not come to take it.
            self.queue.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    fn queue(most_connections: usize, most_waiting: usize) -> Rc<Queue> {
        Queue::new(QueueRules { most_connections, most_waiting, deadline: Duration::from_secs(1) })
    }

    fn poll(waiting: &mut Waiting) -> Option<Place> {
        match waiting.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    #[test]
    fn test_a_place_that_gets_free_goes_to_who_came_first() {
        let queue = queue(1, 3);
        let place = queue.enter().expect("it is free");
        assert!(queue.enter().is_none());
        let mut waiting: Vec<Waiting> = (0..3).map(|_| queue.queue_up().expect("there is room")).collect();
        assert!(queue.queue_up().is_none(), "three wait already");
        assert!(waiting.iter_mut().all(|one| poll(one).is_none()));
        drop(place);
        assert!(queue.enter().is_none(), "it is somebody's turn already");
        assert!(poll(&mut waiting[1]).is_none());
        let place = poll(&mut waiting[0]).expect("it is the first one's turn");
        drop(place);
        assert!(poll(&mut waiting[2]).is_none());
        assert!(poll(&mut waiting[1]).is_some());
        assert!(poll(&mut waiting[2]).is_some());
        assert_eq!((queue.in_flight(), queue.waiting_count()), (0, 0));
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Alarm(AtomicUsize);

    impl Wake for Alarm {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn test_whose_turn_it_is_is_woken_and_nobody_else() {
        let queue = queue(1, 3);
        let place = queue.enter().expect("it is free");
        let alarms: Vec<Arc<Alarm>> = (0..3).map(|_| Arc::default()).collect();
        let woken = || alarms.iter().map(|alarm| alarm.0.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let mut waiting: Vec<Waiting> = (0..3).map(|_| queue.queue_up().expect("there is room")).collect();
        for (one, alarm) in waiting.iter_mut().zip(&alarms) {
            assert!(one.poll(&mut Context::from_waker(&Arc::clone(alarm).into())).is_pending());
        }
        drop(waiting.remove(1));
        assert_eq!(woken(), [0, 0, 0], "who leaves frees no place");
        drop(place);
        assert_eq!(woken(), [1, 0, 0]);
        drop(waiting.remove(0));
        assert_eq!(woken(), [1, 0, 1], "the first left without its place, the second had left before");
        assert!(poll(&mut waiting[0]).is_some());
        assert_eq!((queue.in_flight(), woken()), (0, vec![1, 0, 1]));
    }

    #[test]
    fn test_who_leaves_makes_room_at_once() {
        let queue = queue(1, 1);
        let place = queue.enter().expect("it is free");
        let waiting = queue.queue_up().expect("there is room");
        drop(waiting);
        assert_eq!(queue.waiting_count(), 0);
        let mut waiting = queue.queue_up().expect("there is room again");
        drop(place);
        assert!(poll(&mut waiting).is_some());
    }

    #[test]
    fn test_a_place_given_to_one_who_left_goes_on_to_the_next() {
        let queue = queue(1, 2);
        let place = queue.enter().expect("it is free");
        let (first, mut second) = (queue.queue_up().expect("room"), queue.queue_up().expect("room"));
        drop(place);
        drop(first);
        assert!(poll(&mut second).is_some());
        assert_eq!(queue.in_flight(), 0);
        assert!(queue.enter().is_some());
    }
}
