//! Writing what a user named as output.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo, TensorView};

use crate::error::{Error, Result};

/// The header's length is a multiple of this, so that the data behind it is aligned.
const HEADER_ALIGNMENT: usize = 8;

/// Writes a `.safetensors` file of these tensors, in the order in which loaders like them: the widest elements first, then
/// by name.
///
/// What is there already is written through: a link's target, a pipe, a device; an existing file keeps its permissions, and a
/// new one gets those that the umask leaves. (A temporary file that is renamed, as the `safetensors` crate makes it, replaces
/// whatever has the name.) A file that this call made and could not complete is removed.
///
/// # Errors
/// If the file cannot be written, or if tensors have the same name.
pub fn write_safetensors(file: &Path, tensors: &[(&str, TensorView<'_>)], metadata: &[(&str, &str)]) -> Result<()> {
    let mut tensors: Vec<_> = tensors.iter().collect();
    tensors.sort_by(|(name, left), (other, right)| right.dtype().cmp(&left.dtype()).then(name.cmp(other)));
    let header = header(&tensors, metadata).map_err(|problem| Error::malformed(file, problem))?;
    write(file, |output| {
        output.write_all(&(header.len() as u64).to_le_bytes())?;
        output.write_all(&header)?;
        tensors.iter().try_for_each(|(_, tensor)| output.write_all(tensor.data()))
    })
}

/// Writes a file through what is there; see [`write_safetensors`].
///
/// # Errors
/// If the file cannot be written.
pub fn write(file: &Path, contents: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let (output, is_new) = open(file).map_err(|cause| Error::io(file, cause))?;
    let mut output = BufWriter::with_capacity(1 << 20, output);
    let written = contents(&mut output).and_then(|()| output.flush());
    written.map_err(|cause| {
        // Nobody else's: only what this call made.
        if is_new {
            let _ = std::fs::remove_file(file);
        }
        Error::io(file, cause)
    })
}

/// The file to write to, and whether there was none before.
fn open(file: &Path) -> io::Result<(File, bool)> {
    match File::create_new(file) {
        Ok(output) => Ok((output, true)),
        // A dangling link is one of these: its target is created.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok((File::create(file)?, false)),
        Err(error) => Err(error),
    }
}

fn header(tensors: &[&(&str, TensorView<'_>)], metadata: &[(&str, &str)]) -> Result<Vec<u8>, String> {
    let mut end = 0;
    let mut infos: Vec<(String, TensorInfo)> = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        if infos.iter().any(|(other, _)| other == name) {
            return Err(format!("two tensors are called `{name}`"));
        }
        let start = end;
        end += tensor.data().len();
        let info = TensorInfo { dtype: tensor.dtype(), shape: tensor.shape().to_vec(), data_offsets: (start, end) };
        infos.push(((*name).to_owned(), info));
    }
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let metadata = Metadata::new(Some(metadata), infos).map_err(|error| error.to_string())?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| error.to_string())?;
    header.resize(header.len().next_multiple_of(HEADER_ALIGNMENT), b' ');
    Ok(header)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use safetensors::{Dtype, SafeTensors};

    use super::*;

    const BYTES: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    fn write_two(file: &Path) -> Result<()> {
        let wide = TensorView::new(Dtype::F32, vec![1], &BYTES[..4]).unwrap();
        let narrow = TensorView::new(Dtype::F16, vec![2, 2], &BYTES).unwrap();
        write_safetensors(file, &[("narrow", narrow), ("wide", wide)], &[("format", "mlx")])
    }

    fn mode(file: &Path) -> u32 {
        fs::metadata(file).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.safetensors");
        write_two(&file).unwrap();
        let bytes = fs::read(&file).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(tensors.names().len(), 2);
        assert_eq!(tensors.tensor("narrow").unwrap().data(), BYTES);
        assert_eq!(tensors.tensor("narrow").unwrap().shape(), [2, 2]);
        assert_eq!(tensors.tensor("wide").unwrap().data(), &BYTES[..4]);
        let (header_len, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "mlx");
        assert!(header_len.is_multiple_of(8));
        assert_eq!(metadata.offset_keys(), ["wide", "narrow"]);

        let same = TensorView::new(Dtype::F32, vec![1], &BYTES[..4]).unwrap();
        let twice = [("a", same.clone()), ("a", same)];
        assert!(write_safetensors(&file, &twice, &[]).unwrap_err().to_string().contains("two tensors are called `a`"));
    }

    #[test]
    fn what_is_there_is_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let [plain, expected, target, link, dangling, later] =
            ["plain", "expected", "target", "link", "dangling", "later"].map(|name| folder.path().join(name));
        write_two(&expected).unwrap();
        let expected_bytes = fs::read(&expected).unwrap();
        // A longer file of its own permissions, and a link to another.
        for file in [&plain, &target] {
            fs::write(file, vec![0; 10_000]).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o640)).unwrap();
        }
        symlink(&target, &link).unwrap();
        symlink(&later, &dangling).unwrap();
        for file in [&plain, &link, &dangling] {
            write_two(file).unwrap();
        }
        for file in [&plain, &target, &later] {
            assert_eq!(fs::read(file).unwrap(), expected_bytes, "{}", file.display());
        }
        assert_eq!((mode(&plain), mode(&target)), (0o640, 0o640));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        // As any other new file.
        let other = folder.path().join("other");
        fs::write(&other, "").unwrap();
        assert_eq!(mode(&expected), mode(&other));
        // A pipe stands for devices, which a test must not risk.
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write_two(&pipe).unwrap();
        assert_eq!(reader.join().unwrap(), expected_bytes);
        assert!(!fs::metadata(&pipe).unwrap().is_file());
    }

    #[test]
    fn half_a_file_goes_and_what_was_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("half");
        let half = |output: &mut dyn Write| output.write_all(b"half").and(Err(io::ErrorKind::StorageFull.into()));
        assert!(write(&file, half).is_err());
        assert!(!file.exists());
        fs::write(&file, "before").unwrap();
        assert!(write(&file, half).is_err());
        assert!(file.exists());
    }
}
