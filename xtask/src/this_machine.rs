//! What this machine compiles of a crate: a kernel for another processor is neither to be written here nor to be compared.

use std::env::consts;
use std::path::{Path, PathBuf};

use crate::region_pairs::Files;

/// Whether `file`, a path such as `src/kernel/neon/matvec.rs`, is compiled here, judged by the `#[cfg]` at the
/// declarations of the modules that it lies in. What cannot be judged is compiled.
pub fn compiles_here(files: &Files, file: &Path) -> bool {
    let Ok(inside) = file.strip_prefix("src") else { return true };
    let mut folder = PathBuf::from("src");
    for part in inside.with_extension("").iter() {
        let Some(name) = part.to_str() else { return true };
        // `src/a/b.rs` is declared in `src/a.rs` or in `src/a/mod.rs`, and `src/a.rs` in `src/lib.rs`.
        let parents = [folder.with_extension("rs"), folder.join("mod.rs"), folder.join("lib.rs")];
        let declared = parents.iter().filter_map(|parent| files.get(parent)).find_map(|text| conditions(text, name));
        if declared.is_some_and(|conditions| conditions.iter().any(|condition| !holds(condition))) {
            return false;
        }
        folder.push(name);
    }
    true
}

/// The conditions at `mod name;` in `text`; `None` if it isn't declared there.
fn conditions(text: &str, name: &str) -> Option<Vec<String>> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let declares = |line: &str| {
        let rest = line.strip_suffix(';').and_then(|line| line.strip_suffix(name));
        rest.is_some_and(|rest| rest == "mod " || (rest.starts_with("pub") && rest.ends_with(" mod ")))
    };
    let index = lines.iter().position(|line| declares(line))?;
    let above = lines[..index].iter().rev().take_while(|line| line.starts_with("#["));
    Some(above.filter_map(|line| line.strip_prefix("#[cfg(")?.strip_suffix(")]")).map(str::to_owned).collect())
}

fn holds(condition: &str) -> bool {
    let is = |key: &str, value: &str| match condition.strip_prefix(key).map(|rest| rest.trim_start_matches([' ', '=']))
    {
        Some(wanted) if condition.contains('=') => Some(wanted.trim_matches('"') == value),
        _ => None,
    };
    is("target_arch", consts::ARCH).or(is("target_os", consts::OS)).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_another_processor_are_not_compiled() {
        let foreign = if consts::ARCH == "aarch64" { "x86_64" } else { "aarch64" };
        let modules = format!(
            "#[cfg(target_arch = \"{foreign}\")]\nmod other;\n#[cfg(target_arch = \"{}\")]\npub mod own;\n\
             #[cfg(any(unix, windows))]\npub(crate) mod unknown;\nmod plain;\n",
            consts::ARCH
        );
        let files = [("src/lib.rs", "pub mod kernel;\n"), ("src/kernel/mod.rs", modules.as_str())];
        let files = Files::from(files.map(|(file, text)| (PathBuf::from(file), text.to_owned())));
        let compiles = |file: &str| compiles_here(&files, Path::new(file));
        assert!(!compiles("src/kernel/other.rs") && !compiles("src/kernel/other/matvec.rs"));
        for file in
            ["src/lib.rs", "src/kernel/mod.rs", "src/kernel/own/mod.rs", "src/kernel/unknown.rs", "src/kernel/plain.rs"]
        {
            assert!(compiles(file), "{file}");
        }
        assert!(compiles("src/kernels/a.metal") && compiles("src/nowhere/declared.rs"));
    }
}
