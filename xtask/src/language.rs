//! The two languages of a crate's sources: Rust, and the Metal of GPU kernels. Markers look the same in both.

use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    Rust,
    Metal,
}

impl Language {
    /// By the name's ending; `None` for files that are no source.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "rs" => Some(Self::Rust),
            "metal" => Some(Self::Metal),
            _ => None,
        }
    }

    /// Names of the functions, types and constants that these lines define.
    pub fn defined_names<S: AsRef<str>>(self, lines: &[S]) -> Vec<String> {
        match self {
            Self::Rust => {
                const KEYWORDS: [&str; 7] = ["fn", "struct", "enum", "const", "static", "trait", "type"];
                let words = words(lines);
                let named = words.windows(2).filter(|pair| KEYWORDS.contains(&pair[0].as_str()));
                named.map(|pair| pair[1].clone()).collect()
            }
            // A kernel's helper functions are inline, with the name on the same line.
            Self::Metal => lines
                .iter()
                .filter_map(|line| line.as_ref().split_once('('))
                .filter(|(head, _)| words(&[head]).iter().any(|word| word == "inline"))
                .filter_map(|(head, _)| words(&[head]).pop())
                .collect(),
        }
    }

    /// Whether `text` defines a function called `name`.
    pub fn defines_function(self, text: &str, name: &str) -> bool {
        match self {
            Self::Rust => text.contains(&format!("fn {name}(")) || text.contains(&format!("fn {name}<")),
            Self::Metal => {
                let lines: Vec<&str> = text.lines().collect();
                self.defined_names(&lines).iter().any(|defined| defined == name)
            }
        }
    }
}

/// The words of code, without those in line comments.
pub fn words<S: AsRef<str>>(lines: &[S]) -> Vec<String> {
    let code = lines.iter().map(|line| line.as_ref().split("//").next().unwrap_or_default());
    code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_language_is_its_ending() {
        assert_eq!(Language::of(Path::new("src/a.rs")), Some(Language::Rust));
        assert_eq!(Language::of(Path::new("src/kernels/a.metal")), Some(Language::Metal));
        assert_eq!(Language::of(Path::new("src/a.md")), None);
    }

    #[test]
    fn both_languages_name_what_they_define() {
        let rust = ["const N: u32 = 1; // fn no(", "fn tool<T>(x: T) {", "struct Pair;"];
        assert_eq!(Language::Rust.defined_names(&rust), ["N", "tool", "Pair"]);
        let metal = ["template <int N>", "inline float unpack(uint word) {", "    return other(word); // inline x("];
        assert_eq!(Language::Metal.defined_names(&metal), ["unpack"]);
        assert!(Language::Metal.defines_function(&metal.join("\n"), "unpack"));
        assert!(!Language::Metal.defines_function(&metal.join("\n"), "other"));
    }
}
