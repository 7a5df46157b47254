//! A tensor in the CPU's memory, before it becomes an MLX array.

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

/// Row-major elements of one tensor.
///
/// Invariant: the bytes are as many as the product of `shape` times the element's size.
#[derive(Debug)]
pub(crate) struct HostTensor<'a> {
    pub(crate) element: ElementType,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Data<'a>,
}

/// The elements in the machine's byte order, which is little-endian like the files' on every machine that MLX runs on.
#[derive(Debug)]
pub(crate) enum Data<'a> {
    /// In the mapped file, where it stores them so.
    Mapped(&'a [u8]),
    Reordered(Vec<u8>),
    Dequantized(Vec<f32>),
}

impl HostTensor<'static> {
    pub(crate) fn from_f32(values: Vec<f32>, shape: Vec<usize>) -> Self {
        debug_assert_eq!(values.len(), shape.iter().product::<usize>());
        Self { element: ElementType::F32, shape, data: Data::Dequantized(values) }
    }

    pub(crate) fn zeros(element: ElementType, shape: Vec<usize>) -> Self {
        let len = shape.iter().product::<usize>() * element.size();
        Self { element, shape, data: Data::Reordered(vec![0; len]) }
    }
}

impl HostTensor<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Mapped(bytes) => bytes,
            Data::Reordered(bytes) => bytes,
            Data::Dequantized(values) => bytemuck::cast_slice(values),
        }
    }

    /// The values as f32, which holds f16 and bf16 exactly. Packed u32 words are converted as numbers.
    pub(crate) fn to_f32(&self) -> Vec<f32> {
        let bytes = self.bytes();
        match self.element {
            ElementType::F32 => bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
            ElementType::F16 => {
                bytes.as_chunks().0.iter().map(|&bytes| half::f16::from_le_bytes(bytes).to_f32()).collect()
            }
            ElementType::Bf16 => {
                bytes.as_chunks().0.iter().map(|&bytes| half::bf16::from_le_bytes(bytes).to_f32()).collect()
            }
            ElementType::U32 => bytes.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes) as f32).collect(),
        }
    }
}
