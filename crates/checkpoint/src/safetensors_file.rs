//! One memory-mapped `.safetensors` file.
//!
//! Format: eight bytes with the header's length, a JSON header that gives each tensor's dtype, shape and byte range,
//! then the data without gaps (the format section of the `safetensors` project).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::Dtype;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

use crate::error::{Error, Result};
use crate::files;
use crate::host_tensor::{Data, ElementType, HostTensor};
use crate::untrusted::value;

/// The `safetensors` crate allows as much; a longer header is a lie about its length.
const MAX_HEADER_BYTES: u64 = 100_000_000;
const LENGTH_BYTES: usize = 8;
/// Weights have two axes at most; more are read, so that such a tensor is refused by its shape.
const MAX_AXES: usize = 8;

/// A `.safetensors` file whose header has been checked against the file's real length.
#[derive(Debug)]
pub(crate) struct SafetensorsFile {
    path: PathBuf,
    map: Mmap,
    tensors: BTreeMap<String, Entry>,
    data_start: usize,
}

/// Where a tensor lies behind the header, and what it is.
#[derive(Debug)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    begin: usize,
    end: usize,
}

impl SafetensorsFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let map = files::map(path)?;
        let (tensors, data_start) = read_header(&map).map_err(|fault| fault.at(path))?;
        Ok(Self { path: path.to_owned(), map, tensors, data_start })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// See [`files::release_pages`].
    pub(crate) fn release_pages(&self) {
        files::release_pages(&self.map);
    }

    pub(crate) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    pub(crate) fn element(&self, name: &str) -> Option<Result<ElementType>> {
        let entry = self.tensors.get(name)?;
        Some(match entry.dtype {
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
        let Entry { shape, begin, end, .. } = self.tensors.get(name)?;
        let bytes = self.map.get(self.data_start + begin..self.data_start + end)?;
        Some(Ok(HostTensor { element, shape: shape.clone(), data: Data::Mapped(bytes) }))
    }
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

/// The tensors of a file and the first byte of its data. Each length, offset and size is compared with the file's real length.
fn read_header(bytes: &[u8]) -> Result<(BTreeMap<String, Entry>, usize), HeaderFault> {
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
    let mut tensors = BTreeMap::new();
    let mut current = None;
    let mut json = serde_json::Deserializer::from_slice(header);
    let parsed = HeaderSeed { tensors: &mut tensors, current: &mut current }.deserialize(&mut json);
    if let Err(error) = parsed.and_then(|()| json.end()) {
        let problem = format!("its safetensors header is not valid: {}", value(error));
        return Err(current.map_or(HeaderFault::File(problem.clone()), |name| HeaderFault::Tensor(name, problem)));
    }
    check_layout(&tensors, data.len())?;
    Ok((tensors, LENGTH_BYTES + header.len()))
}

/// The data must be there, as long as shape and dtype say, and follow each other without gaps to the end of the file.
fn check_layout(tensors: &BTreeMap<String, Entry>, data_len: usize) -> Result<(), HeaderFault> {
    let mut in_order: Vec<_> = tensors.iter().collect();
    in_order.sort_by_key(|(_, entry)| (entry.begin, entry.end));
    let mut expected = 0;
    for (name, &Entry { dtype, ref shape, begin, end }) in in_order {
        let fault = |problem: String| Err(HeaderFault::Tensor(name.clone(), problem));
        if begin > end || end > data_len {
            return fault(format!(
                "its data lies at bytes {begin}..{end}, but the file has {data_len} bytes of data: truncated or a wrong header"
            ));
        }
        let bits = shape.iter().try_fold(dtype.bitsize(), |bits, &size| bits.checked_mul(size));
        if bits != (end - begin).checked_mul(8) {
            return fault(format!("the header gives it {} bytes, which do not fit {dtype} {shape:?}", end - begin));
        }
        if begin != expected {
            return fault(format!(
                "its data begins at byte {begin}, but that of the tensor before it ends at {expected}: a wrong header"
            ));
        }
        expected = end;
    }
    if expected != data_len {
        let extra = data_len - expected;
        return Err(HeaderFault::File(format!("has {extra} bytes that belong to no tensor: a wrong header")));
    }
    Ok(())
}

/// Reads the header into `tensors`, piece by piece: a tree of JSON values would take forty times its length.
/// `current` is the name of the tensor whose entry is being read.
struct HeaderSeed<'a> {
    tensors: &'a mut BTreeMap<String, Entry>,
    current: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with an entry for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            *self.current = Some(name.clone());
            let StoredEntry { dtype, shape, data_offsets: (begin, end) } = map.next_value()?;
            let Ok(dtype) = Dtype::deserialize(de::value::StrDeserializer::<de::value::Error>::new(&dtype)) else {
                return Err(A::Error::custom(format!("unknown dtype {dtype:?}")));
            };
            if self.tensors.insert(name, Entry { dtype, shape: shape.0, begin, end }).is_some() {
                return Err(A::Error::custom("the tensor has two entries"));
            }
            *self.current = None;
        }
        Ok(())
    }
}

/// An entry as the file has it.
#[derive(Deserialize)]
struct StoredEntry {
    dtype: String,
    shape: Shape,
    data_offsets: (usize, usize),
}

struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ShapeVisitor).map(Self)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Vec<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a shape of at most {MAX_AXES} sizes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sizes: A) -> Result<Vec<usize>, A::Error> {
        let mut shape = Vec::new();
        while let Some(size) = sizes.next_element()? {
            if shape.len() == MAX_AXES {
                return Err(A::Error::invalid_length(MAX_AXES + 1, &self));
            }
            shape.push(size);
        }
        Ok(shape)
    }
}
