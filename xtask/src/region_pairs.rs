//! The reference's marked regions beside the learner's, and the learner's files with some of them
//! filled in. Works on texts, writes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::chapters::Course;
use crate::error::{Error, Result};
use crate::language::{Language, words};
use crate::regions::{self, Kind, Region};
use crate::stubs;
use crate::workspace::{Workspace, files_below, read_text};

/// A crate's files by their path inside it.
pub type Files = BTreeMap<PathBuf, String>;

/// A region as it is in the reference and in the learner's crate.
#[derive(Debug, Clone)]
pub struct Pair {
    pub file: PathBuf,
    /// In the reference's file.
    pub region: Region,
    /// In the learner's file.
    pub place: Region,
    pub reference: Vec<String>,
    pub stub: Vec<String>,
    pub learner: Vec<String>,
}

/// What to put into the learner's regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    Reference,
    Stub,
}

impl Pair {
    pub fn wanted(&self, fill: Fill) -> &[String] {
        match fill {
            Fill::Reference => &self.reference,
            Fill::Stub => &self.stub,
        }
    }
}

/// All `.rs` and `.metal` sources of a crate.
pub fn read_sources(workspace: &Workspace, crate_folder: &Path) -> Result<Files> {
    let mut files = Files::new();
    for path in files_below(&crate_folder.join("src"))? {
        let relative = path.strip_prefix(crate_folder).unwrap_or(&path).to_owned();
        if Language::of(&relative).is_some() {
            let text = read_text(&path).map_err(|e| Error::new(format!("{}: {e}", workspace.display(&path))))?;
            files.insert(relative, text);
        }
    }
    Ok(files)
}

/// The regions of the tasks `ids`, each found in both crates; the first that cannot be found is
/// an error.
pub fn of_tasks(course: &Course, reference: &Files, learner: &Files, ids: &[&str]) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for (file, region) in marked(reference)? {
        if ids.contains(&region.task.as_str()) {
            pairs.push(pair(course, reference, learner, &file, region)?);
        }
    }
    pairs.sort_by_key(|pair| ids.iter().position(|id| *id == pair.region.task));
    Ok(pairs)
}

/// Helper regions of other tasks that the reference's code in `pairs` calls, and that the learner
/// has left empty without defining such helpers elsewhere. Solving a task alone needs them.
///
/// Calls are told by their words alone, and a later day may have a helper of the same name; it stays unseen.
pub fn borrowed_helpers(course: &Course, reference: &Files, learner: &Files, pairs: &[Pair]) -> Result<Vec<Pair>> {
    // A word of a kernel names no Rust function, and the other way round.
    let words_of = |pair: &Pair| {
        let language = Language::of(&pair.file);
        words(&pair.reference).into_iter().map(move |word| (language, word))
    };
    let mut called: Vec<(Option<Language>, String)> = pairs.iter().flat_map(words_of).collect();
    let last_day = pairs.iter().filter_map(|pair| day(course, &pair.region.task)).max();
    let mut candidates: Vec<(PathBuf, Region)> = marked(reference)?
        .into_iter()
        .filter(|(_, region)| region.kind == Kind::Helpers)
        .filter(|(_, region)| pairs.iter().all(|pair| pair.region.marker() != region.marker()))
        .filter(|(_, region)| day(course, &region.task) <= last_day)
        .collect();
    let mut borrowed = Vec::new();
    // A borrowed helper may call another one: repeat until nothing new is called.
    loop {
        let position = candidates.iter().position(|(file, region)| {
            let language = Language::of(file);
            defined(reference, file, region).into_iter().any(|name| called.contains(&(language, name)))
        });
        let Some(position) = position else { return Ok(borrowed) };
        let (file, region) = candidates.remove(position);
        let names = defined(reference, &file, &region);
        let language = Language::of(&file);
        let pair = pair(course, reference, learner, &file, region)?;
        called.extend(words_of(&pair));
        let is_empty = pair.learner.iter().all(|line| line.trim().is_empty());
        let has_own = learner
            .get(&file)
            .zip(language)
            .is_some_and(|(text, language)| names.iter().any(|name| language.defines_function(text, name)));
        if is_empty && !has_own {
            borrowed.push(pair);
        }
    }
}

/// Which chapter of the course a task belongs to, counted from the first.
fn day(course: &Course, task: &str) -> Option<usize> {
    course.chapters.iter().position(|chapter| chapter.tasks.iter().any(|other| other.id == task))
}

/// The learner's files with the regions of `pairs` filled; only files that change.
pub fn fill(learner: &Files, pairs: &[Pair], fill: Fill) -> Files {
    let mut filled = Files::new();
    for (file, old) in learner {
        let mut here: Vec<&Pair> = pairs.iter().filter(|p| p.file == *file && p.learner != p.wanted(fill)).collect();
        if here.is_empty() {
            continue;
        }
        // From the last region to the first, so that earlier line numbers stay true.
        here.sort_by_key(|pair| std::cmp::Reverse(pair.place.start));
        let mut lines: Vec<&str> = old.lines().collect();
        for pair in here {
            let wanted = pair.wanted(fill).iter().map(String::as_str);
            lines.splice(pair.place.start + 1..pair.place.end, wanted);
        }
        // The file keeps its line endings.
        let newline = if old.contains("\r\n") { "\r\n" } else { "\n" };
        let mut text = lines.join(newline);
        if old.ends_with('\n') {
            text.push_str(newline);
        }
        filled.insert(file.clone(), text);
    }
    filled
}

