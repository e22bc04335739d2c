// SPDX-License-Identifier: Apache-2.0
//! How do bytes of a message become Python's `str`, and back? UTF-8 with `surrogateescape`, so that every byte survives the way.

use pylae_core::http::headers::{Headers, is_token, is_value};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyList, PyString};
use std::borrow::Cow;

/// Bytes as a `str`.
pub fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(PyString::new(py, text)),
        Err(_) => PyString::from_encoded_object(&PyBytes::new(py, bytes), Some(c"utf-8"), Some(c"surrogateescape")),
    }
}

/// A `str` as bytes.
pub fn bytes_of<'a>(text: &'a Bound<'_, PyString>) -> PyResult<Cow<'a, [u8]>> {
    match text.to_str() {
        Ok(text) => Ok(Cow::Borrowed(text.as_bytes())),
        Err(_) => {
            let encoded = text.call_method1("encode", ("utf-8", "surrogateescape"))?;
            Ok(Cow::Owned(encoded.cast::<PyBytes>()?.as_bytes().to_vec()))
        }
    }
}

/// What a Python value is, for error texts.
pub fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}

/// A field name, or `ValueError`.
pub fn checked_name(name: &str) -> PyResult<&str> {
    if is_token(name.as_bytes()) {
        Ok(name)
    } else {
        Err(PyValueError::new_err(format!("`{}` is no name for a header", name.escape_debug())))
    }
}

/// A field value, or `TypeError`, `ValueError`.
fn checked_value(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let Ok(value) = value.cast::<PyString>() else {
        return Err(PyTypeError::new_err(format!("value of header `{name}` is a {}, expected a str", type_name(value))));
    };
    let bytes = bytes_of(value)?;
    if is_value(&bytes) {
        Ok(bytes.into_owned())
    } else {
        Err(PyValueError::new_err(format!("value of header `{name}` holds a line break or NUL")))
    }
}

/// One field value, or all of a list.
pub fn checked_values(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<Vec<u8>>> {
    match value.cast::<PyList>() {
        Ok(list) => list.iter().map(|one| checked_value(name, &one)).collect(),
        Err(_) => Ok(vec![checked_value(name, value)?]),
    }
}

/// Puts these values in the place of all fields of that name.
pub fn set_fields(headers: &mut Headers, name: &str, values: &[Vec<u8>]) {
    match values {
        [one] => headers.set(name, one),
        many => {
            headers.remove(name);
            for value in many {
                headers.add(name, value);
            }
        }
    }
}

/// Fields of a mapping `name: str | list[str]`, in its order.
pub fn fields_of(mapping: Option<&Bound<'_, PyAny>>) -> PyResult<Headers> {
    let mut headers = Headers::new();
    let Some(mapping) = mapping.filter(|mapping| !mapping.is_none()) else { return Ok(headers) };
    each_item(mapping, |name, value| {
        let name = name.cast::<PyString>().map_err(|_| PyTypeError::new_err("names of headers are str"))?;
        let name = checked_name(name.to_str()?)?;
        for value in checked_values(name, value)? {
            headers.add(name, value);
        }
        Ok(())
    })?;
    Ok(headers)
}

fn each_item(mapping: &Bound<'_, PyAny>, mut f: impl FnMut(&Bound<'_, PyAny>, &Bound<'_, PyAny>) -> PyResult<()>) -> PyResult<()> {
    if let Ok(dict) = mapping.cast::<PyDict>() {
        return dict.iter().try_for_each(|(key, value)| f(&key, &value));
    }
    for item in mapping.call_method0("items")?.try_iter()? {
        let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item?.extract()?;
        f(&key, &value)?;
    }
    Ok(())
}

/// Adds a value under a key: alone, or to the list of a repeated one.
fn gather<'py>(dict: &Bound<'py, PyDict>, key: &Bound<'py, PyString>, value: Bound<'py, PyAny>) -> PyResult<()> {
    match dict.get_item(key)? {
        None => dict.set_item(key, value),
        Some(present) => match present.cast::<PyList>() {
            Ok(list) => list.append(value),
            Err(_) => dict.set_item(key, PyList::new(dict.py(), [present, value])?),
        },
    }
}

