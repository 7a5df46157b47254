//! Reading a command's arguments against a short description of what it takes.

use std::collections::{BTreeMap, BTreeSet};

use lexopt::Arg;

use crate::error::{Error, Result};

/// What a command takes, besides `--help`.
#[derive(Debug, Clone, Copy)]
pub struct Accepts {
    pub command: &'static str,
    pub max_positionals: usize,
    /// Options without a value.
    pub flags: &'static [&'static str],
    /// Options with a value.
    pub values: &'static [&'static str],
}

#[derive(Debug, Default)]
pub struct Arguments {
    pub positionals: Vec<String>,
    flags: BTreeSet<String>,
    /// In the order of the command line: an option may be given more than once.
    values: BTreeMap<String, Vec<String>>,
    pub wants_help: bool,
}

impl Arguments {
    pub fn parse(accepts: &Accepts, arguments: &[String]) -> Result<Self> {
        let command = accepts.command;
        let see = |error: Error| error.remedy(format!("see `cargo xtask {command} --help`"));
        let mut parsed = Self::default();
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next().map_err(|e| see(Error::new(e.to_string())))? {
            match argument {
                Arg::Short('h') | Arg::Long("help") => parsed.wants_help = true,
                Arg::Long(name) if accepts.flags.contains(&name) => {
                    parsed.flags.insert(name.to_owned());
                }
                Arg::Long(name) if accepts.values.contains(&name) => {
                    let name = name.to_owned();
                    let value = parser.value().map_err(|e| see(Error::new(e.to_string())))?;
                    parsed.values.entry(name).or_default().push(value.to_string_lossy().into_owned());
                }
                Arg::Value(value) if parsed.positionals.len() < accepts.max_positionals => {
                    parsed.positionals.push(value.to_string_lossy().into_owned());
                }
                Arg::Value(value) => {
                    let value = value.to_string_lossy();
                    return Err(see(Error::new(format!("`{command}` does not know what to do with `{value}`"))));
                }
                Arg::Long(name) => {
                    return Err(see(Error::new(format!("`{command}` has no option `--{name}`"))));
                }
                Arg::Short(letter) => {
                    return Err(see(Error::new(format!("`{command}` has no option `-{letter}`"))));
                }
            }
        }
        Ok(parsed)
    }

    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains(flag)
    }

    /// The value of `name`; of several, the last.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.last().map(String::as_str)
    }

    /// All values of an option that may be repeated.
    pub fn all_values(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn positional(&self, index: usize) -> Option<&str> {
        self.positionals.get(index).map(String::as_str)
    }

    /// The value of `name` as one of `choices`.
    pub fn choice(&self, name: &str, choices: &[&str]) -> Result<Option<&str>> {
        match self.value(name) {
            Some(value) if !choices.contains(&value) => Err(Error::new(format!("`--{name} {value}` is not known"))
                .remedy(format!("choose one of {}", choices.join(", ")))),
            value => Ok(value),
        }
    }

    /// The value of `name` as a whole number of seconds, at least 1.
    pub fn seconds(&self, name: &str) -> Result<Option<std::time::Duration>> {
        self.value(name)
            .map(|text| match text.parse::<u64>() {
                Ok(seconds) if seconds > 0 => Ok(std::time::Duration::from_secs(seconds)),
                _ => Err(Error::new(format!("`--{name} {text}` is not a number of seconds"))
                    .remedy("give a whole number, at least 1")),
            })
            .transpose()
    }
}

/// The candidate that `word` is most likely a slip of the fingers for.
pub fn did_you_mean<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    candidates
        .iter()
        .map(|candidate| (edit_distance(word, candidate), *candidate))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPTS: Accepts = Accepts { command: "check", max_positionals: 1, flags: &["json"], values: &["solution"] };

    fn parse(arguments: &[&str]) -> Result<Arguments> {
        let owned: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        Arguments::parse(&ACCEPTS, &owned)
    }

    #[test]
    fn options_may_stand_anywhere() {
        let parsed = parse(&["--json", "1.1", "--solution=both"]).unwrap();
        assert!(parsed.has("json"));
        assert_eq!(parsed.positional(0), Some("1.1"));
        assert_eq!(parsed.value("solution"), Some("both"));
        assert_eq!(parsed.choice("solution", &["both"]).unwrap(), Some("both"));
    }

    #[test]
    fn an_option_may_be_repeated() {
        let parsed = parse(&["--solution", "a", "--solution=b"]).unwrap();
        assert_eq!(parsed.value("solution"), Some("b"));
        assert_eq!(parsed.all_values("solution"), ["a", "b"]);
        assert!(parsed.all_values("json").is_empty());
    }

    #[test]
    fn mistakes_are_named_and_point_at_the_help() {
        let message = |arguments: &[&str]| parse(arguments).unwrap_err().to_string();
        assert_eq!(message(&["--jsn"]), "`check` has no option `--jsn`; see `cargo xtask check --help`");
        assert!(message(&["1.1", "1.2"]).starts_with("`check` does not know what to do with `1.2`"));
        assert!(message(&["--solution"]).contains("missing argument"));
        let parsed = parse(&["--solution", "mine"]).unwrap();
        let error = parsed.choice("solution", &["student", "both"]).unwrap_err().to_string();
        assert_eq!(error, "`--solution mine` is not known; choose one of student, both");
    }

    #[test]
    fn a_slip_of_the_fingers_is_recognised() {
        let commands = ["check", "chat", "hint"];
        assert_eq!(did_you_mean("chekc", &commands), Some("check"));
        assert_eq!(did_you_mean("hnt", &commands), Some("hint"));
        assert_eq!(did_you_mean("deploy", &commands), None);
    }
}
