//! Models that llama.cpp's `gguf-split` cut into files: `name-00001-of-00003.gguf` and so on.
//!
//! Each part is a GGUF file with tensors of its own. The first has the model's metadata as well, and all of them say which
//! part they are (`split.no`, from 0), how many there are (`split.count`) and how many tensors the model has
//! (`split.tensors.count`).

use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{Error, Result};
use crate::files;
use crate::gguf::header::{Header, HeaderFault};
use crate::gguf::metadata::Value;

/// A mapped file.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) map: Mmap,
}

impl Part {
    fn open(path: &Path) -> Result<Self> {
        let map = files::map(path)?;
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            return Err(Error::malformed(
                path,
                "is a part of a model: give its folder, which also has the config.json",
            ));
        }
        Ok(Self { path: path.to_owned(), map })
    }

    pub(super) fn header(&self) -> Result<Header<'_>> {
        Header::parse(&self.map).map_err(|HeaderFault { tensor, problem }| match tensor {
            Some(tensor) => Error::tensor(&self.path, &tensor, problem),
            None => Error::malformed(&self.path, problem),
        })
    }
}

/// The file, with all other parts where it is a part; in their order, whichever of them `path` is.
pub(super) fn open(path: &Path) -> Result<Vec<Part>> {
    let given = Part::open(path)?;
    let Some(place) = Place::read(&given)? else { return Ok(vec![given]) };
    let Some(stem) = place.stem(path) else {
        let problem = format!(
            "is part {} of {} of a model, and the others are looked for by name: it must end in `{}`, as gguf-split named it",
            place.number + 1,
            place.count,
            place.suffix()
        );
        return Err(Error::malformed(path, problem));
    };
    let mut given = Some(given);
    let mut parts = Vec::new();
    let mut n_tensors = 0;
    for number in 0..place.count {
        let expected = Place { number, ..place };
        let path_of_part = path.with_file_name(format!("{stem}{}", expected.suffix()));
        let part = match given.take_if(|_| number == place.number) {
            Some(part) => part,
            None if files::is_there(&path_of_part)? => Part::open(&path_of_part)?,
            None => {
                let name = path_of_part.file_name().unwrap_or_default().to_string_lossy();
                let (this, count) = (place.number + 1, place.count);
                let problem = format!(
                    "is part {this} of {count} of a model, and `{name}` is not beside it: download all {count} parts"
                );
                return Err(Error::malformed(path, problem));
            }
        };
        if Place::read(&part)? != Some(expected) {
            let problem =
                format!("is not part {} of {} of the model, although its name says so", number + 1, place.count);
            return Err(Error::malformed(&part.path, problem));
        }
        n_tensors += part.header()?.tensors.len() as u64;
        parts.push(part);
    }
    match place.n_tensors.filter(|&expected| expected != n_tensors) {
        None => Ok(parts),
        Some(expected) => {
            let problem = format!("its {} parts hold {n_tensors} tensors, but {expected} are announced", place.count);
            Err(Error::malformed(path, problem))
        }
    }
}

/// What a part says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// From 0.
    number: u64,
    count: u64,
    /// Of the whole model.
    n_tensors: Option<u64>,
}

impl Place {
    /// `None` for a file that is a whole model.
    fn read(part: &Part) -> Result<Option<Self>> {
        let header = part.header()?;
        let number = |key: &str| header.metadata.get(key).and_then(Value::as_u64);
        let Some(count) = number("split.count").filter(|&count| count > 1) else { return Ok(None) };
        match number("split.no").filter(|&number| number < count) {
            Some(place) => Ok(Some(Self { number: place, count, n_tensors: number("split.tensors.count") })),
            None => {
                let problem =
                    format!("is one of {count} parts of a model, but its `split.no` is not a number below that");
                Err(Error::malformed(&part.path, problem))
            }
        }
    }

    fn suffix(&self) -> String {
        format!("-{:05}-of-{:05}.gguf", self.number + 1, self.count)
    }

    /// The name of the whole model: that of the file without the part's suffix.
    fn stem<'p>(&self, path: &'p Path) -> Option<&'p str> {
        path.file_name()?.to_str()?.strip_suffix(&self.suffix())
    }
}
