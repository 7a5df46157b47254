//! The order of a chapter's tests in their file. libtest runs them by name; readers want the author's order, in which
//! a function's own tests stand before those of what uses it.

use std::fs;
use std::path::Path;

use crate::libtest::TestOutcome;

/// Names of functions and modules, in the order of the file; a module's own tests stand in the place of its `mod`.
#[derive(Debug, Default)]
pub struct TestOrder(Vec<String>);

impl TestOrder {
    /// Reads the file and the modules that it names. A file that cannot be read leaves libtest's order.
    pub fn read(file: &Path) -> Self {
        let mut names = Vec::new();
        collect(file, &mut names);
        Self(names)
    }

    /// Brings tests into this order; those of one function keep theirs.
    pub fn sort(&self, tests: &mut [TestOutcome]) {
        tests.sort_by_key(|test| self.place(&test.name));
    }

    fn place(&self, test: &str) -> usize {
        let place = |part: &str| self.0.iter().position(|name| name == part);
        // `module::function::case_1`: the function is in the list wherever its module is.
        test.split("::").filter_map(place).max().unwrap_or(self.0.len())
    }
}

fn collect(file: &Path, names: &mut Vec<String>) {
    let Ok(text) = fs::read_to_string(file) else { return };
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut path = None;
    for line in text.lines().map(str::trim_start) {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        if let Some(quoted) = line.strip_prefix("#[path = \"") {
            path = quoted.split_once('"').map(|(path, _)| path.to_owned());
        } else if let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            let module = folder.join(path.take().unwrap_or_else(|| format!("{name}.rs")));
            // The same helper may be a module of several modules.
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
                collect(&module, names);
            }
        } else if let Some(rest) = line.strip_prefix("fn ") {
            let end = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
            names.push(rest[..end].to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libtest;

    #[test]
    fn tests_stand_as_in_their_files() {
        let folder = std::env::temp_dir().join(format!("test-order-{}", std::process::id()));
        fs::create_dir_all(folder.join("day")).unwrap();
        let main =
            "mod helpers;\n#[path = \"day/task_2.rs\"]\nmod task_2;\nfn task_1_whole() {\n}\nfn task_1_edge<T>() {}\n";
        fs::write(folder.join("day.rs"), main).unwrap();
        fs::write(folder.join("helpers.rs"), "pub fn helper() {}\n").unwrap();
        fs::write(folder.join("day/task_2.rs"), "#[test]\nfn task_2_row() {}\n#[test]\nfn task_2_all() {}\n").unwrap();
        let order = TestOrder::read(&folder.join("day.rs"));
        fs::remove_dir_all(&folder).unwrap();

        let names =
            ["task_1_edge", "task_1_whole::a_1", "task_1_whole::b_2", "task_2::task_2_all", "task_2::task_2_row"];
        let lines: Vec<String> = names.iter().map(|name| format!("test {name} ... ok\n")).collect();
        let mut tests = libtest::parse(&lines.concat()).finished;
        order.sort(&mut tests);
        let sorted: Vec<&str> = tests.iter().map(|test| test.name.as_str()).collect();
        assert_eq!(sorted, [names[4], names[3], names[1], names[2], names[0]]);
    }
}
