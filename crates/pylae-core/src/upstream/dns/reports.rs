// SPDX-License-Identifier: Apache-2.0
//! Which names is control still to be told of, and which first? So many a second; what cannot be told now stays due.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// How often reports go out, and how many at once: 500 a second.
pub(super) const TICK: Duration = Duration::from_millis(20);
pub(super) const REPORTS_PER_TICK: usize = 10;
/// Names that may be due; beyond it renewals wait for their next turn.
const MOST_DUE: usize = 65_536;

/// Why a name is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The same is known again, or for longer.
    Renewed,
    /// Nothing is remembered of it any more.
    Forgotten,
    /// Something else is known.
    Changed,
}

/// The names that are due, each once.
#[derive(Debug, Default)]
pub(super) struct Reports {
    due: HashMap<Rc<str>, Why>,
    changes: VecDeque<Rc<str>>,
    others: VecDeque<Rc<str>>,
}

impl Reports {
    /// A name is to be told of; one that is due already stays in its place, unless this is more urgent.
    pub fn add(&mut self, name: &Rc<str>, why: Why) {
        let before = self.due.get(name).copied();
        if before == Some(Why::Changed) || before.is_none() && why != Why::Changed && self.due.len() >= MOST_DUE {
            return;
        }
        self.due.insert(Rc::clone(name), why);
        if why == Why::Changed {
            self.changes.push_back(Rc::clone(name));
        } else if before.is_none() {
            self.others.push_back(Rc::clone(name));
        }
    }

    /// The next one; changes go first.
    pub fn take(&mut self) -> Option<(Rc<str>, Why)> {
        while let Some(name) = self.changes.pop_front().or_else(|| self.others.pop_front()) {
            // One that became urgent stands in both queues.
            if let Some(why) = self.due.remove(&name) {
                return Some((name, why));
            }
        }
        None
    }

    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_changes_go_first_and_each_name_once() {
        let mut reports = Reports::default();
        let [a, b, c]: [Rc<str>; 3] = ["a".into(), "b".into(), "c".into()];
        for (name, why) in [(&a, Why::Renewed), (&b, Why::Renewed), (&c, Why::Changed), (&b, Why::Changed), (&b, Why::Renewed)] {
            reports.add(name, why);
        }
        let taken: Vec<_> = std::iter::from_fn(|| reports.take()).collect();
        assert_eq!(taken, [(c, Why::Changed), (b, Why::Changed), (a, Why::Renewed)]);
        assert!(reports.is_empty());
    }

    #[test]
    fn test_no_change_is_lost_however_many_names_are_due() {
        let mut reports = Reports::default();
        for number in 0..MOST_DUE {
            reports.add(&format!("{number}").as_str().into(), Why::Renewed);
        }
        reports.add(&"renewed".into(), Why::Renewed);
        reports.add(&"changed".into(), Why::Changed);
        assert_eq!(reports.take(), Some(("changed".into(), Why::Changed)));
        assert_eq!(std::iter::from_fn(|| reports.take()).count(), MOST_DUE);
    }
}
