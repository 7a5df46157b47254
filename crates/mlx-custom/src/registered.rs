use crate::tensor_type::TensorType;
use crate::{CpuOperation, Layout};

/// What [`run`](CpuOperation::run) is told about a tensor, kept from when the graph was built.
pub(crate) struct TensorLayout {
    pub tensor_type: TensorType,
    pub n_elements: usize,
    /// In bytes; also the alignment.
    pub element_size: usize,
    pub row_major_strides: Vec<isize>,
}

impl TensorLayout {
    pub fn new(tensor_type: TensorType, element_size: usize) -> Self {
        let n_elements = tensor_type.n_elements();
        let row_major_strides = tensor_type.row_major_strides();
        Self { tensor_type, n_elements, element_size, row_major_strides }
    }
}

/// An operation with the tensors it was applied to: what a node of the graph owns.
pub(crate) struct Registered {
    pub operation: Box<dyn CpuOperation>,
    pub inputs: Vec<(TensorLayout, Layout)>,
    pub outputs: Vec<TensorLayout>,
}
