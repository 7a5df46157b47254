//! From a folder to a compressed archive in parts, with their checksums and the script that joins them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::process;
use crate::status_line::StatusLine;
use crate::workspace::write_text;

const JOIN: &str = include_str!("../bundle/join.sh");
/// What is called, and the packages that bring it on Debian and Fedora.
const TOOLS: [(&str, &str, &str); 4] = [
    ("tar", "tar", "tar"),
    ("xz", "xz-utils", "xz"),
    ("strip", "binutils", "binutils"),
    ("sha256sum", "coreutils", "coreutils"),
];

/// Fails before the long work if a tool is missing.
pub fn check_tools() -> Result<()> {
    for (tool, debian, fedora) in TOOLS {
        let answers = process::output(Command::new(tool).arg("--version")).is_ok_and(|finished| finished.succeeded());
        if !answers {
            return Err(Error::new(format!("`{tool}` is not there"))
                .remedy(format!("install it: Debian/Ubuntu `apt install {debian}`, Fedora `dnf install {fedora}`")));
        }
    }
    Ok(())
}

/// Packs the folder `name` in `parent` into files in `output` whose names begin with `archive`, and returns those.
/// Links are followed.
///
/// # Errors
/// tar or xz fails, or `output` cannot be written.
pub fn pack(parent: &Path, name: &str, output: &Path, archive: &str, max_bytes: Option<u64>) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(output).map_err(|e| Error::io("create", output, &e))?;
    remove_older(output, archive)?;

    let mut tar = Command::new("tar");
    tar.args(["--create", "--dereference", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--directory"]);
    tar.arg(parent).arg(name).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut tar_runs = tar.spawn().map_err(|e| process::cannot_start(&tar, &e))?;
    let mut xz = Command::new("xz");
    // The window of level 9 (64 MiB) sees what programs have in common; blocks as large give every processor some.
    xz.args(["-9", "--threads=0", "--block-size=64MiB", "--stdout"]).stdout(Stdio::piped());
    if let Some(files) = tar_runs.stdout.take() {
        xz.stdin(files);
    }
    let mut xz_runs = xz.spawn().map_err(|e| process::cannot_start(&xz, &e))?;
    // This end of the pipe goes, so that tar ends if xz does.
    drop(xz);
    let parts = match xz_runs.stdout.take() {
        Some(compressed) => write_parts(compressed, max_bytes, |number| match max_bytes {
            None => output.join(archive),
            Some(_) => output.join(format!("{archive}.{number:02}")),
        }),
        None => Ok(Vec::new()),
    };
    let packed = tar_runs.wait().map_err(|e| process::cannot_start(&tar, &e))?;
    let compressed = xz_runs.wait().map_err(|e| Error::new(format!("cannot wait for xz: {e}")))?;
    let parts = parts?;
    if !packed.success() || !compressed.success() {
        return Err(Error::new("the bundle could not be packed: tar or xz failed, see above"));
    }

    write_text(&output.join("SHA256SUMS"), &checksums(output, &parts)?)?;
    write_text(&output.join("join.sh"), JOIN)?;
    Ok(parts)
}

/// The parts of an earlier run would be joined with the new ones by whoever copies the folder.
fn remove_older(output: &Path, archive: &str) -> Result<()> {
    let entries = fs::read_dir(output).map_err(|e| Error::io("list", output, &e))?;
    for entry in entries {
        let path = entry.map_err(|e| Error::io("list", output, &e))?.path();
        let is_part = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(archive));
        if is_part.is_some_and(|rest| rest.strip_prefix('.').unwrap_or(rest).bytes().all(|b| b.is_ascii_digit())) {
            fs::remove_file(&path).map_err(|e| Error::io("remove", &path, &e))?;
        }
    }
    Ok(())
}

/// Writes what `source` yields to files of at most `max_bytes`, named by their number from 1.
fn write_parts(
    mut source: impl Read,
    max_bytes: Option<u64>,
    path_of: impl Fn(usize) -> PathBuf,
) -> Result<Vec<PathBuf>> {
    let status = StatusLine::new(true);
    let max_bytes = max_bytes.unwrap_or(u64::MAX);
    let mut buffer = vec![0; 1 << 18];
    let mut parts: Vec<PathBuf> = Vec::new();
    let mut open: Option<(File, u64)> = None;
    let mut total = 0_u64;
    loop {
        let n_read = match source.read(&mut buffer) {
            Ok(0) => return Ok(parts),
            Ok(n_read) => n_read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::new(format!("cannot read what xz writes: {error}"))),
        };
        let mut rest = &buffer[..n_read];
        while !rest.is_empty() {
            let path = parts.last().cloned().unwrap_or_default();
            let (file, left) = match &mut open {
                Some((file, left)) if *left > 0 => (file, left),
                _ => {
                    let path = path_of(parts.len() + 1);
                    let file = File::create(&path).map_err(|e| Error::io("create", &path, &e))?;
                    parts.push(path);
                    open = Some((file, max_bytes));
                    continue;
                }
            };
            let n_bytes = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
            file.write_all(&rest[..n_bytes]).map_err(|e| Error::io("write", &path, &e))?;
            *left -= n_bytes as u64;
            rest = &rest[n_bytes..];
            total += n_bytes as u64;
        }
        status.show(&format!("compressing: {} MiB written", total >> 20));
    }
}

