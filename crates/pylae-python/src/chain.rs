// SPDX-License-Identifier: Apache-2.0
//! How does a plugin ask whether a client's certificate is trusted?

use pylae_core::tls::chain::{self, Refused, Wanted};
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

pyo3::create_exception!(_core, ChainRefused, PyException, "Nobody we trust vouches for the certificate; args: (kind, text).");

fn refused(error: &Refused) -> PyErr {
    ChainRefused::new_err((error.kind(), error.to_string()))
}

/// A certificate revocation list (DER), read once.
#[pyclass(frozen, module = "pylae._core")]
pub struct RevocationList(chain::RevocationList);

#[pymethods]
impl RevocationList {
    #[new]
    #[expect(clippy::needless_pass_by_value, reason = "what Python's bytes become is ours")]
    fn new(py: Python<'_>, der: PyBackedBytes) -> PyResult<Self> {
        // A list of a million certificates takes a while: called from a thread, nobody waits for it.
        py.detach(|| chain::RevocationList::new(&der)).map(RevocationList).map_err(|error| refused(&error))
    }

    #[expect(clippy::unused_self, reason = "a method of Python")]
    fn __repr__(&self) -> &'static str {
        "<revocation list>"
    }

    /// Until when it counts, in seconds since the epoch.
    #[getter]
    fn next_update_s(&self) -> Option<i64> {
        self.0.next_update_s
    }

    /// The name of its issuer: DER, without the head of the outer sequence.
    #[getter]
    fn issuer<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.issuer())
    }
}

fn slices(of: &[PyBackedBytes]) -> Vec<&[u8]> {
    of.iter().map(|bytes| &**bytes).collect()
}

/// Builds and checks a path from the first certificate of `chain` to one of `anchors`.
#[pyfunction]
#[pyo3(signature = (chain, anchors, *, at_s, helpers = Vec::new(), crls = Vec::new(), status_of = None, depth = 6))]
#[expect(clippy::needless_pass_by_value, reason = "what Python's lists become is ours")]
#[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
pub fn verify_client_chain<'py>(
    py: Python<'py>,
    chain: Vec<PyBackedBytes>,
    anchors: Vec<PyBackedBytes>,
    at_s: u64,
    helpers: Vec<PyBackedBytes>,
    crls: Vec<Py<RevocationList>>,
    status_of: Option<&str>,
    depth: usize,
) -> PyResult<(Vec<Bound<'py, PyBytes>>, usize)> {
    let wanted = match status_of {
        None => Wanted::Nothing,
        Some("leaf") => Wanted::OfLeaf,
        Some("all") => Wanted::OfAll,
        Some(_) => return Err(PyValueError::new_err("status_of: expected `leaf`, `all` or None")),
    };
    let lists: Vec<&chain::RevocationList> = crls.iter().map(|list| &list.get().0).collect();
    let trusted = chain::verify(&slices(&chain), &slices(&helpers), &slices(&anchors), &lists, wanted, at_s, depth);
    let trusted = trusted.map_err(|error| refused(&error))?;
    Ok((trusted.path.iter().map(|der| PyBytes::new(py, der)).collect(), trusted.anchor))
}
