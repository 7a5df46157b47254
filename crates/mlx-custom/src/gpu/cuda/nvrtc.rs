//! NVIDIA's compiler, NVRTC, from the library that MLX has loaded.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use crate::gpu::cuda::library::functions;

/// A program in the compiler.
type RawProgram = *mut c_void;

functions! {
    struct Functions {
        version = c"nvrtcVersion": fn(*mut c_int, *mut c_int);
        create = c"nvrtcCreateProgram": fn(
            *mut RawProgram, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char
        );
        destroy = c"nvrtcDestroyProgram": fn(*mut RawProgram);
        add_name = c"nvrtcAddNameExpression": fn(RawProgram, *const c_char);
        compile = c"nvrtcCompileProgram": fn(RawProgram, c_int, *const *const c_char);
        lowered_name = c"nvrtcGetLoweredName": fn(RawProgram, *const c_char, *mut *const c_char);
        binary_size = c"nvrtcGetCUBINSize": fn(RawProgram, *mut usize);
        binary = c"nvrtcGetCUBIN": fn(RawProgram, *mut c_char);
    }
}

/// The compiler. It may be called from several threads at the same time.
pub(super) struct Nvrtc {
    functions: Functions,
    /// Major and minor.
    pub(super) version: (c_int, c_int),
}

/// What came of a source.
pub(super) struct Compiled {
    /// Machine code for one architecture: an ELF file.
    pub(super) binary: Vec<u8>,
    /// The function's name in there.
    pub(super) mangled_name: String,
}

impl Nvrtc {
    /// `None` where MLX came without it.
    pub(super) fn find() -> Option<Self> {
        let functions = Functions::find()?;
        let mut version = (0, 0);
        // SAFETY: it writes two numbers.
        let status = unsafe { (functions.version)(&raw mut version.0, &raw mut version.1) };
        (status == 0).then_some(Self { functions, version })
    }

    /// Compiles `source` and finds its function `name`, with all its namespaces. `None` if anything fails: who wants to know why
    /// lets MLX compile it.
    pub(super) fn compile(&self, source: &str, name: &str, options: &[String]) -> Option<Compiled> {
        let (source, name) = (CString::new(source).ok()?, CString::new(name).ok()?);
        let options = options.iter().map(|option| CString::new(option.as_str())).collect::<Result<Vec<_>, _>>().ok()?;
        let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let mut program = Program { functions: &self.functions, raw: ptr::null_mut() };
        // SAFETY: all texts end with NUL and live until the end of this function; there are no headers.
        let status = unsafe {
            (self.functions.create)(
                &raw mut program.raw,
                source.as_ptr(),
                c"kernel.cu".as_ptr(),
                0,
                ptr::null(),
                ptr::null(),
            )
        };
        succeeded(status)?;
        // SAFETY: the program was made, and the texts live.
        succeeded(unsafe { (self.functions.add_name)(program.raw, name.as_ptr()) })?;
        let n_options = c_int::try_from(options.len()).ok()?;
        // SAFETY: as above; there are as many options as it is told of.
        succeeded(unsafe { (self.functions.compile)(program.raw, n_options, options.as_ptr()) })?;

        let mut mangled: *const c_char = ptr::null();
        // SAFETY: the program is compiled, and the name is the one that was added. The text lives as long as the program.
        let mangled_name = unsafe {
            succeeded((self.functions.lowered_name)(program.raw, name.as_ptr(), &raw mut mangled))?;
            CStr::from_ptr(mangled).to_str().ok()?.to_owned()
        };
        let mut size = 0;
        // SAFETY: it writes one number.
        succeeded(unsafe { (self.functions.binary_size)(program.raw, &raw mut size) })?;
        let mut binary = vec![0; size];
        // SAFETY: it writes as many bytes as it has said.
        succeeded(unsafe { (self.functions.binary)(program.raw, binary.as_mut_ptr().cast()) })?;
        Some(Compiled { binary, mangled_name })
    }
}

fn succeeded(status: c_int) -> Option<()> {
    (status == 0).then_some(())
}

struct Program<'a> {
    functions: &'a Functions,
    raw: RawProgram,
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: nobody else has it, and it isn't used again.
            unsafe { (self.functions.destroy)(&raw mut self.raw) };
        }
    }
}
