//! Programs and libraries for another machine: the absolute paths in their dynamic section become relative ones.
//!
//! Here a program names MLX's libraries by absolute path, because that is what they call themselves (their SONAME), and so
//! it starts without an environment variable. The dynamic loader replaces `$ORIGIN` by the folder of the file that asks, in such
//! names as in run paths; and a shorter name fits where the longer one stood. So no tool and no second linking is needed.
//!
//! The format: System V ABI, "Object Files" (ELF headers) and "Program Loading and Dynamic Linking".

use crate::error::{Error, Result};

const MAGIC: &[u8] = b"\x7fELF";
/// Class and byte order of x86-64 and aarch64: 64 bits, the smallest byte first.
const CLASS_AND_ORDER: [u8; 2] = [2, 1];
const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const DT_NULL: u64 = 0;
const DT_STRTAB: u64 = 5;

/// Entries of the dynamic section that hold a name or a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A library that is loaded too.
    Needed,
    /// What this library is called.
    Soname,
    /// Folders in which libraries are looked for, separated by `:`.
    RunPath,
}

impl Entry {
    fn of(tag: u64) -> Option<Self> {
        match tag {
            1 => Some(Self::Needed),
            14 => Some(Self::Soname),
            15 | 29 => Some(Self::RunPath),
            _ => None,
        }
    }
}

/// The libraries that a file names by absolute path.
///
/// # Errors
/// This is no 64-bit ELF file, or it is damaged.
pub fn absolute_libraries(file: &[u8]) -> Result<Vec<String>> {
    let names = dynamic_texts(file)?.into_iter();
    let needed = names.filter(|text| text.entry == Entry::Needed && text.value.starts_with('/'));
    Ok(needed.map(|text| text.value).collect())
}

/// The file names of all libraries that a file asks for.
///
/// # Errors
/// As [`absolute_libraries`].
pub fn needed_names(file: &[u8]) -> Result<Vec<String>> {
    let names = dynamic_texts(file)?.into_iter().filter(|text| text.entry == Entry::Needed);
    Ok(names.map(|text| text.value.rsplit('/').next().unwrap_or_default().to_owned()).collect())
}

/// Whether a file that begins so is an ELF file.
pub fn is_elf(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// Writes what `new_text` gives for an entry in the place of its text, or leaves it.
///
/// The new text ends where the old one ended: linkers let a string share its tail with another one, and so the
/// shared file name stays where it is.
///
/// # Errors
/// As [`absolute_libraries`], and when a new text is longer than the old one.
pub fn rewrite(file: &mut [u8], new_text: impl Fn(Entry, &str) -> Option<String>) -> Result<()> {
    for old in dynamic_texts(file)? {
        let Some(new) = new_text(old.entry, &old.value) else { continue };
        let Some(shift) = old.value.len().checked_sub(new.len()) else {
            return Err(Error::new(format!("`{new}` does not fit into the place of `{}`", old.value)));
        };
        let start = old.offset + shift;
        file[old.offset..start].fill(0);
        file[start..start + new.len()].copy_from_slice(new.as_bytes());
        let moved = read(file, old.value_at, 8)? + shift as u64;
        file[old.value_at..old.value_at + 8].copy_from_slice(&moved.to_le_bytes());
    }
    Ok(())
}

struct DynamicText {
    entry: Entry,
    value: String,
    /// Of the text, in the file.
    offset: usize,
    /// Of the number that says where in the string table the text is.
    value_at: usize,
}

fn dynamic_texts(file: &[u8]) -> Result<Vec<DynamicText>> {
    if file.get(..4) != Some(MAGIC) || file.get(4..6) != Some(&CLASS_AND_ORDER) {
        return Err(Error::new("this is no ELF file of a 64-bit Linux"));
    }
    let segments = segments(file)?;
    // A static program has no dynamic section and names nothing.
    let Some(dynamic) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) else { return Ok(Vec::new()) };
    let mut entries = Vec::new();
    for at in (dynamic.offset..dynamic.offset.saturating_add(dynamic.len)).step_by(16) {
        match read(file, at, 8)? {
            DT_NULL => break,
            tag => entries.push((tag, at + 8)),
        }
    }
    let Some(&(_, table_at)) = entries.iter().find(|(tag, _)| *tag == DT_STRTAB) else { return Err(damaged()) };
    let table = file_offset(&segments, read(file, table_at, 8)?)?;
    let mut texts = Vec::new();
    for (tag, value_at) in entries {
        let Some(entry) = Entry::of(tag) else { continue };
        let offset = usize::try_from(read(file, value_at, 8)?).ok().and_then(|index| table.checked_add(index));
        let offset = offset.ok_or_else(damaged)?;
        let rest = file.get(offset..).ok_or_else(damaged)?;
        let len = rest.iter().position(|byte| *byte == 0).ok_or_else(damaged)?;
        let value = String::from_utf8(rest[..len].to_vec()).map_err(|_| damaged())?;
        texts.push(DynamicText { entry, value, offset, value_at });
    }
    Ok(texts)
}

struct Segment {
    kind: u64,
    offset: usize,
    address: u64,
    len: usize,
}

