//! The file format behind [`crate::fixture`]: safetensors, with a JSON description of the cases.

use std::collections::BTreeMap;

use mlx_rs::{Array, Dtype};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use serde_json::Value;

use crate::compare::Tolerance;
use crate::fixture::{Case, Output};
use crate::values::Values;

#[derive(Debug, Deserialize)]
pub(crate) struct CaseMeta {
    pub dtype: String,
    atol: f64,
    rtol: f64,
    #[serde(default)]
    pub params: BTreeMap<String, Value>,
    #[serde(default)]
    pub wrong: BTreeMap<String, String>,
    #[serde(default)]
    outputs: BTreeMap<String, OutputMeta>,
}

#[derive(Debug, Deserialize)]
struct OutputMeta {
    dtype: String,
    atol: f64,
    rtol: f64,
}

/// A tensor as it lies in the file.
#[derive(Debug)]
pub(crate) struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<i32>,
    bytes: Vec<u8>,
}

/// All cases of a file, by name; the error says what is wrong with the bytes.
pub(crate) fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Case>, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let text = header.metadata().as_ref().and_then(|entries| entries.get("cases"));
    let text = text.ok_or("its metadata has no entry \"cases\"")?;
    let metas: BTreeMap<String, CaseMeta> = serde_json::from_str(text).map_err(|error| error.to_string())?;

    let mut cases = BTreeMap::new();
    for (name, mut meta) in metas {
        for sentence in meta.wrong.values_mut() {
            // "probable cause: looks like: x" would say it twice.
            if let Some(shorter) = sentence.strip_prefix("looks like: ") {
                *sentence = shorter.to_owned();
            }
        }
        cases.insert(name.clone(), Case { name, meta, inputs: BTreeMap::new(), outputs: BTreeMap::new() });
    }
    let mut wrong = Vec::new();
    for (path, tensor) in tensors.iter() {
        let (case, tensor_name) =
            path.rsplit_once('/').ok_or_else(|| format!("the tensor {path} belongs to no case"))?;
        let case = cases.get_mut(case).ok_or_else(|| format!("the tensor {path} belongs to no case"))?;
        let stored = Stored::read(&tensor)?;
        if let Some(variant) = tensor_name.strip_prefix("wrong.") {
            wrong.push((case.name.clone(), variant.to_owned(), stored));
        } else if let Some(output) = output_name(tensor_name) {
            let output = output.to_owned();
            let expected = Values::read(&stored.to_array())?;
            let (dtype, tolerance) = case.meta.output(&output)?;
            case.outputs.insert(output, Output { dtype, tolerance, expected, wrong: BTreeMap::new() });
        } else {
            case.inputs.insert(tensor_name.to_owned(), stored);
        }
    }
    // After all expected values, because tensors come in any order.
    for (case_name, variant, stored) in wrong {
        let (variant, output) = variant.split_once('.').unwrap_or((&variant, ""));
        let case = cases.get_mut(&case_name).ok_or("a case vanished")?;
        let lost = || format!("{case_name}/wrong.{variant} has no expected value or no sentence");
        if !case.meta.wrong.contains_key(variant) {
            return Err(lost());
        }
        let output = case.outputs.get_mut(output).ok_or_else(lost)?;
        output.wrong.insert(variant.to_owned(), Values::read(&stored.to_array())?);
    }
    Ok(cases)
}

/// "" for `expected`, "y" for `expected.y`, None for an input.
fn output_name(tensor_name: &str) -> Option<&str> {
    if tensor_name == "expected" { Some("") } else { tensor_name.strip_prefix("expected.") }
}

impl CaseMeta {
    fn output(&self, name: &str) -> Result<(Dtype, Tolerance), String> {
        let (dtype, atol, rtol) = match self.outputs.get(name) {
            Some(output) => (&output.dtype, output.atol, output.rtol),
            None => (&self.dtype, self.atol, self.rtol),
        };
        Ok((parse_dtype(dtype)?, Tolerance { atol, rtol }))
    }
}

impl Stored {
    fn read(tensor: &TensorView<'_>) -> Result<Self, String> {
        let dtype = match tensor.dtype() {
            safetensors::Dtype::F32 => Dtype::Float32,
            safetensors::Dtype::F16 => Dtype::Float16,
            safetensors::Dtype::BF16 => Dtype::Bfloat16,
            safetensors::Dtype::BOOL => Dtype::Bool,
            safetensors::Dtype::I32 => Dtype::Int32,
            safetensors::Dtype::U32 => Dtype::Uint32,
            other => return Err(format!("a tensor of dtype {other:?}")),
        };
        let shape: Result<Vec<i32>, _> = tensor.shape().iter().map(|&n| i32::try_from(n)).collect();
        let shape = shape.map_err(|_| "a tensor that is too large")?;
        Ok(Self { dtype, shape, bytes: tensor.data().to_vec() })
    }

    pub fn to_array(&self) -> Array {
        // Little-endian bytes to numbers; safetensors has checked that their count fits the shape.
        let words = || self.bytes.as_chunks::<4>().0.iter();
        let halves = || self.bytes.as_chunks::<2>().0.iter();
        match self.dtype {
            Dtype::Bool => Array::from_iter(self.bytes.iter().map(|&byte| byte != 0), &self.shape),
            Dtype::Int32 => Array::from_iter(words().map(|&word| i32::from_le_bytes(word)), &self.shape),
            Dtype::Uint32 => Array::from_iter(words().map(|&word| u32::from_le_bytes(word)), &self.shape),
            Dtype::Float16 => Array::from_iter(halves().map(|&word| half::f16::from_le_bytes(word)), &self.shape),
            Dtype::Bfloat16 => Array::from_iter(halves().map(|&word| half::bf16::from_le_bytes(word)), &self.shape),
            _ => Array::from_iter(words().map(|&word| f32::from_le_bytes(word)), &self.shape),
        }
    }
}

pub(crate) fn parse_dtype(name: &str) -> Result<Dtype, String> {
    Ok(match name {
        "f32" => Dtype::Float32,
        "f16" => Dtype::Float16,
        "bf16" => Dtype::Bfloat16,
        "bool" => Dtype::Bool,
        "i32" => Dtype::Int32,
        "u32" => Dtype::Uint32,
        other => return Err(format!("unknown dtype {other}")),
    })
}
