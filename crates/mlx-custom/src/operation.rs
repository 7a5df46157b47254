use crate::{OperationError, Tensor, TensorMut, TensorType};

/// How an operation wants an input to lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// Row-major, one element after another. An input that isn't (a transposed or broadcast view, say) is copied first.
    #[default]
    Contiguous,
    /// As it is. The operation reads it through [`Tensor::strided`].
    Strided,
}

/// A computation on tensors, run by MLX when the values are asked for. See the [crate's page](crate) for an example.
///
/// The operation's own fields are its parameters. It is dropped with the last node that uses it, on whichever thread
/// that happens.
pub trait CpuOperation: Send + Sync + 'static {
    /// A short name for error messages and graphs.
    fn name(&self) -> &'static str;

    /// Shapes and types of the outputs, from those of the inputs. Called once, by [`apply`](crate::apply); the place to
    /// refuse inputs that don't go together.
    ///
    /// # Errors
    /// Whatever is wrong with the inputs.
    fn outputs(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, OperationError>;

    /// Computes the outputs. Called when the graph is evaluated, on the stream's own thread.
    ///
    /// Write every element: what an output holds before is arbitrary (in debug builds NaN, or all bits set), unless it
    /// [`holds_input`](TensorMut::holds_input).
    ///
    /// # Errors
    /// What went wrong; it becomes the error of the `eval` that waits, and so does a panic.
    fn run(&self, inputs: &[Tensor<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), OperationError>;

    /// How input number `input` should lie in memory.
    fn layout(&self, input: usize) -> Layout {
        let _ = input;
        Layout::Contiguous
    }

    /// Pairs (input, output) of equal shape and type: that output may take over that input's buffer.
    ///
    /// MLX allows it if nothing else needs the buffer: no variable, no other node of the graph, no view. `run` must
    /// be ready for both: it asks the output [`holds_input`](TensorMut::holds_input) or the input
    /// [`is_moved`](Tensor::is_moved). Each input and each output may be named once.
    fn reuses(&self) -> &[(usize, usize)] {
        &[]
    }
}
