//! The part of mlx-rs that the course builds on.
//!
//! The learner's crate and the reference depend on this crate under the name `mlx_rs`, so their code and
//! [mlx-rs's documentation](https://docs.rs/mlx-rs) agree. Arrays, array operations, devices, random numbers and
//! transforms are here, unchanged. What the course has you build is not:
//!
//! | missing | because you build it on |
//! |---|---|
//! | `mlx_rs::nn` | every day |
//! | `mlx_rs::fast` | days 1.1 to 1.4, 2.5 and 3.2 |
//! | `ops::softmax`, `ops::softmax_axis`, `ops::softmax_axes` | day 1.1 |
//! | `ops::sigmoid` | day 1.4 |
//! | `random::categorical` | day 1.7 |
//! | `ops::quantize`, `ops::dequantize`, `ops::quantized_matmul`, `ops::gather_qmm` | days 2.2a to 2.3 |
//!
//! This is a rule of the dependency graph and not a search through your text: where one of these names is
//! used, the compiler says that it does not exist, or asks for an argument of a type in
//! [`built_in_the_course`], whose name is the explanation. Tests and benchmarks use the real mlx-rs, as oracle and yardstick.

pub use mlx_rs::{
    Array, Device, DeviceType, Dtype, Stream, StreamOrDevice, array, complex64, error, memory, transforms, with_device,
    with_stream,
};

/// Types that no value has: a function that asks for one cannot be called.
pub mod built_in_the_course {
    /// You write softmax yourself on day 1.1.
    pub enum YouBuildSoftmaxOnDay1_1 {}
    /// You write SiLU, with its sigmoid, yourself on day 1.4.
    pub enum YouBuildSiluOnDay1_4 {}
    /// You write sampling from a distribution yourself on day 1.7.
    pub enum YouBuildSamplingOnDay1_7 {}
    /// You write quantized arithmetic yourself on days 2.2a to 2.3.
    pub enum YouBuildQuantizedMatmulOnDay2_2 {}
}

/// Shadows an operation by a function of the same name that cannot be called.
macro_rules! off_limits {
    ($($name:ident: $reason:ident),* $(,)?) => {
        $(
            #[doc = concat!("Off limits: see [`", stringify!($reason), "`](crate::built_in_the_course::", stringify!($reason), ").")]
            pub fn $name(reason: crate::built_in_the_course::$reason) -> ! {
                match reason {}
            }
        )*
    };
}

/// Array operations, without those that the course builds.
pub mod ops {
    pub use mlx_rs::ops::*;

    off_limits! {
        softmax: YouBuildSoftmaxOnDay1_1,
        softmax_axis: YouBuildSoftmaxOnDay1_1,
        softmax_axes: YouBuildSoftmaxOnDay1_1,
        softmax_device: YouBuildSoftmaxOnDay1_1,
        softmax_axis_device: YouBuildSoftmaxOnDay1_1,
        softmax_axes_device: YouBuildSoftmaxOnDay1_1,
        sigmoid: YouBuildSiluOnDay1_4,
        sigmoid_device: YouBuildSiluOnDay1_4,
        quantize: YouBuildQuantizedMatmulOnDay2_2,
        quantize_device: YouBuildQuantizedMatmulOnDay2_2,
        dequantize: YouBuildQuantizedMatmulOnDay2_2,
        dequantize_device: YouBuildQuantizedMatmulOnDay2_2,
        quantized_matmul: YouBuildQuantizedMatmulOnDay2_2,
        quantized_matmul_device: YouBuildQuantizedMatmulOnDay2_2,
        gather_qmm: YouBuildQuantizedMatmulOnDay2_2,
        gather_qmm_device: YouBuildQuantizedMatmulOnDay2_2,
        qqmm: YouBuildQuantizedMatmulOnDay2_2,
        qqmm_device: YouBuildQuantizedMatmulOnDay2_2,
    }
}

/// Random numbers, without drawing from a distribution over tokens.
pub mod random {
    pub use mlx_rs::random::*;

    off_limits! {
        categorical: YouBuildSamplingOnDay1_7,
        categorical_device: YouBuildSamplingOnDay1_7,
    }
}