/// The program headers.
fn segments(file: &[u8]) -> Result<Vec<Segment>> {
    let number = |at: usize, n_bytes: usize| read(file, at, n_bytes);
    let index = |at: usize, n_bytes: usize| number(at, n_bytes).and_then(|n| usize::try_from(n).map_err(|_| damaged()));
    let (first, size, count) = (index(32, 8)?, index(54, 2)?, index(56, 2)?);
    (0..count)
        .map(|segment| {
            let at = segment.checked_mul(size).and_then(|offset| first.checked_add(offset)).ok_or_else(damaged)?;
            Ok(Segment {
                kind: number(at, 4)?,
                offset: index(at + 8, 8)?,
                address: number(at + 16, 8)?,
                len: index(at + 32, 8)?,
            })
        })
        .collect()
}

/// Where in the file that lies which is loaded to `address`.
fn file_offset(segments: &[Segment], address: u64) -> Result<usize> {
    let loaded = segments.iter().filter(|segment| segment.kind == PT_LOAD);
    let mut offsets = loaded.filter_map(|segment| {
        let inside = usize::try_from(address.checked_sub(segment.address)?).ok()?;
        (inside < segment.len).then(|| segment.offset.checked_add(inside)).flatten()
    });
    offsets.next().ok_or_else(damaged)
}

/// An unsigned number of `n_bytes` bytes.
fn read(file: &[u8], at: usize, n_bytes: usize) -> Result<u64> {
    let bytes = at.checked_add(n_bytes).and_then(|end| file.get(at..end)).ok_or_else(damaged)?;
    Ok(bytes.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

fn damaged() -> Error {
    Error::new("the ELF file is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "/home/somebody/.cache/lib/libx.so";

    /// A file with one loaded segment at address 0x1000, a dynamic section and a string table.
    fn elf(entries: &[(u64, &str)]) -> Vec<u8> {
        let mut strings = vec![0];
        let mut dynamic = Vec::new();
        for (tag, text) in entries {
            dynamic.push((*tag, strings.len() as u64));
            strings.extend(text.bytes().chain([0]));
        }
        let n_headers = 2;
        let dynamic_at = 64 + n_headers * 56;
        let strings_at = dynamic_at + 16 * (dynamic.len() + 2);
        dynamic.extend([(DT_STRTAB, 0x1000 + strings_at as u64), (DT_NULL, 0)]);
        let total = strings_at + strings.len();

        let mut file = vec![0; 64];
        file[..4].copy_from_slice(MAGIC);
        file[4..6].copy_from_slice(&CLASS_AND_ORDER);
        file[32] = 64;
        file[54] = 56;
        file[56] = n_headers as u8;
        for (kind, offset, len) in [(PT_LOAD, 0, total), (PT_DYNAMIC, dynamic_at, 16 * dynamic.len())] {
            for number in [kind, offset as u64, 0x1000 + offset as u64, 0, len as u64, len as u64, 0] {
                file.extend(number.to_le_bytes());
            }
        }
        for (tag, value) in dynamic {
            file.extend(tag.to_le_bytes().into_iter().chain(value.to_le_bytes()));
        }
        file.extend(strings);
        file
    }

    #[test]
    fn absolute_names_become_relative_and_others_stay() {
        let mut file = elf(&[(1, "libc.so.6"), (1, OLD), (14, "/home/y/liby.so"), (29, "/opt/lib")]);
        let len = file.len();
        assert_eq!(absolute_libraries(&file).unwrap(), [OLD]);
        rewrite(&mut file, |entry, old| match entry {
            Entry::Needed if old.starts_with('/') => Some("$ORIGIN/../lib/libx.so".to_owned()),
            Entry::Soname => Some("liby.so".to_owned()),
            _ => None,
        })
        .unwrap();
        let texts: Vec<_> = dynamic_texts(&file).unwrap().into_iter().map(|text| (text.entry, text.value)).collect();
        let expected = [
            (Entry::Needed, "libc.so.6"),
            (Entry::Needed, "$ORIGIN/../lib/libx.so"),
            (Entry::Soname, "liby.so"),
            (Entry::RunPath, "/opt/lib"),
        ];
        assert_eq!(texts, expected.map(|(entry, text)| (entry, text.to_owned())));
        assert_eq!(file.len(), len);
        assert!(absolute_libraries(&file).unwrap().is_empty());
        assert_eq!(needed_names(&file).unwrap(), ["libc.so.6", "libx.so"]);
        assert!(!String::from_utf8_lossy(&file).contains("somebody"));
    }

    #[test]
    fn a_longer_name_is_refused_and_a_broken_file_too() {
        let mut file = elf(&[(1, OLD)]);
        let message = rewrite(&mut file, |_, old| Some(format!("{old}x"))).unwrap_err().to_string();
        assert!(message.contains("does not fit"), "{message}");
        assert_eq!(
            absolute_libraries(b"#!/bin/sh\n").unwrap_err().to_string(),
            "this is no ELF file of a 64-bit Linux"
        );
        for len in 6..file.len() {
            // No length may panic; without its end the last name is damaged.
            let _ = absolute_libraries(&file[..len]);
        }
        assert_eq!(absolute_libraries(&file[..file.len() - 1]).unwrap_err().to_string(), "the ELF file is damaged");
    }

    #[test]
    fn this_very_program_can_be_read() {
        if cfg!(target_os = "linux") {
            let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
            let texts = dynamic_texts(&program).unwrap();
            assert!(texts.iter().any(|text| text.entry == Entry::Needed && text.value.starts_with("libc.so")));
        }
    }
}
