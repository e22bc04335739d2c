// SPDX-License-Identifier: Apache-2.0
//! Can an alternative be judged from one line of the processor's cache? Most set one host, one prefix, or both, and nothing else.

use super::RequestView;

/// Bytes of host and prefix a record has room for.
const ROOM: usize = 48;

/// What is looked at first of an alternative.
#[repr(align(64))]
pub(super) struct Record {
    /// The Route's place.
    pub(super) route: u32,
    kind: Kind,
    host_length: u8,
    path_length: u8,
    text: [u8; ROOM],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Host and prefix are all.
    Whole,
    /// The same, and the path must end with the prefix.
    WholePath,
    /// The alternative has to be asked.
    Partial,
}

/// A host and what the path begins with or is; all that an alternative demands.
#[derive(Default, Clone, Copy)]
pub(super) struct Demand<'a> {
    pub(super) host: Option<&'a [u8]>,
    pub(super) path: Option<&'a [u8]>,
    pub(super) is_whole_path: bool,
}

/// What a record says of a request.
pub(super) enum Verdict {
    No,
    /// It matches, and this much of the path was matched.
    Yes(Option<usize>),
    /// The alternative has to be asked.
    Ask,
}

impl Record {
    pub(super) fn new(route: u32, demand: Option<Demand<'_>>) -> Self {
        let mut record = Record { route, kind: Kind::Partial, host_length: 0, path_length: 0, text: [0; ROOM] };
        let Some(demand) = demand else { return record };
        let (host, path) = (demand.host.unwrap_or_default(), demand.path.unwrap_or_default());
        let is_empty = |text: Option<&[u8]>| text.is_some_and(<[u8]>::is_empty);
        if host.len() + path.len() > ROOM || is_empty(demand.host) || is_empty(demand.path) {
            return record;
        }
        record.text[..host.len()].copy_from_slice(host);
        record.text[host.len()..host.len() + path.len()].copy_from_slice(path);
        (record.host_length, record.path_length) = (host.len() as u8, path.len() as u8);
        record.kind = if demand.is_whole_path { Kind::WholePath } else { Kind::Whole };
        record
    }

    /// Does a yes say that the path begins with the alternative's only path, and has that this length?
    #[inline]
    pub(super) fn shows_prefix_of(&self, length: usize) -> bool {
        self.kind != Kind::Partial && usize::from(self.path_length) == length
    }

    #[inline]
    pub(super) fn judge(&self, view: &RequestView<'_>) -> Verdict {
        if self.kind == Kind::Partial {
            return Verdict::Ask;
        }
        let (host_length, path_length) = (usize::from(self.host_length), usize::from(self.path_length));
        let (host, rest) = self.text.split_at(host_length.min(ROOM));
        let path = &rest[..path_length.min(rest.len())];
        let holds = (host.is_empty() || host == view.host)
            && view.path.starts_with(path)
            && (self.kind == Kind::Whole || path.len() == view.path.len());
        if holds { Verdict::Yes((!path.is_empty()).then_some(path.len())) } else { Verdict::No }
    }
}
