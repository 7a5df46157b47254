//! JSON files whose size and content come from somebody else.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::files;
use crate::untrusted::value;

/// Larger than any tokenizer.json in use (the largest have about 35 MB).
const MAX_TEXT_BYTES: u64 = 256 << 20;
/// For files that become a [`Value`], which takes up to 40 times as much memory. Those in use have less than 2 MB.
const MAX_JSON_BYTES: u64 = 8 << 20;

/// The text of a file, if it is not absurdly large.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    files::read_text(path, MAX_TEXT_BYTES)
}

/// A file that must be a JSON object.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let json: Value = serde_json::from_str(&files::read_text(path, MAX_JSON_BYTES)?)
        .map_err(|error| Error::malformed(path, format!("is not valid JSON: {}", value(error))))?;
    if !json.is_object() {
        return Err(Error::malformed(path, "is not a JSON object"));
    }
    Ok(json)
}

/// As [`read_json`], or `None` where the file does not exist.
pub(crate) fn read_json_if_present(path: &Path) -> Result<Option<Value>> {
    if files::is_there(path)? { read_json(path).map(Some) } else { Ok(None) }
}
