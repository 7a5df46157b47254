//! One memory-mapped `.safetensors` file.
//!
//! Format: eight bytes with the header's length, a JSON header that gives each tensor's dtype, shape and byte range,
//! then the data without gaps (the format section of the `safetensors` project).

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, tensor::Metadata};

use crate::error::{Error, Result};
use crate::host_tensor::{Data, ElementType, HostTensor};

/// The `safetensors` crate allows as much; a longer header is a lie about its length.
const MAX_HEADER_BYTES: u64 = 100_000_000;
const LENGTH_BYTES: usize = 8;

/// A `.safetensors` file whose header has been checked against the file's real length.
#[derive(Debug)]
pub(crate) struct SafetensorsFile {
    path: PathBuf,
    map: Mmap,
    metadata: Metadata,
    data_start: usize,
}

impl SafetensorsFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let map = map_file(path)?;
        let header = check_header(&map).map_err(|fault| fault.at(path))?;
        let (header_len, metadata) = SafeTensors::read_metadata(&map).map_err(|error| {
            Error::malformed(path, format!("its safetensors header of {} tensors is invalid: {error}", header.len()))
        })?;
        Ok(Self { path: path.to_owned(), map, metadata, data_start: LENGTH_BYTES + header_len })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// See [`release_pages`].
    pub(crate) fn release_pages(&self) {
        release_pages(&self.map);
    }

    pub(crate) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.metadata.info(name).map(|info| info.shape.as_slice())
    }

    pub(crate) fn element(&self, name: &str) -> Option<Result<ElementType>> {
        let info = self.metadata.info(name)?;
        Some(match info.dtype {
            Dtype::F32 => Ok(ElementType::F32),
            Dtype::F16 => Ok(ElementType::F16),
            Dtype::BF16 => Ok(ElementType::Bf16),
            Dtype::U32 => Ok(ElementType::U32),
            other => Err(Error::tensor(
                &self.path,
                name,
                format!("dtype {other} is not supported; weights must be F32, F16 or BF16"),
            )),
        })
    }

    /// The tensor as it is stored; its bytes stay in the mapped file.
    pub(crate) fn read(&self, name: &str) -> Option<Result<HostTensor<'_>>> {
        let element = match self.element(name)? {
            Ok(element) => element,
            Err(error) => return Some(Err(error)),
        };
        let info = self.metadata.info(name)?;
        let (begin, end) = info.data_offsets;
        let bytes = self.map.get(self.data_start + begin..self.data_start + end)?;
        Some(Ok(HostTensor { element, shape: info.shape.clone(), data: Data::Mapped(bytes) }))
    }
}

/// Maps a file for reading.
pub(crate) fn map_file(path: &Path) -> Result<Mmap> {
    // Asked before opening, because opening a pipe would wait for its other end.
    let metadata = std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
    if !metadata.is_file() {
        return Err(Error::malformed(path, "is not a file"));
    }
    let file = File::open(path).map_err(|source| Error::io(path, source))?;
    // SAFETY: the map is read-only. A file that another process shortens while it is mapped makes reads fault; every
    // engine that maps its weights accepts that, because copying gigabytes is the alternative.
    unsafe { Mmap::map(&file) }.map_err(|source| Error::io(path, source))
}

/// Takes the pages that were read out of this process's memory; the system keeps them as cache, or reads them again.
///
/// Without this a loaded model would count twice: once in its arrays, once in the mapped file.
pub(crate) fn release_pages(map: &Mmap) {
    #[cfg(unix)]
    {
        // SAFETY: the map is read-only and shared with the file, so dropped pages come back with the same bytes.
        // It is advice: where it fails, nothing is wrong but the memory that is counted.
        let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }
    #[cfg(not(unix))]
    let _ = map;
}

/// What is wrong with a header, before the file's name is known.
enum HeaderFault {
    File(String),
    Tensor(String, String),
}

impl HeaderFault {
    fn at(self, path: &Path) -> Error {
        match self {
            Self::File(problem) => Error::malformed(path, problem),
            Self::Tensor(tensor, problem) => Error::tensor(path, &tensor, problem),
        }
    }
}

/// Checks what the `safetensors` crate reports without a tensor's name, or adds up without a check for overflow.
fn check_header(bytes: &[u8]) -> Result<BTreeMap<String, serde_json::Value>, HeaderFault> {
    let file_len = bytes.len();
    let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else {
        return Err(HeaderFault::File(format!("is {file_len} bytes long, too short for a safetensors file")));
    };
    let header_len = u64::from_le_bytes(*length);
    let available = (file_len - LENGTH_BYTES) as u64;
    if header_len > available.min(MAX_HEADER_BYTES) {
        return Err(HeaderFault::File(format!(
            "says that its header has {header_len} bytes, but {available} bytes follow: the file is truncated or not safetensors"
        )));
    }
    let (header, data) = bytes[LENGTH_BYTES..].split_at(header_len as usize);
    let mut header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header)
        .map_err(|error| HeaderFault::File(format!("its safetensors header is not valid JSON: {error}")))?;
    header.remove("__metadata__");
    for (name, info) in &header {
        let fault = |problem: String| HeaderFault::Tensor(name.clone(), problem);
        let dtype = &info["dtype"];
        if serde_json::from_value::<Dtype>(dtype.clone()).is_err() {
            return Err(fault(format!("unknown dtype {dtype}")));
        }
        let dimensions = info["shape"].as_array().map(Vec::as_slice);
        if dimensions.is_none_or(|dimensions| dimensions.iter().any(|dimension| dimension.as_u64().is_none())) {
            return Err(fault(format!("its shape {} is not a list of sizes", info["shape"])));
        }
        let (begin, end) = (info["data_offsets"][0].as_u64(), info["data_offsets"][1].as_u64());
        let (Some(begin), Some(end)) = (begin, end) else {
            return Err(fault(format!("its data_offsets {} are not a pair of sizes", info["data_offsets"])));
        };
        if begin > end || end > data.len() as u64 {
            return Err(fault(format!(
                "its data lies at bytes {begin}..{end}, but the file has {} bytes of data: truncated or a wrong header",
                data.len()
            )));
        }
    }
    Ok(header)
}
