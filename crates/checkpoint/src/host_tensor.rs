//! A tensor in the CPU's memory, before it becomes an MLX array.

use std::borrow::Cow;

/// How one element is stored. Every file format is translated into these few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    F32,
    F16,
    Bf16,
    /// Only for the packed integers of a quantized tensor.
    U32,
}

impl ElementType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::U32 => "u32",
        })
    }
}

/// Row-major little-endian elements: borrowed from the mapped file where it stores them so, owned where they were computed.
///
/// Invariant: `bytes.len()` is the product of `shape` times the element's size.
#[derive(Debug)]
pub struct HostTensor<'a> {
    pub element: ElementType,
    pub shape: Vec<usize>,
    pub bytes: Cow<'a, [u8]>,
}

impl HostTensor<'static> {
    pub(crate) fn from_f32(values: Vec<f32>, shape: Vec<usize>) -> Self {
        debug_assert_eq!(values.len(), shape.iter().product::<usize>());
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { element: ElementType::F32, shape, bytes: Cow::Owned(bytes) }
    }

    pub(crate) fn zeros(element: ElementType, shape: Vec<usize>) -> Self {
        let len = shape.iter().product::<usize>() * element.size();
        Self { element, shape, bytes: Cow::Owned(vec![0; len]) }
    }
}

impl HostTensor<'_> {
    /// The values as f32, which holds f16 and bf16 exactly. Packed u32 words are converted as numbers.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.element {
            ElementType::F32 => {
                self.bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            ElementType::F16 => {
                self.bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
            }
            ElementType::Bf16 => {
                self.bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
            }
            ElementType::U32 => self.to_u32().into_iter().map(|word| word as f32).collect(),
        }
    }

    /// The packed words of a U32 tensor (of other tensors: their bits, four bytes at a time).
    pub(crate) fn to_u32(&self) -> Vec<u32> {
        self.bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }
}
