// SPDX-License-Identifier: Apache-2.0
//! May a Route be stored? What the router could not compile, the Admin API refuses with these words.

use pyo3::prelude::*;

/// What is wrong with a Route's `expression`, or `None`.
#[pyfunction]
#[pyo3(signature = (text, *, is_stream = false))]
pub fn check_expression(py: Python<'_>, text: &str, is_stream: bool) -> Option<String> {
    let check = if is_stream { pylae_core::router::check_stream_expression } else { pylae_core::router::check_expression };
    py.detach(|| check(text).err())
}

/// What is wrong with a regular expression in a Route's `paths` or `headers`, or `None`.
#[pyfunction]
pub fn regex_problem(py: Python<'_>, pattern: &str) -> Option<String> {
    py.detach(|| pylae_core::router::regex_problem(pattern))
}