/// Every region of the reference that a task owns.
fn marked(reference: &Files) -> Result<Vec<(PathBuf, Region)>> {
    let mut all = Vec::new();
    for (file, text) in reference {
        let regions = regions::parse(text).map_err(|e| Error::new(format!("reference/{}: {e}", file.display())))?;
        let owned = regions.into_iter().filter(|region| region.kind != Kind::ReferenceOnly);
        all.extend(owned.map(|region| (file.clone(), region)));
    }
    Ok(all)
}

fn pair(course: &Course, reference: &Files, learner: &Files, file: &Path, region: Region) -> Result<Pair> {
    let shown = format!("crates/tiny-llm/{}", file.display());
    let Some(text) = learner.get(file) else {
        return Err(
            Error::new(format!("{shown} is missing")).remedy(format!("bring it back with `git checkout -- {shown}`"))
        );
    };
    let lines: Vec<&str> = reference.get(file).map(|text| text.lines().collect()).unwrap_or_default();
    let context = region.start.checked_sub(1).and_then(|before| lines.get(before)).copied();
    let language = Language::of(file).unwrap_or(Language::Rust);
    let place = regions::locate(text, &region, context).map_err(|e| Error::new(format!("{shown}: {e}")))?;
    let owned = |lines: Vec<&str>| lines.into_iter().map(str::to_owned).collect();
    Ok(Pair {
        reference: owned(region.body(&lines)),
        stub: stubs::placeholder(&region, &lines, language, course)?,
        learner: owned(place.body(&text.lines().collect::<Vec<_>>())),
        file: file.to_owned(),
        region,
        place,
    })
}

