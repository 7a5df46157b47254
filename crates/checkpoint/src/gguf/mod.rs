//! GGUF, the single-file format of llama.cpp: header, metadata, quantized blocks, names, tokenizer.
//!
//! The file is memory-mapped. [`header::Header::parse`] checks every length and offset, and only then does other code
//! read through them.

mod affine;
mod blocks;
mod config;
mod cursor;
mod header;
mod k_blocks;
mod metadata;
mod names;
mod split;
mod tokenizer;

use std::collections::BTreeMap;
use std::path::Path;

use crate::architecture::TensorShapes;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::host_tensor::{Data, ElementType, HostTensor};
use crate::mlx_quantization::PackedTensor;
use crate::{files, memory};
use blocks::BlockType;
use header::TensorInfo;
use split::Part;
pub(crate) use tokenizer::GgufTokenizer;

/// An open GGUF model whose architecture is known: one file, or the parts that llama.cpp's `gguf-split` made of it.
#[derive(Debug)]
pub(crate) struct GgufFile {
    /// At least one; the first has the metadata.
    parts: Vec<Part>,
    /// The part and the place in it, by Hugging Face name; a tensor without such a name keeps its own.
    tensors: BTreeMap<String, (usize, TensorInfo)>,
    /// Heads of q and of k, where the converter has reordered their rows.
    permuted_heads: Option<(usize, usize)>,
}

impl GgufFile {
    pub(crate) fn open(path: &Path) -> Result<(Self, Config)> {
        let parts = split::open(path)?;
        let mut tensors: BTreeMap<String, (usize, TensorInfo)> = BTreeMap::new();
        for (position, part) in parts.iter().enumerate() {
            for (&name, info) in &part.header()?.tensors {
                let fault = |problem: String| Err(Error::tensor(&part.path, name, problem));
                // Under its other name it could stand in for the tensor that has the right one.
                if names::is_hf(name) {
                    return fault("has a name that GGUF files do not use; convert the model again".to_owned());
                }
                let hf_name = names::to_hf(name).unwrap_or_else(|| name.to_owned());
                if let Some((other, _)) = tensors.insert(hf_name, (position, info.clone())) {
                    return fault(format!("occurs twice: also in {}", parts[other].path.display()));
                }
            }
        }
        let has_head = tensors.contains_key("lm_head.weight");
        let (config, architecture) = config::from_header(&parts[0].path, &parts[0].header()?, has_head)?;
        let permuted_heads =
            architecture.permutes_rows().then_some((config.num_attention_heads, config.num_key_value_heads));
        Ok((Self { parts, tensors, permuted_heads }, config))
    }

    /// The file with the metadata.
    pub(crate) fn path(&self) -> &Path {
        &self.parts[0].path
    }

    /// The tokenizer, special tokens and chat template that the metadata describe.
    pub(crate) fn tokenizer(&self) -> Result<GgufTokenizer> {
        GgufTokenizer::from_header(self.path(), &self.parts[0].header()?)
    }

    /// A tensor's entry and its bytes.
    fn stored(&self, name: &str) -> Option<(&TensorInfo, &[u8])> {
        let (part, info) = self.tensors.get(name)?;
        Some((info, self.parts.get(*part)?.map.get(info.start..info.start + info.len)?))
    }

    pub(crate) fn stored_bytes(&self, name: &str) -> usize {
        self.tensors.get(name).map_or(0, |(_, info)| info.len)
    }

