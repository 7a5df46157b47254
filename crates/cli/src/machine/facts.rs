//! What the operating system says about this machine.

use std::fs;
use std::process::Command;

/// The processor's name.
pub fn processor() -> String {
    let name = linux_field("/proc/cpuinfo", "model name").or_else(|| sysctl("machdep.cpu.brand_string"));
    name.unwrap_or_else(|| format!("unknown {}", std::env::consts::ARCH))
}

/// The machine's memory, if it can be found out.
pub fn memory_bytes() -> Option<u64> {
    let kilobytes =
        linux_field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes * 1024).or_else(|| sysctl("hw.memsize")?.parse().ok())
}

/// Operating system, its version, and the architecture.
pub fn system() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok().or_else(|| sysctl("kern.osrelease"));
    format!("{} {} {}", std::env::consts::OS, release.unwrap_or_default().trim(), std::env::consts::ARCH)
}

/// The instruction sets that kernels of this course look for.
pub fn simd() -> Vec<String> {
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    #[cfg(target_arch = "aarch64")]
    let found = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
        ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found: [(&str, bool); 0] = [];
    found.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name.to_owned()).collect()
}

/// The value of the first line `name : value` of a file below `/proc`.
fn linux_field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// A value of macOS's `sysctl`.
fn sysctl(name: &str) -> Option<String> {
    if !cfg!(target_os = "macos") {
        return None;
    }
    let output = Command::new("sysctl").args(["-n", name]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        assert!(!processor().is_empty());
        assert!(system().contains(std::env::consts::ARCH));
        if cfg!(any(target_os = "linux", target_os = "macos")) {
            assert!(memory_bytes().unwrap() > 1 << 28);
        }
    }
}
