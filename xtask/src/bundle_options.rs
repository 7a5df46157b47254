//! What `cargo xtask bundle` is asked for.

use std::path::PathBuf;

use mlx_setup::Backend;

use crate::arguments::{Accepts, Arguments};
use crate::error::{Error, Result};

#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    pub backend: Backend,
    /// Bytes that one part may have; `None`: one file.
    pub max_part_bytes: Option<u64>,
    pub output: Option<PathBuf>,
    /// As the engine's `--model` takes them.
    pub models: Vec<String>,
}

impl Options {
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let values = &["backend", "split", "output", "model"];
        let accepts = Accepts { command: "bundle", max_positionals: 0, flags: &[], values };
        let arguments = Arguments::parse(&accepts, arguments)?;
        let Some(backend) = arguments.value("backend") else {
            return Err(Error::new("`bundle` needs the backend of the machine that it is for")
                .remedy("for example `cargo xtask bundle --backend cuda`"));
        };
        Ok(Self {
            backend: backend.parse().map_err(|error: mlx_setup::Error| Error::new(error.to_string()))?,
            max_part_bytes: arguments.value("split").map(size).transpose()?,
            output: arguments.value("output").map(PathBuf::from),
            models: arguments.all_values("model").to_vec(),
        })
    }
}

/// A number of bytes with the unit K, M or G, powers of 1024; at least 1M.
fn size(text: &str) -> Result<u64> {
    let units = [('K', 1 << 10), ('M', 1 << 20), ('G', 1 << 30)];
    let bytes = units.into_iter().find_map(|(letter, unit)| {
        let number: u64 = text.strip_suffix(letter)?.parse().ok()?;
        number.checked_mul(unit)
    });
    bytes.filter(|bytes| *bytes >= 1 << 20).ok_or_else(|| {
        Error::new(format!("`--split {text}` is not a size")).remedy("give a number with a unit, at least 1M: 60M, 2G")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options> {
        Options::parse(&arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn everything_can_be_given() {
        let options =
            parse(&["--backend=cuda", "--split", "60M", "--output", "out", "--model", "a", "--model", "b"]).unwrap();
        let expected = Options {
            backend: Backend::Cuda13,
            max_part_bytes: Some(60 << 20),
            output: Some(PathBuf::from("out")),
            models: vec!["a".to_owned(), "b".to_owned()],
        };
        assert_eq!(options, expected);
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(size("2G").unwrap(), 2 << 30);
        assert_eq!(size("2048K").unwrap(), 2 << 20);
        for wrong in ["60", "60MB", "M", "0M", "1023K", "-1M", "99999999999G", "1.5G"] {
            let message = size(wrong).unwrap_err().to_string();
            assert!(message.starts_with(&format!("`--split {wrong}` is not a size; give a number")), "{message}");
        }
    }

    #[test]
    fn the_backend_is_asked_for() {
        assert!(parse(&[]).unwrap_err().to_string().contains("`cargo xtask bundle --backend cuda`"));
        assert!(parse(&["--backend", "rocm"]).unwrap_err().to_string().contains("unknown backend `rocm`"));
    }
}