/// Fields as `{lower-case name: str | list[str]}`.
pub fn headers_dict<'py>(py: Python<'py>, headers: &Headers, is_wanted: impl Fn(&[u8]) -> bool) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in headers.iter().filter(|(name, _)| is_wanted(name)) {
        let name = text(py, &name.to_ascii_lowercase())?;
        gather(&dict, &name, text(py, value)?.into_any())?;
    }
    Ok(dict)
}

/// Every value under a name, as a list.
pub fn values_list<'py>(py: Python<'py>, headers: &Headers, name: &str) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for value in headers.get_all(name) {
        list.append(text(py, value)?)?;
    }
    Ok(list)
}

fn percent_decoded(piece: &[u8]) -> Cow<'_, [u8]> {
    if !piece.iter().any(|&byte| byte == b'%' || byte == b'+') {
        return Cow::Borrowed(piece);
    }
    let digit = |at: usize| piece.get(at).and_then(|&byte| (byte as char).to_digit(16));
    let mut out = Vec::with_capacity(piece.len());
    let mut at = 0;
    while at < piece.len() {
        match (piece[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 2;
            }
            (b'+', _, _) => out.push(b' '),
            (byte, _, _) => out.push(byte),
        }
        at += 1;
    }
    Cow::Owned(out)
}

/// Name and value of each argument of a query, decoded; no value for a name without `=`.
fn arguments(query: &[u8]) -> impl Iterator<Item = (Cow<'_, [u8]>, Option<Cow<'_, [u8]>>)> {
    query.split(|&byte| byte == b'&').filter_map(|piece| {
        let equals = piece.iter().position(|&byte| byte == b'=');
        let name = percent_decoded(&piece[..equals.unwrap_or(piece.len())]);
        (!name.is_empty()).then(|| (name, equals.map(|at| percent_decoded(&piece[at + 1..]))))
    })
}

fn argument_value<'py>(py: Python<'py>, value: Option<&[u8]>) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Some(value) => Ok(text(py, value)?.into_any()),
        None => Ok(PyBool::new(py, true).to_owned().into_any()),
    }
}

/// A query as `{name: str | True | list}`.
pub fn query_dict<'py>(py: Python<'py>, query: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in arguments(query) {
        gather(&dict, &text(py, &name)?, argument_value(py, value.as_deref())?)?;
    }
    Ok(dict)
}

/// The first value of an argument.
pub fn query_argument<'py>(py: Python<'py>, query: &[u8], wanted: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    match arguments(query).find(|(name, _)| name.as_ref() == wanted) {
        Some((_, value)) => argument_value(py, value.as_deref()).map(Some),
        None => Ok(None),
    }
}

/// Percent-encodes every byte that is neither unreserved (RFC 3986 §2.3) nor in `kept`.
fn percent_encode_into(out: &mut Vec<u8>, bytes: &[u8], kept: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// A path with what is not allowed in one percent-encoded; what is encoded already stays.
pub fn encoded_path(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    percent_encode_into(&mut out, path, b"/!$&'()*+,;=:@%");
    out
}

/// A query of `{name: str | True | list}`, in the mapping's order.
pub fn encoded_query(mapping: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut out = Vec::new();
    each_item(mapping, |name, values| {
        let name = name.cast::<PyString>().map_err(|_| PyTypeError::new_err("names of arguments are str"))?;
        let name = bytes_of(name)?;
        let mut one = |value: &Bound<'_, PyAny>| -> PyResult<()> {
            if !out.is_empty() {
                out.push(b'&');
            }
            percent_encode_into(&mut out, &name, b"");
            if value.cast::<PyBool>().is_ok_and(|flag| flag.is_true()) {
                return Ok(());
            }
            let Ok(value) = value.cast::<PyString>() else {
                return Err(PyTypeError::new_err(format!("value of argument `{}` is a {}, expected a str or True", String::from_utf8_lossy(&name), type_name(value))));
            };
            out.push(b'=');
            percent_encode_into(&mut out, &bytes_of(value)?, b"");
            Ok(())
        };
        match values.cast::<PyList>() {
            Ok(list) => list.iter().try_for_each(|value| one(&value)),
            Err(_) => one(values),
        }
    })?;
    Ok(out)
}
