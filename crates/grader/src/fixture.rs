//! Fixtures: cases with inputs, expected values, tolerances and named wrong answers.
//!
//! A fixture is a safetensors file in `tests/fixtures`, written by the program of the same name in
//! `tests/fixtures/generate`. Tensors are called `<case>/<input>`, `<case>/expected` and
//! `<case>/wrong.<variant>`; a second output y is `<case>/expected.y`. The metadata entry `cases` is
//! JSON and gives each case's dtype, tolerance, parameters and the sentences for its wrong variants.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mlx_rs::{Array, Dtype};
use serde_json::Value;

use crate::compare::Tolerance;
use crate::fixture_file::{CaseMeta, Stored, parse, parse_dtype};
use crate::values::Values;

/// Why a fixture cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    #[error(
        "cannot read the fixture {path}: {source}; the file is part of the repository, `git status` shows whether it was deleted"
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the fixture {path} is damaged: {message}; restore it with `git restore tests/fixtures`")]
    Damaged { path: PathBuf, message: String },
}

/// A file of cases.
#[derive(Debug)]
pub struct Fixture {
    name: String,
    cases: BTreeMap<String, Case>,
}

/// One case: what goes in, what must come out, how exactly, and what known mistakes give.
#[derive(Debug)]
pub struct Case {
    pub(crate) name: String,
    pub(crate) meta: CaseMeta,
    pub(crate) inputs: BTreeMap<String, Stored>,
    pub(crate) outputs: BTreeMap<String, Output>,
}

/// An expected output; the first output of a case has the name "".
#[derive(Debug)]
pub(crate) struct Output {
    pub dtype: Dtype,
    pub tolerance: Tolerance,
    pub expected: Values,
    pub wrong: BTreeMap<String, Values>,
}

impl Fixture {
    /// Loads `tests/fixtures/<name>.safetensors`.
    ///
    /// # Panics
    /// When the file is missing or damaged: a test cannot go on without it.
    #[track_caller]
    pub fn load(name: &str) -> Self {
        match Self::open(&folder().join(format!("{name}.safetensors"))) {
            Ok(fixture) => fixture,
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads the fixture at `path`.
    ///
    /// # Errors
    /// [`FixtureError`] when the file cannot be read or is not a fixture.
    pub fn open(path: &Path) -> Result<Self, FixtureError> {
        let bytes = fs::read(path).map_err(|source| FixtureError::Read { path: path.to_owned(), source })?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let cases = parse(&bytes).map_err(|message| FixtureError::Damaged { path: path.to_owned(), message })?;
        Ok(Self { name, cases })
    }

    /// The case called `name`.
    ///
    /// # Panics
    /// When there is none; the message lists those that there are.
    #[track_caller]
    pub fn case(&self, name: &str) -> &Case {
        match self.cases.get(name) {
            Some(case) => case,
            None => {
                let names: Vec<_> = self.cases.keys().map(String::as_str).collect();
                panic!("the fixture {} has no case {name}; it has: {}", self.name, names.join(", "))
            }
        }
    }

    /// All cases, by name.
    pub fn cases(&self) -> impl Iterator<Item = &Case> {
        self.cases.values()
    }
}

impl Case {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The input called `name`, as an array of its stored dtype.
    ///
    /// # Panics
    /// When the case has no such input.
    #[track_caller]
    pub fn array(&self, name: &str) -> Array {
        match self.optional_array(name) {
            Some(array) => array,
            None => panic!("the case {} has no input {name}", self.name),
        }
    }

    /// The input called `name`, or None when the case has none.
    pub fn optional_array(&self, name: &str) -> Option<Array> {
        self.inputs.get(name).map(Stored::to_array)
    }

    /// A parameter that is a number with a fraction, such as a scale.
    #[track_caller]
    pub fn f32(&self, name: &str) -> f32 {
        self.parameter(name, |value| value.as_f64().map(|x| x as f32))
    }

    /// As [`Case::f32`], or None when the case has no such parameter.
    #[track_caller]
    pub fn optional_f32(&self, name: &str) -> Option<f32> {
        self.meta.params.contains_key(name).then(|| self.f32(name))
    }

    /// A parameter that is an integer, such as an axis.
    #[track_caller]
    pub fn i32(&self, name: &str) -> i32 {
        self.parameter(name, |value| value.as_i64().and_then(|x| i32::try_from(x).ok()))
    }

    /// As [`Case::i32`], or None when the case has no such parameter.
    #[track_caller]
    pub fn optional_i32(&self, name: &str) -> Option<i32> {
        self.meta.params.contains_key(name).then(|| self.i32(name))
    }

    /// A parameter that is a list of integers, such as offsets.
    #[track_caller]
    pub fn i32s(&self, name: &str) -> Vec<i32> {
        self.list(name, |value| value.as_i64().and_then(|x| i32::try_from(x).ok()))
    }

    /// A parameter that is a list of token ids.
    #[track_caller]
    pub fn u32s(&self, name: &str) -> Vec<u32> {
        self.list(name, |value| value.as_u64().and_then(|x| u32::try_from(x).ok()))
    }

    /// A parameter that is a list of numbers.
    #[track_caller]
    pub fn f32s(&self, name: &str) -> Vec<f32> {
        self.list(name, |value| value.as_f64().map(|x| x as f32))
    }

    /// A parameter that is true or false.
    #[track_caller]
    pub fn bool(&self, name: &str) -> bool {
        self.parameter(name, Value::as_bool)
    }

    /// A parameter that is a word.
    #[track_caller]
    pub fn str(&self, name: &str) -> String {
        self.parameter(name, |value| value.as_str().map(str::to_owned))
    }

    /// Whether the case has a parameter called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.meta.params.contains_key(name)
    }

    /// The dtype that the answer must have.
    #[track_caller]
    pub fn dtype(&self) -> Dtype {
        match parse_dtype(&self.meta.dtype) {
            Ok(dtype) => dtype,
            Err(message) => panic!("the case {}: {message}", self.name),
        }
    }

    #[track_caller]
    fn list<T>(&self, name: &str, read: impl Fn(&Value) -> Option<T>) -> Vec<T> {
        self.parameter(name, |value| value.as_array()?.iter().map(&read).collect())
    }

    #[track_caller]
    fn parameter<T>(&self, name: &str, read: impl Fn(&Value) -> Option<T>) -> T {
        match self.meta.params.get(name) {
            None => panic!("the case {} has no parameter {name}", self.name),
            Some(value) => match read(value) {
                Some(read) => read,
                None => panic!("the case {}: the parameter {name} = {value} is of another type", self.name),
            },
        }
    }
}

/// The folder of the fixtures: `TINY_LLM_FIXTURES`, else `tests/fixtures` of this repository.
pub fn folder() -> PathBuf {
    std::env::var_os("TINY_LLM_FIXTURES").map_or_else(
        || {
            // Not `../..`: the path is shown.
            let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
            repository.join("tests/fixtures")
        },
        PathBuf::from,
    )
}
