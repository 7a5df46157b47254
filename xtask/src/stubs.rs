//! The learner's crate, generated from the reference: marked bodies become `todo!`, everything
//! else is copied.

use std::path::{Path, PathBuf};

use crate::chapters::Course;
use crate::error::{Error, Result};
use crate::language::Language;
use crate::regions::{self, Kind, Region};
use crate::workspace::{Workspace, files_below, read_text};

/// A generated file, its path relative to the crate's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StubFile {
    pub path: PathBuf,
    pub text: String,
}

/// Replaces the first paragraph of the reference's own crate documentation.
const LIB_DOCS: &str = "\
//! tiny-llm: the crate that you write in this course.
//!
//! Every `todo!(..)` names the day, the task and the page of the book that tells you what belongs
//! there. Write between the two comments around it and leave those where they are: they are how
//! `cargo xtask hint`, `diff`, `solve` and `reset` find your code. Everything else is given, and
//! may be changed; add helper functions and files as you like.
//!
//! `cargo xtask check 1.1` grades a day, `cargo xtask check 1.1.2` one task of it.
";

const LIB_ATTRIBUTES: &str = "\
// Half-written code should compile quietly. Remove this line when you are done.
#![allow(dead_code, unreachable_code, unused_imports, unused_mut, unused_variables)]
";

const MANIFEST_HEADER: &str = "\
# Your crate. It may depend on what is listed here and on nothing else: the course is about
# building these parts, so other libraries are for your tests ([dev-dependencies]) only.
";

/// As in rustfmt.toml.
const MAX_WIDTH: usize = 120;

/// All files of the learner's crate as they are before anything is solved.
pub fn generate(workspace: &Workspace, course: &Course) -> Result<Vec<StubFile>> {
    let reference = workspace.reference();
    let mut files = vec![StubFile {
        path: PathBuf::from("Cargo.toml"),
        text: manifest(&read_text(&reference.join("Cargo.toml"))?)?,
    }];
    for path in files_below(&reference.join("src"))? {
        let named = |e: Error| Error::new(format!("{}: {e}", workspace.display(&path)));
        let relative = path.strip_prefix(&reference).unwrap_or(&path).to_owned();
        let language = Language::of(&path).ok_or_else(|| {
            Error::new(format!("{} is neither Rust nor Metal", workspace.display(&path)))
                .remedy("move it out of the sources: only .rs and .metal files make the learner's crate")
        })?;
        let mut text = stub(&read_text(&path)?, language, course).map_err(named)?;
        if relative == Path::new("src/lib.rs") {
            text = with_header(&text);
        }
        files.push(StubFile { path: relative, text });
    }
    Ok(files)
}

/// One file's stub.
pub fn stub(source: &str, language: Language, course: &Course) -> Result<String> {
    let regions = regions::parse(source)?;
    let lines: Vec<&str> = source.lines().collect();
    let mut output: Vec<String> = Vec::new();
    let mut next = 0;
    for region in &regions {
        output.extend(lines[next..region.start].iter().map(|line| (*line).to_owned()));
        next = region.end + 1;
        if region.kind == Kind::ReferenceOnly {
            drop_blank_tail(&mut output, lines.get(next).is_none_or(|line| line.trim().is_empty()));
            continue;
        }
        output.push(lines[region.start].to_owned());
        output.extend(placeholder(region, &lines, language, course)?);
        output.push(lines[region.end].to_owned());
    }
    output.extend(lines[next..].iter().map(|line| (*line).to_owned()));
    while output.last().is_some_and(|line| line.is_empty()) {
        output.pop();
    }
    let mut text = output.join("\n");
    text.push('\n');
    Ok(text)
}

/// Where a dropped region stood between two blank lines, one of them goes as well.
fn drop_blank_tail(output: &mut Vec<String>, blank_follows: bool) {
    if blank_follows && output.last().is_some_and(|line| line.trim().is_empty()) {
        output.pop();
    }
}

/// What the stub has between the region's markers.
///
/// In Metal it is the same `todo!`, which no compiler ever sees: whoever launches a kernel looks for it first and
/// returns its text as an error.
pub fn placeholder(region: &Region, lines: &[&str], language: Language, course: &Course) -> Result<Vec<String>> {
    let Some((chapter, task)) = course.task(&region.task) else {
        return Err(Error::new(format!(
            "line {}: `{}` names a task that tests/chapters.toml does not have",
            region.start + 1,
            region.marker()
        )));
    };
    if region.kind != Kind::Body {
        return Ok(Vec::new());
    }
    let numbers: Vec<&str> = task.id.split('.').collect();
    let [week, day, number] = numbers[..] else {
        return Err(Error::new(format!("`{}` is not a task id such as 1.1.2", task.id)));
    };
    let message = format!("week {week} day {day} task {number}: {} - see book/src/{}", region.name, chapter.book);
    let marker = lines[region.start];
    let indent = &marker[..marker.len() - marker.trim_start().len()];
    if language == Language::Metal {
        return Ok(vec![format!("{indent}todo!(\"{message}\");")]);
    }
    // As the last expression it takes the type that is asked for; before other code it is a statement.
    let is_last = lines[region.end + 1..]
        .iter()
        .find(|line| !line.trim().is_empty())
        .is_none_or(|line| line.trim_start().starts_with(['}', ')']));
    let semicolon = if is_last { "" } else { ";" };
    let one_line = format!("{indent}todo!(\"{message}\"){semicolon}");
    if one_line.chars().count() <= MAX_WIDTH {
        return Ok(vec![one_line]);
    }
    // As rustfmt breaks it.
    Ok(vec![format!("{indent}todo!("), format!("{indent}    \"{message}\""), format!("{indent}){semicolon}")])
}

