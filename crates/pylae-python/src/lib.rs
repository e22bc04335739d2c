// SPDX-License-Identifier: Apache-2.0
//! The seam: how do Python and the data plane meet? The only crate that imports pyo3.

mod call_handler;
mod chain;
mod configuration;
mod event_loop;
mod exchange;
mod faults;
mod gateway;
mod identity;
mod monitor;
mod recognition;
mod routing;
mod shared;

use pyo3::prelude::*;

/// The data plane makes and drops a few dozen small things a request; glibc's malloc costs 9 % of a request for the larger
/// of them (perf, 2026-11-24), mimalloc 3 %. Python keeps its own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives what this thread has freed back to the system. The helper thread frees whole configurations and then sleeps: without
/// this their memory would stay with it until its next work.
fn release_memory() {
    // SAFETY: takes no pointer and may be called at any time by any thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// The data plane as a Python module; its typed face is `python/pylae/_core.pyi`.
#[pymodule]
#[pyo3(name = "_core")]
fn core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<gateway::Gateway>()?;
    module.add_class::<event_loop::Reactor>()?;
    module.add_class::<shared::Shared>()?;
    module.add_class::<configuration::Configuration>()?;
    module.add_class::<exchange::Exchange>()?;
    module.add_class::<exchange::Answer>()?;
    module.add_class::<chain::RevocationList>()?;
    module.add("ChainRefused", module.py().get_type::<chain::ChainRefused>())?;
    module.add_function(wrap_pyfunction!(chain::verify_client_chain, module)?)?;
    module.add_function(wrap_pyfunction!(shared::create_shared, module)?)?;
    module.add_function(wrap_pyfunction!(faults::faults, module)?)?;
    module.add_function(wrap_pyfunction!(routing::check_expression, module)?)?;
    module.add_function(wrap_pyfunction!(routing::regex_problem, module)?)?;
    module.add("build_profile", if cfg!(debug_assertions) { "debug" } else { "release" })?;
    Ok(())
}