/// Names of the functions, types and constants that a region of the reference defines.
fn defined(reference: &Files, file: &Path, region: &Region) -> Vec<String> {
    let lines: Vec<&str> = reference.get(file).map(|text| text.lines().collect()).unwrap_or_default();
    Language::of(file).map(|language| language.defined_names(&region.body(&lines))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = "\
fn one() -> u32 {
    // [task 1.1.1] one
    tool() + 1
    // [end]
}

fn two() -> u32 {
    // [task 1.1.2] two
    tool() + 2 // not other()
    // [end]
}

// [task 1.1.1 helpers] one
fn tool() -> u32 {
    base()
}
// [end]

// [task 1.1.2 helpers] other
fn other() {}
// [end]

// [task 1.1.3 helpers] base
fn base() -> u32 {
    7
}
// [end]
";

    const HEAD: &str = "[[chapter]]\nid = \"1.1\"\ntitle = \"A\"\ntest = \"t\"\nbook = \"d.md\"\n";

    fn task(id: &str) -> String {
        let number = id.rsplit('.').next().unwrap();
        format!("[[chapter.task]]\nid = \"{id}\"\ntitle = \"t\"\ntests = \"task_{number}_\"\nanchor = \"a\"\n")
    }

    fn course() -> Course {
        Course::parse(&format!("{HEAD}{}{}{}", task("1.1.1"), task("1.1.2"), task("1.1.3"))).unwrap()
    }

    fn files(text: &str) -> Files {
        Files::from([(PathBuf::from("src/a.rs"), text.to_owned())])
    }

    fn stub() -> String {
        stubs::stub(REFERENCE, Language::Rust, &course()).unwrap()
    }

    fn text_of(files: &Files) -> &str {
        &files[Path::new("src/a.rs")]
    }

    #[test]
    fn solving_everything_gives_the_reference_and_resetting_the_stub() {
        let (reference, learner) = (files(REFERENCE), files(&stub()));
        let all = ["1.1.1", "1.1.2", "1.1.3"];
        let pairs = of_tasks(&course(), &reference, &learner, &all).unwrap();
        let solved = fill(&learner, &pairs, Fill::Reference);
        assert_eq!(text_of(&solved), REFERENCE);
        let pairs = of_tasks(&course(), &reference, &solved, &all).unwrap();
        assert_eq!(text_of(&fill(&solved, &pairs, Fill::Stub)), stub());
    }

    #[test]
    fn a_learners_other_code_and_line_endings_stay() {
        let learner = files(&format!("// mine\n{}\nfn extra() {{}}\n", stub()).replace('\n', "\r\n"));
        let pairs = of_tasks(&course(), &files(REFERENCE), &learner, &["1.1.2"]).unwrap();
        let solved = fill(&learner, &pairs, Fill::Reference);
        let text = text_of(&solved);
        assert!(text.starts_with("// mine\r\n") && text.ends_with("fn extra() {}\r\n"));
        assert!(text.contains("    tool() + 2 // not other()\r\n    // [end]"));
        assert!(text.contains("todo!(\"week 1 day 1 task 1"));
    }

    #[test]
    fn a_task_solved_alone_brings_the_helpers_that_it_calls() {
        let (reference, learner) = (files(REFERENCE), files(&stub()));
        let pairs = of_tasks(&course(), &reference, &learner, &["1.1.2"]).unwrap();
        let borrowed = borrowed_helpers(&course(), &reference, &learner, &pairs).unwrap();
        let names: Vec<&str> = borrowed.iter().map(|pair| pair.region.name.as_str()).collect();
        assert_eq!(names, ["one", "base"]);
    }

    #[test]
    fn helpers_of_later_days_stay_unseen() {
        let text = format!("{REFERENCE}\n// [task 1.2.1 helpers] base\nfn base() -> u32 {{\n    8\n}}\n// [end]\n");
        let course = Course::parse(&format!(
            "{HEAD}{}{}{}[[chapter]]\nid = \"1.2\"\ntitle = \"B\"\ntest = \"u\"\nbook = \"e.md\"\n{}",
            task("1.1.1"),
            task("1.1.2"),
            task("1.1.3"),
            task("1.2.1")
        ));
        let course = course.unwrap();
        let (reference, learner) = (files(&text), files(&stubs::stub(&text, Language::Rust, &course).unwrap()));
        let pairs = of_tasks(&course, &reference, &learner, &["1.1.1", "1.1.2", "1.1.3"]).unwrap();
        let borrowed = borrowed_helpers(&course, &reference, &learner, &pairs).unwrap();
        assert!(borrowed.is_empty(), "{:?}", borrowed.iter().map(|pair| &pair.region.task).collect::<Vec<_>>());
    }

    #[test]
    fn a_helper_that_the_learner_wrote_is_left_alone() {
        let own =
            stub().replace("// [task 1.1.1 helpers] one\n", "// [task 1.1.1 helpers] one\nfn tool() -> u32 { 3 }\n");
        let (reference, learner) = (files(REFERENCE), files(&own));
        let pairs = of_tasks(&course(), &reference, &learner, &["1.1.2"]).unwrap();
        let borrowed = borrowed_helpers(&course(), &reference, &learner, &pairs).unwrap();
        assert!(borrowed.iter().all(|pair| pair.region.name != "one"));
    }

    #[test]
    fn kernels_are_solved_and_reset_like_rust_and_borrow_from_kernels_only() {
        let metal = "// [task 1.1.1 helpers] one\ninline float tool(float x) { return x; }\n// [end]\n\n\
            // [task 1.1.2] two\nout[0] = tool(x[0]);\n// [end]\n";
        let course = course();
        let both = |rust: &str, metal: &str| {
            let metal = (PathBuf::from("src/kernels/a.metal"), metal.to_owned());
            Files::from([(PathBuf::from("src/a.rs"), rust.to_owned()), metal])
        };
        let rust = "// [task 1.1.3 helpers] tool\nfn tool() {}\n// [end]\n";
        let stub = stubs::stub(metal, Language::Metal, &course).unwrap();
        assert!(stub.contains("\ntodo!(\"week 1 day 1 task 2: two - see book/src/d.md\");\n// [end]\n"), "{stub}");
        let reference = both(rust, metal);
        let learner = both(&stubs::stub(rust, Language::Rust, &course).unwrap(), &stub);
        let pairs = of_tasks(&course, &reference, &learner, &["1.1.2"]).unwrap();
        let borrowed = borrowed_helpers(&course, &reference, &learner, &pairs).unwrap();
        let names: Vec<&str> = borrowed.iter().map(|pair| pair.region.name.as_str()).collect();
        assert_eq!(names, ["one"]);
        let solved = fill(&learner, &[pairs, borrowed].concat(), Fill::Reference);
        let text = solved.get(Path::new("src/kernels/a.metal")).unwrap();
        assert_eq!(text, metal);
        let pairs = of_tasks(&course, &reference, &both(rust, text), &["1.1.1", "1.1.2"]).unwrap();
        assert_eq!(fill(&both(rust, text), &pairs, Fill::Stub)[Path::new("src/kernels/a.metal")], stub);
    }

    #[test]
    fn a_missing_marker_or_file_is_an_error_with_a_remedy() {
        let broken = files(&stub().replace("    // [task 1.1.2] two\n", ""));
        let message =
            |learner: &Files| of_tasks(&course(), &files(REFERENCE), learner, &["1.1.2"]).unwrap_err().to_string();
        assert!(message(&broken).starts_with(
            "crates/tiny-llm/src/a.rs: the line `// [task 1.1.2] two` is missing; put it back on its own line after `fn two() -> u32 {`"
        ));
        assert!(message(&Files::new()).contains("git checkout -- crates/tiny-llm/src/a.rs"));
    }
}
