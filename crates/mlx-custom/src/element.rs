use half::{bf16, f16};
use mlx_rs::Dtype;

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that is an element of a tensor: [`f32`], [`struct@f16`], [`bf16`], [`u32`], [`i32`] or [`u8`].
///
/// Sealed: for each of them every pattern of bits is a value, on which the views of raw memory rely.
pub trait Element: sealed::Sealed + Copy + Send + Sync + 'static {
    /// What MLX calls the type.
    const DTYPE: Dtype;
}

macro_rules! elements {
    ($($element:ty => $dtype:ident),* $(,)?) => {
        $(
            impl sealed::Sealed for $element {}
            impl Element for $element {
                const DTYPE: Dtype = Dtype::$dtype;
            }
        )*
    };
}

elements! { f32 => Float32, f16 => Float16, bf16 => Bfloat16, u32 => Uint32, i32 => Int32, u8 => Uint8 }

/// The size of an element in bytes, which is also its alignment; `None` for a type that operations can't use.
pub(crate) fn size_of(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::Float32 | Dtype::Uint32 | Dtype::Int32 => Some(4),
        Dtype::Float16 | Dtype::Bfloat16 => Some(2),
        Dtype::Uint8 => Some(1),
        _ => None,
    }
}
