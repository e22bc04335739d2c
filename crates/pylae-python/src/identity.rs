// SPDX-License-Identifier: Apache-2.0
//! Who was found, in the data plane's own form? Ids and header fields are made once per credential, not once per request.

use pylae_core::http::headers::{Headers, is_token, is_value};
use pylae_core::snapshot::Id;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

/// A field that the upstream is told, or must not see.
struct Field {
    name: Box<str>,
    value: Option<Box<[u8]>>,
}

/// What `client.identify` takes in: kept in the `imprint` of an identity, read by nobody else.
#[pyclass(frozen, module = "pylae._core")]
pub struct Imprint {
    /// The whole row.
    pub consumer: Option<Py<PyAny>>,
    /// What proved it.
    pub credential: Option<Py<PyAny>>,
    /// Decides which plugin rows apply.
    pub consumer_id: Option<Id>,
    /// What is hashed and recorded.
    pub credential_id: Option<Id>,
    fields: Vec<Field>,
}

impl Imprint {
    /// The imprint of an identity, made when it is first asked for.
    pub fn of<'py>(identity: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Imprint>> {
        let py = identity.py();
        let slot = pyo3::intern!(py, "imprint");
        if let Ok(known) = identity.getattr(slot)?.cast_into::<Imprint>() {
            return Ok(known);
        }
        let made = Bound::new(py, Imprint::new(identity)?)?;
        identity.setattr(slot, &made)?;
        Ok(made)
    }

    fn new(identity: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = identity.py();
        let consumer = identity.getattr(pyo3::intern!(py, "consumer"))?;
        let credential = identity.getattr(pyo3::intern!(py, "credential"))?;
        let consumer = (!consumer.is_none()).then_some(consumer);
        let credential = (!credential.is_none()).then_some(credential);
        let mut fields = Vec::new();
        for pair in identity.getattr(pyo3::intern!(py, "headers"))?.try_iter()? {
            let pair = pair?.cast_into::<PyTuple>()?;
            let (name, value) = (pair.get_item(0)?, pair.get_item(1)?);
            let name = name.cast::<PyString>()?.to_str()?;
            // `lay` looks for no others.
            if !is_token(name.as_bytes()) || !matches!(name.as_bytes()[0], b'x' | b'X') {
                return Err(PyValueError::new_err(format!("`{}` is no header name that begins with `X-`", name.escape_default())));
            }
            let value = if value.is_none() { None } else { Some(told(&value)?.into_boxed_slice()) };
            fields.push(Field { name: name.into(), value });
        }
        Ok(Imprint {
            consumer_id: consumer_id(consumer.as_ref())?,
            credential_id: credential_id(credential.as_ref()),
            consumer: consumer.map(Bound::unbind),
            credential: credential.map(Bound::unbind),
            fields,
        })
    }

    /// Lays the fields over those that go upstream: whatever the client sent under these names is gone.
    pub fn lay(&self, headers: &mut Headers) {
        headers.retain(|name, _| {
            // Most fields of a request are none of these: looked at by their first byte.
            !matches!(name.first(), Some(b'x' | b'X')) || !self.fields.iter().any(|field| name.eq_ignore_ascii_case(field.name.as_bytes()))
        });
        for field in &self.fields {
            if let Some(value) = &field.value {
                headers.add(field.name.as_bytes(), value);
            }
        }
    }
}

/// A value as the bytes of a field.
fn told(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let bytes = crate::exchange::bytes_of(value.cast::<PyString>()?)?;
    let bytes = bytes.trim_ascii().to_vec();
    if is_value(&bytes) { Ok(bytes) } else { Err(PyValueError::new_err("a header value holds CR, LF or NUL")) }
}

/// Id of a Consumer's row.
///
/// # Errors
/// It is no UUID.
pub fn consumer_id(consumer: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Id>> {
    let Some(consumer) = consumer else { return Ok(None) };
    let id = consumer.get_item("id")?;
    let id = id.cast::<PyString>()?;
    Ok(Some(Id::parse(id.to_str()?).ok_or_else(|| PyValueError::new_err("a Consumer's id is a UUID"))?))
}

/// Id of a credential. One that came from elsewhere need not have one, nor a UUID for one.
pub fn credential_id(credential: Option<&Bound<'_, PyAny>>) -> Option<Id> {
    let id = credential?.get_item("id").ok()?;
    Id::parse(id.cast::<PyString>().ok()?.to_str().ok()?)
}