/// Puts the learner's header where the first paragraph of the reference's crate documentation
/// was, and keeps the rest of it: the list of modules is useful in both.
fn with_header(text: &str) -> String {
    let first_paragraph = |line: &&str| line.starts_with("//! ");
    let rest: Vec<&str> = text.lines().skip_while(first_paragraph).collect();
    let n_docs = rest.iter().take_while(|line| line.starts_with("//!")).count();
    let docs: String = rest[..n_docs].iter().map(|line| format!("{line}\n")).collect();
    format!("{LIB_DOCS}{docs}\n{LIB_ATTRIBUTES}{}\n", rest[n_docs..].join("\n"))
}

/// The reference's manifest with the learner's name, one folder deeper.
pub fn manifest(reference: &str) -> Result<String> {
    if !reference.contains("name = \"tiny-llm-reference\"") {
        return Err(Error::new("reference/Cargo.toml: the package is not called tiny-llm-reference"));
    }
    let mut text = String::from(MANIFEST_HEADER);
    for line in reference.lines() {
        if line.starts_with("description = ") {
            text.push_str("description = \"The learner's language-model engine, written day by day\"");
        } else {
            let line = line.replace("\"tiny-llm-reference\"", "\"tiny-llm\"");
            let line = line.replace("\"tiny_llm_reference\"", "\"tiny_llm\"");
            text.push_str(&line.replace("path = \"../", "path = \"../../"));
        }
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course() -> Course {
        Course::parse(
            "[[chapter]]\nid = \"1.1\"\ntitle = \"A\"\ntest = \"week1_day1\"\nbook = \"week1/day1.md\"\n\
             [[chapter.task]]\nid = \"1.1.1\"\ntitle = \"one\"\ntests = \"task_1_\"\nanchor = \"task-1-one\"\n",
        )
        .unwrap()
    }

    #[test]
    fn bodies_become_todo_and_helpers_vanish() {
        let source = "/// Doc.\nfn one() -> u32 {\n    // [task 1.1.1] one\n    helper()\n    // [end]\n}\n\n\
            // [task 1.1.1 helpers] helper\nfn helper() -> u32 {\n    1\n}\n// [end]\n\n\
            // [reference only] tests\n#[cfg(test)]\nmod tests {}\n// [end]\n";
        assert_eq!(
            stub(source, Language::Rust, &course()).unwrap(),
            "/// Doc.\nfn one() -> u32 {\n    // [task 1.1.1] one\n    \
             todo!(\"week 1 day 1 task 1: one - see book/src/week1/day1.md\")\n    // [end]\n}\n\n\
             // [task 1.1.1 helpers] helper\n// [end]\n"
        );
    }

    #[test]
    fn code_after_a_region_makes_the_todo_a_statement() {
        let source = "fn one() {\n    // [task 1.1.1] one\n    a();\n    // [end]\n    given();\n}\n";
        assert!(stub(source, Language::Rust, &course()).unwrap().contains("day1.md\");\n    // [end]\n    given();"));
    }

    #[test]
    fn a_long_todo_is_broken_as_rustfmt_does() {
        let name = "a name that is really long enough to pass the hundred and twentieth column of the line";
        let source = format!("fn f() {{\n    // [task 1.1.1] {name}\n    // [end]\n}}\n");
        let text = stub(&source, Language::Rust, &course()).unwrap();
        assert!(text.contains("    todo!(\n        \"week 1 day 1 task 1: a name"), "{text}");
    }

    #[test]
    fn a_kernels_todo_is_one_statement_on_one_line() {
        let name = "a name that is really long enough to pass the hundred and twentieth column of the line";
        let source = format!("inline float f() {{\n    // [task 1.1.1] {name}\n    return 1;\n    // [end]\n}}\n");
        assert_eq!(
            stub(&source, Language::Metal, &course()).unwrap(),
            format!(
                "inline float f() {{\n    // [task 1.1.1] {name}\n    \
                 todo!(\"week 1 day 1 task 1: {name} - see book/src/week1/day1.md\");\n    // [end]\n}}\n"
            )
        );
    }

    #[test]
    fn a_region_of_an_unknown_task_is_refused() {
        let error = stub("// [task 1.9.1] x\n// [end]\n", Language::Rust, &course()).unwrap_err().to_string();
        assert!(error.contains("line 1: `// [task 1.9.1] x` names a task"), "{error}");
    }

    #[test]
    fn the_manifest_is_renamed_and_its_paths_go_one_folder_deeper() {
        let reference = "[package]\nname = \"tiny-llm-reference\"\ndescription = \"Solutions\"\n\n\
            [dependencies]\nx = { path = \"../crates/x\" }\ny.workspace = true\n";
        let text = manifest(reference).unwrap();
        assert!(text.contains("name = \"tiny-llm\"\n"));
        assert!(text.contains("x = { path = \"../../crates/x\" }\ny.workspace = true\n"));
        assert!(!text.contains("Solutions"));
        assert!(manifest("[package]\nname = \"other\"\n").is_err());
    }

    #[test]
    fn the_crates_documentation_is_replaced() {
        let text = with_header("//! Model answers\n//! in Rust.\n//!\n//! Modules.\n\npub mod a;\n");
        assert!(text.starts_with("//! tiny-llm: the crate that you write"));
        assert!(text.contains("one task of it.\n//!\n//! Modules.\n\n// Half-written"), "{text}");
        assert!(text.ends_with("unused_variables)]\n\npub mod a;\n"));
        assert!(!text.contains("Model answers"));
    }
}
