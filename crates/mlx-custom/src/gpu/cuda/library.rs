//! Functions of libraries that MLX has loaded.
//!
//! Programs are built without CUDA and run with whichever MLX they find, so nothing is linked: a function is looked up by its
//! name when it is needed, and there is none with the MLX for a CPU.

use std::ffi::{CStr, c_void};
use std::path::PathBuf;

/// The address of a function of any library of this process.
#[cfg(unix)]
pub(super) fn find(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name ends with NUL. Nothing but a search happens.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

#[cfg(not(unix))]
pub(super) fn find(_: &CStr) -> Option<*mut c_void> {
    None
}

/// The file of the library with this function.
#[cfg(unix)]
pub(super) fn file_with(name: &CStr) -> Option<PathBuf> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let address = find(name)?;
    // SAFETY: all zeros is a value of this structure of pointers, `dladdr` writes it, and the name that it points to lives as long
    // as the library, which is not unloaded.
    let path = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(address, &raw mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        CStr::from_ptr(info.dli_fname)
    };
    PathBuf::from(OsStr::from_bytes(path.to_bytes())).canonicalize().ok()
}

#[cfg(not(unix))]
pub(super) fn file_with(_: &CStr) -> Option<PathBuf> {
    None
}

/// A field for each function, filled by name. The types are those of the library's documentation.
macro_rules! functions {
    ($(#[$meta:meta])* struct $table:ident { $($field:ident = $name:literal: fn($($argument:ty),*);)* }) => {
        $(#[$meta])*
        struct $table {
            $($field: unsafe extern "C" fn($($argument),*) -> std::ffi::c_int,)*
        }

        impl $table {
            /// `None` if one of them is missing.
            fn find() -> Option<Self> {
                Some(Self {
                    $($field: {
                        let address = $crate::gpu::cuda::library::find($name)?;
                        // SAFETY: the library's function of this name has these arguments and returns an enumeration, an `int`.
                        unsafe {
                            std::mem::transmute::<
                                *mut std::ffi::c_void,
                                unsafe extern "C" fn($($argument),*) -> std::ffi::c_int,
                            >(address)
                        }
                    },)*
                })
            }
        }
    };
}
pub(super) use functions;
