// SPDX-License-Identifier: Apache-2.0
//! Would a server behind take this path for one that another Route guards?
//!
//! An escaped slash stays escaped when Routes are matched, as in Kong, for it may be part of a name (RFC 3986 §2.2). Many servers
//! decode it before they look what a path leads to; to them `/%2Fsecure` is `/secure`. Where the two readings lead to different
//! Routes, and the one that was not matched has a plugin in its access phase that the other has not, the request would go round it.

use crate::phases::Phase;
use crate::phases::plan::RoutePlan;
use crate::router::path::normalise;
use crate::router::{Match, RequestView, Router};
use crate::snapshot::Snapshot;
use std::sync::Arc;

const ESCAPED_SLASH: &[u8] = b"%2F";

/// The plan of the Route that the path leads to once its escaped slashes are decoded; `None` if that is the same Route, or none.
pub fn other_plan(snapshot: &Snapshot, view: &RequestView<'_>, matched: &Match) -> Option<Arc<RoutePlan>> {
    let decoded = with_slashes(view.path)?;
    let other = other_match(&snapshot.router, view, &decoded)?;
    if other.route.id == matched.route.id {
        return None;
    }
    Some(Arc::clone(snapshot.plan.for_route(other.route.id, other.service.as_ref().map(|service| service.id))))
}

/// Is there a plugin in the access phase of `guarded` that `taken` does not have in the same configuration?
pub fn goes_round(taken: &RoutePlan, guarded: &RoutePlan) -> bool {
    let has = |id| taken.candidates().iter().any(|candidate| candidate.instance(None).is_some_and(|instance| instance.id == id));
    guarded
        .candidates()
        .iter()
        .filter(|candidate| candidate.phases & Phase::Access.bit() != 0)
        .filter_map(|candidate| candidate.instance(None))
        .any(|instance| !has(instance.id))
}

fn other_match(router: &Router, view: &RequestView<'_>, path: &[u8]) -> Option<Match> {
    router.match_request(&RequestView { path, ..*view })
}

/// The path, normalised, with its escaped slashes decoded and followed; `None` if it has none.
fn with_slashes(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'%', path)?;
    let mut rest = path;
    let mut out = Vec::new();
    while let Some(at) = memchr::memmem::find(rest, ESCAPED_SLASH) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'/');
        rest = &rest[at + ESCAPED_SLASH.len()..];
    }
    if out.is_empty() {
        return None;
    }
    out.extend_from_slice(rest);
    // What leaves the root was refused before.
    normalise(&out).ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::with_slashes;

    #[test]
    fn test_escaped_slashes_are_decoded_and_followed() {
        for (path, expected) in [
            ("/%2Fsecure", Some("/secure")),
            ("/open%2F..%2Fsecure", Some("/secure")),
            ("/a%2Fb/c", Some("/a/b/c")),
            ("/a/b", None),
            ("/a%3Fb", None),
        ] {
            assert_eq!(with_slashes(path.as_bytes()), expected.map(|path| path.as_bytes().to_vec()), "{path}");
        }
    }
}
