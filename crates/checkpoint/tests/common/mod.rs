//! Paths and expected values that the integration tests share.
// Every test file is its own crate and uses a part of this; a panic here is the test's report.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use mlx_rs::{Array, Dtype};
use safetensors::SafeTensors;

pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

pub fn json(name: &str) -> serde_json::Value {
    json_file(&data(name))
}

pub fn json_file(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Name, shape and f32 values of every tensor in a file that the generator wrote.
pub fn expected(name: &str) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(data(name)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let values = |bytes: &[u8]| bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    tensors.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec(), values(view.data()))).collect()
}

pub fn to_f32(array: &Array) -> Vec<f32> {
    array.as_dtype(Dtype::Float32).unwrap().to_vec_exact::<f32>().unwrap()
}

/// A copy of a fixture folder that a test may damage.
pub fn copy_of(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(data(name)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// Changes the JSON file of a folder.
pub fn edit_json(path: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}
