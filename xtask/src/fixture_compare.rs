//! Is a fixture that was made again the same as the committed one?
//!
//! Bytes first. Another CPU may round a float differently, so floats in safetensors files may
//! differ by [`SLACK`], measured against the largest number of their tensor. Names, shapes,
//! dtypes, metadata and whole numbers must be equal.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tinyjson::JsonValue;

use crate::error::{Error, Result};

/// Allowed difference relative to the tensor's largest magnitude: a few units in the last place
/// of f32, far below every tolerance of the course.
const SLACK: f64 = 1e-6;

#[derive(Debug, PartialEq)]
pub enum Difference {
    None,
    WithinSlack(String),
    Real(String),
}

pub fn compare(committed: &Path, made: &Path) -> Result<Difference> {
    let read = |path: &Path| fs::read(path).map_err(|e| Error::io("read", path, &e));
    if !committed.exists() {
        return Ok(Difference::Real("it is not committed".to_owned()));
    }
    let (old, new) = (read(committed)?, read(made)?);
    if old == new {
        return Ok(Difference::None);
    }
    if made.extension().is_none_or(|extension| extension != "safetensors") {
        return Ok(Difference::Real("the bytes differ".to_owned()));
    }
    match (parse(&old), parse(&new)) {
        (Some(old), Some(new)) => Ok(compare_tensors(&old, &new)),
        _ => Ok(Difference::Real("it is not a readable safetensors file".to_owned())),
    }
}

struct Tensors<'a> {
    metadata: Option<JsonValue>,
    by_name: BTreeMap<String, Tensor<'a>>,
}

struct Tensor<'a> {
    dtype: String,
    shape: Vec<usize>,
    data: &'a [u8],
}

/// A safetensors file: the header's length as u64, the header as JSON, then the data.
fn parse(bytes: &[u8]) -> Option<Tensors<'_>> {
    let length = usize::try_from(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?)).ok()?;
    let header = std::str::from_utf8(bytes.get(8..length.checked_add(8)?)?).ok()?;
    let JsonValue::Object(fields) = header.trim_end().parse().ok()? else { return None };
    let data = &bytes[8 + length..];
    let mut tensors = Tensors { metadata: None, by_name: BTreeMap::new() };
    for (name, value) in fields {
        if name == "__metadata__" {
            tensors.metadata = Some(value);
            continue;
        }
        let JsonValue::Object(entry) = value else { return None };
        let numbers = |key: &str| -> Option<Vec<usize>> {
            let JsonValue::Array(items) = entry.get(key)? else { return None };
            items.iter().map(|item| item.get::<f64>().map(|n| *n as usize)).collect()
        };
        let offsets = numbers("data_offsets")?;
        let tensor = Tensor {
            dtype: entry.get("dtype")?.get::<String>()?.clone(),
            shape: numbers("shape")?,
            data: data.get(*offsets.first()?..*offsets.get(1)?)?,
        };
        tensors.by_name.insert(name, tensor);
    }
    Some(tensors)
}

fn compare_tensors(old: &Tensors<'_>, new: &Tensors<'_>) -> Difference {
    if old.metadata != new.metadata {
        return Difference::Real("the metadata (cases, tolerances) differ".to_owned());
    }
    if !old.by_name.keys().eq(new.by_name.keys()) {
        return Difference::Real("the names of the tensors differ".to_owned());
    }
    let mut worst: (f64, &str) = (0.0, "");
    for (name, old) in &old.by_name {
        let Some(new) = new.by_name.get(name) else { continue };
        if old.dtype != new.dtype || old.shape != new.shape {
            return Difference::Real(format!("dtype or shape of {name} differs"));
        }
        if old.data == new.data {
            continue;
        }
        let (Some(a), Some(b)) = (floats(old), floats(new)) else {
            return Difference::Real(format!("{name} differs"));
        };
        let difference = relative_difference(&a, &b);
        // A NaN against a number gives NaN, which must not slip through.
        if difference.is_nan() || difference > SLACK {
            return Difference::Real(format!("{name} differs by {difference:.1e} of its largest number"));
        }
        if difference > worst.0 {
            worst = (difference, name);
        }
    }
    Difference::WithinSlack(format!("at most {:.1e} of the largest number, in {}", worst.0, worst.1))
}

/// The largest difference over the largest magnitude; equal infinities and two NaNs count as equal.
fn relative_difference(a: &[f64], b: &[f64]) -> f64 {
    let largest = a.iter().filter(|x| x.is_finite()).fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
    let mut worst = 0.0;
    for (a, b) in a.iter().zip(b) {
        if a == b || (a.is_nan() && b.is_nan()) {
            continue;
        }
        let difference = (a - b).abs() / largest;
        if difference.is_nan() {
            return f64::NAN;
        }
        worst = f64::max(worst, difference);
    }
    worst
}

/// The numbers of a float tensor that has more than 8 bits of precision; rounding to f16 or bf16
/// hides such small differences or makes them too large to excuse.
fn floats(tensor: &Tensor<'_>) -> Option<Vec<f64>> {
    match tensor.dtype.as_str() {
        "F32" => Some(chunks(tensor.data).map(|b| f64::from(f32::from_le_bytes(b))).collect()),
        "F64" => Some(chunks(tensor.data).map(f64::from_le_bytes).collect()),
        _ => None,
    }
}

fn chunks<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    data.chunks_exact(N).filter_map(|chunk| chunk.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, dtype: &str, values: &[f32]) -> Vec<u8> {
        let header = format!(
            "{{\"__metadata__\":{{\"cases\":\"{{}}\"}},\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":[{}],\"data_offsets\":[0,{}]}}}}",
            values.len(),
            values.len() * 4
        );
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        bytes
    }

    fn compared(old: &[u8], new: &[u8]) -> Difference {
        compare_tensors(&parse(old).unwrap(), &parse(new).unwrap())
    }

    #[test]
    fn a_rounding_difference_is_excused_and_a_real_one_is_not() {
        let old = file("x", "F32", &[1000.0, 1.0, f32::NAN]);
        assert!(matches!(compared(&old, &file("x", "F32", &[1000.0, 1.000_5, f32::NAN])), Difference::WithinSlack(_)));
        assert!(matches!(compared(&old, &file("x", "F32", &[1000.0, 1.1, f32::NAN])), Difference::Real(_)));
        assert!(matches!(compared(&old, &file("x", "F32", &[1000.0, 1.0, 0.0])), Difference::Real(_)));
    }

    #[test]
    fn whole_numbers_names_and_shapes_must_be_equal() {
        let old = file("x", "I32", &[1.0]);
        assert!(matches!(compared(&old, &file("x", "I32", &[2.0])), Difference::Real(_)));
        assert!(matches!(compared(&old, &file("y", "I32", &[1.0])), Difference::Real(_)));
        assert!(matches!(compared(&old, &file("x", "I32", &[1.0, 1.0])), Difference::Real(_)));
        assert!(parse(b"short").is_none());
        assert!(parse(&u64::MAX.to_le_bytes()).is_none());
    }
}
