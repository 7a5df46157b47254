//! Memory of this process.

use nix::sys::resource::{UsageWho, getrusage};

/// The most memory that was resident at any time, mapped files included.
pub fn peak_resident_bytes() -> Option<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    // macOS counts bytes, the others kilobytes.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    u64::try_from(usage.max_rss()).ok().map(|max| max * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_grows_with_what_is_touched() {
        let before = peak_resident_bytes().unwrap();
        let touched = std::hint::black_box(vec![1_u8; 256 << 20]);
        let after = peak_resident_bytes().unwrap();
        assert!(after >= before + (touched.len() as u64) / 2, "{before} {after}");
    }
}
