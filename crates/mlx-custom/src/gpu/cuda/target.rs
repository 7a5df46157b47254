//! What kernels are compiled for, and with which options: as MLX 0.32.2 does it.

use std::env;
use std::ffi::{CStr, c_int};
use std::path::PathBuf;

use crate::gpu::cuda::library::{file_with, functions};

/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `_MINOR`.
const CAPABILITY: [c_int; 2] = [75, 76];

functions! {
    struct Driver {
        init = c"cuInit": fn(u32);
        device_count = c"cuDeviceGetCount": fn(*mut c_int);
        device = c"cuDeviceGet": fn(*mut c_int, c_int);
        attribute = c"cuDeviceGetAttribute": fn(*mut c_int, c_int, c_int);
    }
}

/// What NVRTC calls this machine's GPUs; `None` without one, and with several kinds: which one a kernel will run on is not known
/// before it is started.
pub(super) fn architecture() -> Option<String> {
    let driver = Driver::find()?;
    let ask = |question: &dyn Fn(*mut c_int) -> c_int| {
        let mut answer = 0;
        (question(&raw mut answer) == 0).then_some(answer)
    };
    // SAFETY: it may be called again and from any thread; MLX calls it as well.
    if unsafe { (driver.init)(0) } != 0 {
        return None;
    }
    // SAFETY: it writes one number, as do the two below.
    let n_devices = ask(&|count| unsafe { (driver.device_count)(count) })?;
    let mut capabilities = (0..n_devices).map(|index| {
        // SAFETY: there is a device with this index.
        let device = ask(&|device| unsafe { (driver.device)(device, index) })?;
        // SAFETY: the device exists.
        let [major, minor] = CAPABILITY.map(|which| ask(&|value| unsafe { (driver.attribute)(value, which, device) }));
        Some((major?, minor?))
    });
    let (major, minor) = capabilities.next()??;
    capabilities.all(|other| other == Some((major, minor))).then(|| architecture_of(major, minor))
}

/// From compute capability 9.0 on with all that this one GPU has, such as `wgmma`.
fn architecture_of(major: c_int, minor: c_int) -> String {
    let suffix = if major >= 9 { "a" } else { "" };
    format!("sm_{major}{minor}{suffix}")
}

/// Where MLX finds CUDA's headers: first those that came with it.
pub(super) fn header_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    // `mlx::core::version()`.
    let library = file_with(c"_ZN3mlx4core7versionEv");
    let of_mlx = library.as_deref().and_then(|file| file.parent()?.parent());
    folders.extend(of_mlx.map(|folder| folder.join("include/cccl")).filter(|folder| folder.exists()));
    let of_wheel = of_mlx.and_then(|folder| Some(folder.parent()?.join("nvidia/cu13/include")));
    let of_toolkit = || {
        let home = ["CUDA_HOME", "CUDA_PATH"].into_iter().find_map(env::var_os);
        home.map_or_else(|| PathBuf::from("/usr/local/cuda"), PathBuf::from).join("include")
    };
    folders.push(of_wheel.filter(|folder| folder.exists()).unwrap_or_else(of_toolkit));
    folders
}

pub(super) fn options(architecture: &str, header_folders: &[PathBuf]) -> Vec<String> {
    let mut options =
        vec!["--device-as-default-execution-space".to_owned(), format!("--gpu-architecture={architecture}")];
    options.extend(header_folders.iter().map(|folder| format!("--include-path={}", folder.display())));
    options
}

/// MLX's version, such as `0.32.2`.
pub(super) fn mlx_version() -> Option<String> {
    // SAFETY: the string is made here, written by one function, read while it is alive, and freed once.
    unsafe {
        let mut version = mlx_sys::mlx_string_new();
        let status = mlx_sys::mlx_version(&raw mut version);
        let text = mlx_sys::mlx_string_data(version);
        let known = status == 0 && !text.is_null();
        let text = known.then(|| CStr::from_ptr(text).to_string_lossy().into_owned());
        mlx_sys::mlx_string_free(version);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_are_named_as_mlx_names_them() {
        let names = [(8, 0), (8, 9), (9, 0), (10, 0), (12, 1)].map(|(major, minor)| architecture_of(major, minor));
        assert_eq!(names, ["sm_80", "sm_89", "sm_90a", "sm_100a", "sm_121a"]);
    }

    #[test]
    fn options_say_where_headers_are() {
        let folders = ["/mlx/include/cccl".into(), "/usr/local/cuda/include".into()];
        assert_eq!(
            options("sm_90a", &folders),
            [
                "--device-as-default-execution-space",
                "--gpu-architecture=sm_90a",
                "--include-path=/mlx/include/cccl",
                "--include-path=/usr/local/cuda/include",
            ]
        );
    }

    #[test]
    fn mlx_knows_its_version() {
        let version = mlx_version().unwrap();
        assert!(version.split('.').count() >= 3 && version.starts_with(|c: char| c.is_ascii_digit()), "{version}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_library_of_mlx_is_found() {
        let library = file_with(c"_ZN3mlx4core7versionEv").unwrap();
        assert_eq!(library.file_name().unwrap(), "libmlx.so");
    }
}
