//! MLX's affine quantization, as mlx-lm writes it into a folder.
//!
//! A row of `I` weights is cut into groups of `group_size`. Each group has a scale and a bias, and each weight a small
//! integer `q`, so that `weight = scale * q + bias`. The integers lie in u32 words, the first in the lowest bits:
//!
//! | tensor | shape | type |
//! |---|---|---|
//! | `<layer>.weight` | `[O, I * bits / 32]` | u32 |
//! | `<layer>.scales`, `<layer>.biases` | `[O, I / group_size]` | f16, bf16 or f32 |

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::host_tensor::HostTensor;
use crate::untrusted;

/// How one layer is quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantizationParams {
    /// Weights that share a scale and a bias: 32, 64 or 128.
    pub group_size: usize,
    /// Bits of one weight: 4 or 8.
    pub bits: usize,
}

impl QuantizationParams {
    /// Weights in one u32 word.
    pub fn per_word(&self) -> usize {
        32 / self.bits
    }
}

/// The `quantization` object of `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MlxQuantization {
    default: QuantizationParams,
    /// Layers with their own parameters; `None` for a layer that is left in floating point.
    overrides: BTreeMap<String, Option<QuantizationParams>>,
    /// Layers with parameters that this engine does not know, and what to say if the model has such a layer.
    refused: BTreeMap<String, String>,
}

impl MlxQuantization {
    /// Reads the object, or `None` for a model that is not quantized. Other schemes are refused by name.
    pub(crate) fn from_config(file: &Path, config: &Value) -> Result<Option<Self>> {
        let quantization = &config["quantization"];
        if quantization.is_null() {
            let other = &config["quantization_config"];
            if other.is_null() {
                return Ok(None);
            }
            let method = other["quant_method"].as_str().unwrap_or("unknown");
            return Err(Error::unsupported(
                file,
                format!(
                    "quantization_config with quant_method `{method}` is not supported: use an unquantized, MLX-quantized or GGUF form of the model"
                ),
            ));
        }
        let default = params("quantization", quantization).map_err(|problem| Error::unsupported(file, problem))?;
        let (mut overrides, mut refused) = (BTreeMap::new(), BTreeMap::new());
        for (layer, value) in quantization.as_object().into_iter().flatten() {
            match value {
                Value::Object(_) => match params(layer, value) {
                    Ok(params) => drop(overrides.insert(layer.clone(), Some(params))),
                    Err(problem) => drop(refused.insert(layer.clone(), problem)),
                },
                Value::Bool(false) => drop(overrides.insert(layer.clone(), None)),
                _ => {}
            }
        }
        Ok(Some(Self { default, overrides, refused }))
    }

    /// Refuses parameters that are not supported, of a layer that the model has. Files also list layers of their model that
    /// were left out, such as those for images or the head of a tied model.
    pub(crate) fn check_layers(&self, file: &Path, has_layer: impl Fn(&str) -> bool) -> Result<()> {
        match self.refused.iter().find(|(layer, _)| has_layer(layer)) {
            Some((_, problem)) => Err(Error::unsupported(file, problem.clone())),
            None => Ok(()),
        }
    }

    /// The parameters of `<layer>.weight`, or `None` where an override leaves it in floating point.
    pub(crate) fn params(&self, layer: &str) -> Option<QuantizationParams> {
        self.overrides.get(layer).copied().unwrap_or(Some(self.default))
    }
}

/// One object with `group_size`, `bits` and `mode`; what is left out is as in MLX (`nn.quantize`): 64, 4 and affine.
fn params(what: &str, value: &Value) -> Result<QuantizationParams, String> {
    let field = |name: &str, default: u64| match &value[name] {
        Value::Null => Some(default),
        given => given.as_u64(),
    };
    let mode = if value["mode"].is_null() { Some("affine") } else { value["mode"].as_str() };
    match (mode, field("group_size", 64), field("bits", 4)) {
        (Some("affine"), Some(group_size @ (32 | 64 | 128)), Some(bits @ (4 | 8))) => {
            Ok(QuantizationParams { group_size: group_size as usize, bits: bits as usize })
        }
        _ => Err(format!(
            "{what} = {} is not supported: mode must be affine, group_size 32, 64 or 128, bits 4 or 8",
            untrusted::value(value)
        )),
    }
}

/// The three tensors of a quantized layer, with shapes that fit each other.
#[derive(Debug)]
pub(crate) struct PackedTensor<'a> {
    pub(crate) params: QuantizationParams,
    pub(crate) packed: HostTensor<'a>,
    pub(crate) scales: HostTensor<'a>,
    pub(crate) biases: HostTensor<'a>,
}

/// The `[O, I]` shape of the weights behind packed words, if the three shapes agree.
pub(crate) fn unpacked_shape(
    params: QuantizationParams,
    packed: &[usize],
    scales: &[usize],
    biases: &[usize],
) -> Option<[usize; 2]> {
    let &[rows, words] = packed else { return None };
    let columns = words.checked_mul(params.per_word())?;
    let groups = [rows, columns / params.group_size];
    let fits = columns.is_multiple_of(params.group_size) && scales == groups && biases == groups;
    fits.then_some([rows, columns])
}

impl PackedTensor<'_> {
    /// Bytes that [`PackedTensor::dequantize`] allocates.
    pub(crate) fn dequantized_bytes(&self) -> usize {
        let weights = self.packed.bytes().len().saturating_mul(self.params.per_word());
        weights.saturating_add(self.scales.bytes().len().saturating_mul(4))
    }

    /// The weights `[O, I]`, computed in f32. With 16-bit scales the product is exact and only the sum is rounded.
    pub(crate) fn dequantize(&self) -> HostTensor<'static> {
        let QuantizationParams { group_size, bits } = self.params;
        let (scales, biases) = (self.scales.to_f32(), self.biases.to_f32());
        let words = self.packed.bytes().as_chunks::<4>().0;
        let words_per_group = group_size / self.params.per_word();
        let mut weights = vec![0.0; words.len() * self.params.per_word()];
        let unpack = if bits == 4 { unpack_group::<4> } else { unpack_group::<8> };
        let groups = words.par_chunks_exact(words_per_group).zip(scales.par_iter().zip(&biases));
        weights
            .par_chunks_exact_mut(group_size)
            .zip(groups)
            .with_min_len(GROUPS_PER_TASK)
            .for_each(|(weights, (words, (&scale, &bias)))| unpack(words, scale, bias, weights));
        let columns = self.packed.shape[1] * self.params.per_word();
        HostTensor::from_f32(weights, vec![self.packed.shape[0], columns])
    }
}

/// Enough work for a thread to be worth waking.
const GROUPS_PER_TASK: usize = 1024;

fn unpack_group<const BITS: usize>(words: &[[u8; 4]], scale: f32, bias: f32, weights: &mut [f32]) {
    for (&word, weights) in words.iter().zip(weights.chunks_exact_mut(32 / BITS)) {
        let word = u32::from_le_bytes(word);
        for (i, weight) in weights.iter_mut().enumerate() {
            *weight = scale * (word >> (BITS * i) & ((1 << BITS) - 1)) as f32 + bias;
        }
    }
}
