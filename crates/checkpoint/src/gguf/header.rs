//! The header of a GGUF file: format numbers, metadata, and where each tensor lies.
//!
//! Source: the GGUF specification in the ggml repository (`docs/gguf.md`), versions 2 and 3.

use std::collections::{BTreeMap, HashSet};

use crate::gguf::blocks::BlockType;
use crate::gguf::cursor::Cursor;
use crate::gguf::metadata::Value;
use crate::untrusted::value as shown;

const MAGIC: &[u8] = b"GGUF";
const MAX_DIMENSIONS: u32 = 4;
const DEFAULT_ALIGNMENT: u64 = 32;

/// What is wrong with a header: the tensor, if it is one tensor's fault, and the problem.
#[derive(Debug, PartialEq)]
pub(crate) struct HeaderFault {
    pub(crate) tensor: Option<String>,
    pub(crate) problem: String,
}

impl From<String> for HeaderFault {
    fn from(problem: String) -> Self {
        Self { tensor: None, problem }
    }
}

/// A header whose every length and offset has been checked against the file's real length.
#[derive(Debug)]
pub(crate) struct Header<'a> {
    pub(crate) metadata: BTreeMap<&'a str, Value<'a>>,
    pub(crate) tensors: BTreeMap<&'a str, TensorInfo>,
}

/// Where a tensor lies and how it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TensorInfo {
    /// Row-major, outermost first: GGUF lists the sizes the other way round.
    pub(crate) shape: Vec<usize>,
    pub(crate) block_type: BlockType,
    /// First byte, from the start of the file.
    pub(crate) start: usize,
    pub(crate) len: usize,
}

impl<'a> Header<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, HeaderFault> {
        let mut cursor = Cursor::new(bytes, 0);
        if cursor.take(MAGIC.len() as u64) != Ok(MAGIC) {
            return Err("does not begin with `GGUF`: not a GGUF file".to_owned().into());
        }
        let version = cursor.u32()?;
        if !(2..=3).contains(&version) {
            let is_swapped = (1..=3).contains(&version.swap_bytes());
            let hint = if is_swapped { "a big-endian file" } else { "only 2 and 3 are supported" };
            return Err(format!("has GGUF version {version}: {hint}").into());
        }
        let tensor_count = cursor.u64()?;
        let metadata_count = cursor.u64()?;
        let metadata = read_metadata(&mut cursor, metadata_count)?;
        let alignment = match metadata.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(value) => value
                .as_u64()
                .filter(|alignment| alignment.is_power_of_two() && *alignment <= 1 << 20)
                .ok_or_else(|| format!("general.alignment is {}, not a power of two", shown(format!("{value:?}"))))?,
        };
        let tensors = read_tensors(&mut cursor, tensor_count, alignment, bytes.len() as u64)?;
        Ok(Self { metadata, tensors })
    }
}

fn read_metadata<'a>(cursor: &mut Cursor<'a>, count: u64) -> Result<BTreeMap<&'a str, Value<'a>>, String> {
    let mut metadata = BTreeMap::new();
    for index in 0..count {
        let key = cursor.string().map_err(|problem| format!("metadata key {index} of {count}: {problem}"))?;
        let value = Value::read(cursor).map_err(|problem| format!("metadata `{key}`: {problem}"))?;
        if metadata.insert(key, value).is_some() {
            return Err(format!("metadata `{key}` occurs twice"));
        }
    }
    Ok(metadata)
}

/// A tensor's entry as it stands in the file; its offset counts from the start of the data, which is known only after the last entry.
struct Entry {
    shape: Vec<usize>,
    block_type: BlockType,
    offset: u64,
    len: u64,
}

fn read_tensors<'a>(
    cursor: &mut Cursor<'a>,
    count: u64,
    alignment: u64,
    file_len: u64,
) -> Result<BTreeMap<&'a str, TensorInfo>, HeaderFault> {
    // In the order of the file: that is the order of the data, too.
    let mut entries = Vec::new();
    let mut names = HashSet::new();
    for index in 0..count {
        let name = cursor.string().map_err(|problem| format!("tensor {index} of {count}: {problem}"))?;
        let in_tensor = |problem: String| HeaderFault { tensor: Some(name.to_owned()), problem };
        let entry = read_entry(cursor).map_err(in_tensor)?;
        if !names.insert(name) {
            return Err(in_tensor("occurs twice".to_owned()));
        }
        entries.push((name, entry));
    }
    let data_start = (cursor.position() as u64).next_multiple_of(alignment);
    let mut tensors = BTreeMap::new();
    let (mut expected, mut previous) = (0, "");
    for (name, entry) in entries {
        let in_tensor = |problem: String| HeaderFault { tensor: Some(name.to_owned()), problem };
        let Entry { shape, block_type, offset, len } = entry;
        if !offset.is_multiple_of(alignment) {
            return Err(in_tensor(format!("its offset {offset} is not a multiple of the alignment {alignment}")));
        }
        let start = data_start.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(len)).filter(|&end| end <= file_len);
        let (Some(start), Some(_)) = (start, end) else {
            return Err(in_tensor(format!(
                "its {len} bytes at offset {offset} lie outside the file of {file_len} bytes: truncated or a wrong header"
            )));
        };
        // A wrong type or shape shows here: ggml writes one tensor after another, and refuses anything else.
        if offset != expected {
            let what = if offset < expected { "overlaps" } else { "leaves a gap after" };
            let before = if previous.is_empty() { "the header".to_owned() } else { format!("`{previous}`") };
            return Err(in_tensor(format!(
                "its data at offset {offset} {what} that of {before}, which ends at {expected}: one of the two has a wrong type, shape or offset"
            )));
        }
        (expected, previous) = ((offset + len).next_multiple_of(alignment), name);
        tensors.insert(name, TensorInfo { shape, block_type, start: start as usize, len: len as usize });
    }
    // The last tensor has no neighbour, but there is the end of the file.
    let extra = file_len.saturating_sub(data_start.saturating_add(expected));
    if extra > 0 && !tensors.is_empty() {
        return Err(HeaderFault {
            tensor: Some(previous.to_owned()),
            problem: format!("is the last one, but {extra} bytes follow its data: it has a wrong type or shape"),
        });
    }
    Ok(tensors)
}

fn read_entry(cursor: &mut Cursor) -> Result<Entry, String> {
    let n_dimensions = cursor.u32()?;
    if !(1..=MAX_DIMENSIONS).contains(&n_dimensions) {
        return Err(format!("has {n_dimensions} dimensions, outside 1..={MAX_DIMENSIONS}"));
    }
    let sizes = (0..n_dimensions).map(|_| cursor.u64()).collect::<Result<Vec<_>, _>>()?;
    let block_type = BlockType::from_number(cursor.u32()?)?;
    let offset = cursor.u64()?;

    let row_len = sizes[0];
    let (block_len, block_bytes) = (block_type.block_len() as u64, block_type.block_bytes() as u64);
    if !row_len.is_multiple_of(block_len) {
        return Err(format!("has rows of {row_len}, not a multiple of {block_len} as {block_type:?} demands"));
    }
    let too_large = || format!("has a size that overflows: {sizes:?}");
    let elements = sizes.iter().try_fold(1u64, |product, &size| product.checked_mul(size)).ok_or_else(too_large)?;
    let len = (elements / block_len).checked_mul(block_bytes).ok_or_else(too_large)?;
    let shape = sizes.iter().rev().map(|&size| usize::try_from(size).ok()).collect::<Option<_>>();
    Ok(Entry { shape: shape.ok_or_else(too_large)?, block_type, offset, len })
}
