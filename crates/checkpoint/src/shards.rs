//! The weights of a Hugging Face folder: one safetensors file, or several with an index.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files;
use crate::host_tensor::HostTensor;
use crate::json::read_json;
use crate::safetensors_file::SafetensorsFile;
use crate::untrusted::value;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// All tensors of a folder by name, wherever they are stored.
#[derive(Debug)]
pub(crate) struct Shards {
    files: Vec<SafetensorsFile>,
    /// Tensor name to position in `files`.
    location: BTreeMap<String, usize>,
}

impl Shards {
    /// Opens `model.safetensors`, or every shard that `model.safetensors.index.json` names.
    ///
    /// An index beside a complete `model.safetensors` is a left-over of the model before it was quantized, unless it names
    /// that file: transformers takes the one file, and so does this.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
        let (has_single, has_index) = (files::is_there(&single)?, files::is_there(&index)?);
        if has_index && (!has_single || names_the_single_file(&index)) {
            return Self::open_indexed(folder, &index);
        }
        if !has_single {
            return Err(Error::malformed(folder, what_is_there_instead(folder)));
        }
        let file = SafetensorsFile::open(&single)?;
        let location = file.names().map(|name| (name.to_owned(), 0)).collect();
        Ok(Self { files: vec![file], location })
    }

    /// The index's `weight_map` gives the shard of each tensor. Both directions are checked: a tensor that the index
    /// names must be in that shard, and a tensor that a shard holds must be in the index.
    fn open_indexed(folder: &Path, index: &Path) -> Result<Self> {
        let json = read_json(index)?;
        let Some(weight_map) = json["weight_map"].as_object() else {
            return Err(Error::malformed(index, "has no `weight_map` object"));
        };
        let mut shards = Self { files: Vec::new(), location: BTreeMap::new() };
        let mut positions: BTreeMap<&str, usize> = BTreeMap::new();
        for (tensor, shard) in weight_map {
            let Some(shard) = shard.as_str() else {
                return Err(Error::tensor(index, tensor, format!("its shard {} is not a file name", value(shard))));
            };
            // A name with a path in it could leave the folder.
            if Path::new(shard).file_name() != Some(shard.as_ref()) {
                return Err(Error::tensor(index, tensor, format!("its shard `{shard}` is not a plain file name")));
            }
            let position = match positions.get(shard) {
                Some(&position) => position,
                None => {
                    let path = folder.join(shard);
                    if !files::is_there(&path)? {
                        return Err(Error::tensor(
                            index,
                            tensor,
                            format!("its shard `{shard}` is missing from the folder; download the model again"),
                        ));
                    }
                    shards.files.push(SafetensorsFile::open(&path)?);
                    positions.insert(shard, shards.files.len() - 1);
                    shards.files.len() - 1
                }
            };
            if shards.files[position].shape(tensor).is_none() {
                return Err(Error::tensor(index, tensor, format!("the index says `{shard}`, but it is not there")));
            }
            shards.location.insert(tensor.clone(), position);
        }
        for (position, file) in shards.files.iter().enumerate() {
            for name in file.names() {
                if shards.location.get(name) != Some(&position) {
                    return Err(Error::tensor(file.path(), name, format!("{INDEX} does not place it in this shard")));
                }
            }
        }
        Ok(shards)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.location.keys().map(String::as_str)
    }

    /// The file that holds a tensor.
    pub(crate) fn file(&self, name: &str) -> Option<&SafetensorsFile> {
        self.location.get(name).map(|&position| &self.files[position])
    }

    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.file(name)?.shape(name)
    }

    pub(crate) fn read(&self, name: &str) -> Option<Result<HostTensor<'_>>> {
        self.file(name)?.read(name)
    }

    pub(crate) fn release_pages(&self) {
        self.files.iter().for_each(SafetensorsFile::release_pages);
    }

    pub(crate) fn bytes_on_disk(&self) -> u64 {
        self.files.iter().map(SafetensorsFile::len).sum()
    }
}

/// Whether an index speaks of `model.safetensors`. One that cannot be read speaks of nothing.
fn names_the_single_file(index: &Path) -> bool {
    let json = read_json(index).unwrap_or_default();
    json["weight_map"].as_object().is_some_and(|map| map.values().any(|shard| shard == SINGLE))
}

/// What to say of a folder without weights.
fn what_is_there_instead(folder: &Path) -> String {
    let neither = format!("holds neither {SINGLE} nor {INDEX}");
    if !files::names_ending_in(folder, ".safetensors").is_empty() {
        return format!("{neither}, only parts of the weights; download the index as well");
    }
    format!("{neither}; other weight formats are not supported")
}