    /// The tensor in floating point, with the element type to store it in: f16 and bf16 stay, everything else is f32.
    pub(crate) fn read(&self, name: &str) -> Result<(HostTensor<'_>, ElementType)> {
        let missing = || Error::tensor(self.path(), name, "is missing");
        let (info, bytes) = self.stored(name).ok_or_else(missing)?;
        let element = element_of(info.block_type);
        let tensor = match info.block_type {
            BlockType::F32 | BlockType::F16 | BlockType::BF16 => {
                HostTensor { element, shape: info.shape.clone(), data: Data::Mapped(bytes) }
            }
            quantized => {
                memory::ask(name, info.shape.iter().product::<usize>().saturating_mul(4))?;
                HostTensor::from_f32(blocks::dequantize(quantized, bytes), info.shape.clone())
            }
        };
        let tensor = match self.heads_to_restore(name) {
            Some(heads) => {
                memory::ask(name, tensor.bytes().len())?;
                HostTensor { data: Data::Reordered(restore_row_order(&tensor, heads)), ..tensor }
            }
            None => tensor,
        };
        Ok((tensor, element))
    }

    /// The matrix in MLX's affine format, if its blocks have an exact equal there.
    pub(crate) fn packed(&self, name: &str) -> Option<PackedTensor<'static>> {
        let (info, bytes) = self.stored(name)?;
        let &[rows, columns] = info.shape.as_slice() else { return None };
        let heads = self.heads_to_restore(name);
        affine::repack(info.block_type, bytes, [rows, columns], |row| {
            heads.map_or(row, |heads| stored_row(row, rows, heads))
        })
    }

    /// The type in which [`GgufFile::read`] says to store the tensor.
    pub(crate) fn element(&self, name: &str) -> Option<ElementType> {
        self.tensors.get(name).map(|(_, info)| element_of(info.block_type))
    }

    fn heads_to_restore(&self, name: &str) -> Option<usize> {
        let (query_heads, key_heads) = self.permuted_heads?;
        if name.ends_with(".self_attn.q_proj.weight") {
            Some(query_heads)
        } else if name.ends_with(".self_attn.k_proj.weight") {
            Some(key_heads)
        } else {
            None
        }
    }

    /// How the tensor is stored, for people.
    pub(crate) fn storage(&self, name: &str) -> Option<String> {
        self.tensors.get(name).map(|(_, info)| format!("{:?}", info.block_type))
    }

    pub(crate) fn release_pages(&self) {
        self.parts.iter().for_each(|part| files::release_pages(&part.map));
    }

    pub(crate) fn bytes_on_disk(&self) -> u64 {
        self.parts.iter().map(|part| part.map.len() as u64).sum()
    }
}

impl TensorShapes for GgufFile {
    fn shape(&self, name: &str) -> Result<Option<Vec<usize>>> {
        Ok(self.tensors.get(name).map(|(_, info)| info.shape.clone()))
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn file(&self, name: &str) -> &Path {
        let part = self.tensors.get(name).map_or(0, |(part, _)| *part);
        &self.parts[part].path
    }
}

fn element_of(block_type: BlockType) -> ElementType {
    match block_type {
        BlockType::F16 => ElementType::F16,
        BlockType::BF16 => ElementType::Bf16,
        _ => ElementType::F32,
    }
}

/// Undoes what llama.cpp's converter does to the rows of q and k of a llama.
///
/// Hugging Face pairs row `i` of a head with row `i + D/2` (half-split rotary embedding); GGUF stores the two side by side,
/// as rows `2i` and `2i + 1`. The shape is checked before: `[heads * D, E]` with an even D.
fn restore_row_order(tensor: &HostTensor<'_>, heads: usize) -> Vec<u8> {
    let rows = tensor.shape.first().copied().unwrap_or(0);
    let bytes = tensor.bytes();
    let row_bytes = bytes.len().checked_div(rows).unwrap_or(0);
    let mut restored = Vec::with_capacity(bytes.len());
    for row in 0..rows {
        let source = stored_row(row, rows, heads);
        restored.extend_from_slice(&bytes[source * row_bytes..(source + 1) * row_bytes]);
    }
    restored
}

/// Where GGUF keeps row `row` of q or k.
fn stored_row(row: usize, rows: usize, heads: usize) -> usize {
    let half = (rows / heads.max(1) / 2).max(1);
    let (head, part, i) = (row / (2 * half), row / half % 2, row % half);
    (head * half + i) * 2 + part
}
