// SPDX-License-Identifier: Apache-2.0
//! What does the table of faults say? Documentation and verdicts read the one the data plane reads.

use pylae_core::fault::{FaultKind, Retry};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A row for each fault, in walking order.
#[pyfunction]
pub fn faults(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    FaultKind::ALL.iter().map(|kind| row(py, *kind)).collect()
}

fn row(py: Python<'_>, kind: FaultKind) -> PyResult<Bound<'_, PyDict>> {
    let facts = kind.facts();
    let row = PyDict::new(py);
    row.set_item("name", facts.name)?;
    row.set_item("room", facts.room)?;
    row.set_item("side", facts.side.name())?;
    row.set_item("status", facts.status)?;
    row.set_item("may_have_acted", facts.may_have_acted)?;
    row.set_item("retry", retry_name(facts.retry))?;
    row.set_item("phrase", facts.phrase)?;
    row.set_item("response_flag", facts.response_flag)?;
    row.set_item("tyk_flag", facts.tyk_flag)?;
    row.set_item("proxy_status", facts.proxy_status)?;
    row.set_item("cure", facts.cure)?;
    Ok(row)
}

fn retry_name(retry: Retry) -> &'static str {
    match retry {
        Retry::Never => "never",
        Retry::NothingSent => "nothing_sent",
        Retry::Idempotent => "idempotent",
    }
}
