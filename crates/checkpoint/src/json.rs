//! JSON files whose size and content come from somebody else.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};

/// Larger than any tokenizer.json in use (the largest have about 35 MB); keeps a wrong file from filling the memory.
const MAX_BYTES: u64 = 256 << 20;

/// The text of a file, if it is not absurdly large.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let len = std::fs::metadata(path).map_err(|source| Error::io(path, source))?.len();
    if len > MAX_BYTES {
        return Err(Error::malformed(path, format!("has {len} bytes; at most {MAX_BYTES} are expected here")));
    }
    std::fs::read_to_string(path).map_err(|source| Error::io(path, source))
}

/// A file that must be a JSON object.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let value: Value = serde_json::from_str(&read_text(path)?)
        .map_err(|error| Error::malformed(path, format!("is not valid JSON: {error}")))?;
    if !value.is_object() {
        return Err(Error::malformed(path, "is not a JSON object"));
    }
    Ok(value)
}

/// As [`read_json`], or `None` where the file does not exist.
pub(crate) fn read_json_if_present(path: &Path) -> Result<Option<Value>> {
    if path.is_file() { read_json(path).map(Some) } else { Ok(None) }
}
