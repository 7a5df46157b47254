//! Operations of your own on MLX arrays, written in safe Rust.
//!
//! MLX is lazy: `a.add(&b)` computes nothing, it adds a node to a graph, and the work is done when somebody asks for
//! the values. An operation made with this crate is such a node. Implement [`CpuOperation`], which says what the
//! outputs will be ([`outputs`](CpuOperation::outputs), when the graph is built) and how to compute them
//! ([`run`](CpuOperation::run), when it is evaluated), and hand it to [`apply`]:
//!
//! ```
//! use mlx_custom::{CpuOperation, OperationError, Tensor, TensorMut, TensorType, apply};
//! use mlx_rs::Array;
//!
//! /// `x * factor`, for f32.
//! struct Scale {
//!     factor: f32,
//! }
//!
//! impl CpuOperation for Scale {
//!     fn name(&self) -> &'static str {
//!         "scale"
//!     }
//!
//!     fn outputs(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, OperationError> {
//!         let [x] = inputs else { return Err("takes one array".into()) };
//!         Ok(vec![x.clone()])
//!     }
//!
//!     fn run(&self, inputs: &[Tensor<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), OperationError> {
//!         let x = inputs[0].as_slice::<f32>()?;
//!         let y = outputs[0].as_mut_slice::<f32>()?;
//!         for (y, x) in y.iter_mut().zip(x) {
//!             *y = x * self.factor;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let x = Array::from_slice(&[1.0_f32, 2.0, 3.0], &[3]);
//! let y = apply(Scale { factor: 2.0 }, &[&x])?; // nothing has run yet
//! assert_eq!(y[0].as_slice::<f32>(), [2.0, 4.0, 6.0]);
//! # Ok::<(), mlx_rs::error::Exception>(())
//! ```
//!
//! [`parallel_for`] spreads a loop inside `run` over a team of threads. [`set_profiling`] measures where the time goes.
//!
//! # What holds
//!
//! - **Element types**: f32, f16, bf16, u32, i32, u8 ([`Element`]). Others are refused when the graph is built.
//! - **Layout**: an input is row-major, one element after another, unless the operation takes it
//!   [`Strided`](Layout::Strided). A copy is made only for an input that isn't so already.
//! - **Buffers**: an output may take over the buffer of an input that nobody else needs
//!   ([`reuses`](CpuOperation::reuses)); that is how a cache is appended to without copying it. [`AppendBuffer`] does the same by
//!   MLX's own operations, wherever they run.
//! - **Errors**: an `Err` or a panic in `run` becomes an error of the `eval` that waits for it, once. The outputs are then filled
//!   with NaN (integers: all bits set), so that nothing in them looks like a result. The process and the stream go on.
//!   (With `panic = "abort"` a panic ends the process, as everywhere.)
//! - **Where it runs**: always on the CPU, on the stream of [`mlx_rs::with_stream`] if that is a CPU stream, else on
//!   the calling thread's default CPU stream. With a GPU as default device MLX waits for the inputs and carries
//!   the results back.
//! - **Transformations**: `grad`, `vmap` and shapeless `compile` need rules that these operations don't have; MLX refuses them.
//!
//! # How it is checked
//!
//! ```console
//! cargo test -p mlx-custom
//! valgrind --fair-sched=yes --leak-check=full target/debug/deps/operations-HASH --test-threads 1
//! cargo +nightly miri test -p mlx-custom --lib threads::
//! ```
//!
//! valgrind watches both sides of the bridge: reads outside of buffers, use after free, leaks. Miri interprets the team of
//! threads; ThreadSanitizer (`-Zsanitizer=thread -Zbuild-std`) runs the same tests at full length. All three were clean.
//!
//! The appendix "A primitive in MLX's graph" of the course's book tells the whole story.

mod append_buffer;
mod apply;
mod bridge;
mod constant;
mod element;
mod error;
mod freed_memory;
mod gather;
pub mod gpu;
mod huge_pages;
mod operation;
mod profile;
mod registered;
mod strided;
mod tensor;
mod tensor_mut;
mod tensor_type;
mod threads;

pub use append_buffer::AppendBuffer;
pub use apply::{apply, apply_n};
pub use constant::Constant;
pub use element::Element;
pub use error::{OperationError, message};
pub use freed_memory::keep_freed_memory;
pub use huge_pages::use_huge_pages;
pub use operation::{CpuOperation, Layout};
pub use profile::{OperationTotals, set_profiling, take_profile};
pub use strided::Strided;
pub use tensor::Tensor;
pub use tensor_mut::TensorMut;
pub use tensor_type::TensorType;
pub use threads::{num_threads, parallel_for, set_num_threads};