/// The lines that `sha256sum --check` reads, in the order of the parts.
fn checksums(output: &Path, parts: &[PathBuf]) -> Result<String> {
    let mut command = Command::new("sha256sum");
    command.current_dir(output).args(parts.iter().filter_map(|part| part.file_name()));
    let finished = process::output(&mut command)?;
    match finished.succeeded() {
        true => Ok(finished.stdout),
        false => Err(Error::new(format!("sha256sum failed: {}", finished.stderr.trim()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is deleted at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("xtask-bundle-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A source that yields at most three bytes at a time.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n_bytes = self.0.len().min(3);
            let (now, later) = self.0.split_at(n_bytes);
            buffer[..n_bytes].copy_from_slice(now);
            self.0 = later;
            Ok(n_bytes)
        }
    }

    #[test]
    fn parts_are_full_and_join_to_the_whole() {
        let folder = Folder::new("parts");
        let bytes: Vec<u8> = (0..=99).collect();
        for (len, max, sizes) in [
            (100, Some(40), vec![40, 40, 20]),
            (80, Some(40), vec![40, 40]),
            (5, Some(40), vec![5]),
            (10, Some(1), vec![1; 10]),
            (100, None, vec![100]),
            (0, Some(40), vec![]),
        ] {
            let parts = write_parts(Trickle(&bytes[..len]), max, |n| folder.0.join(format!("p.{n:02}"))).unwrap();
            let contents: Vec<Vec<u8>> = parts.iter().map(|part| fs::read(part).unwrap()).collect();
            assert_eq!(contents.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "{len} bytes by {max:?}");
            assert_eq!(contents.concat(), &bytes[..len]);
        }
    }

    #[test]
    fn what_was_packed_is_checked_and_unpacked_by_the_script() {
        if !cfg!(target_os = "linux") {
            return;
        }
        let folder = Folder::new("pack");
        let stage = folder.0.join("stage");
        let output = folder.0.join("a folder");
        fs::create_dir_all(stage.join("tiny-llm-bundle/sub")).unwrap();
        fs::create_dir_all(&output).unwrap();
        fs::write(folder.0.join("elsewhere"), "far away").unwrap();
        fs::write(stage.join("tiny-llm-bundle/sub/file"), "text").unwrap();
        std::os::unix::fs::symlink(folder.0.join("elsewhere"), stage.join("tiny-llm-bundle/link")).unwrap();
        for stale in ["x.tar.xz", "x.tar.xz.07"] {
            fs::write(output.join(stale), "old").unwrap();
        }
        fs::write(output.join("x.tar.xz.note"), "not ours").unwrap();

        let parts = pack(&stage, "tiny-llm-bundle", &output, "x.tar.xz", Some(100)).unwrap();
        assert!(parts.len() > 1 && parts[0].ends_with("x.tar.xz.01"), "{parts:?}");
        assert!(!output.join("x.tar.xz").exists() && !output.join("x.tar.xz.07").exists());
        assert!(output.join("x.tar.xz.note").exists());

        let join =
            || process::output(Command::new("sh").arg(output.join("join.sh")).arg(folder.0.join("there"))).unwrap();
        let finished = join();
        assert!(finished.succeeded(), "{finished:?}");
        let unpacked = folder.0.join("there/tiny-llm-bundle");
        assert_eq!(fs::read_to_string(unpacked.join("sub/file")).unwrap(), "text");
        fs::remove_file(folder.0.join("elsewhere")).unwrap();
        assert_eq!(fs::read_to_string(unpacked.join("link")).unwrap(), "far away");

        let mut damaged = fs::read(&parts[1]).unwrap();
        damaged[0] ^= 1;
        fs::write(&parts[1], damaged).unwrap();
        let finished = join();
        assert!(!finished.succeeded() && finished.stdout.contains("x.tar.xz.02: FAILED"), "{finished:?}");
    }
}
