//! The pieces of a task in the learner's crate: which of its functions are written, and where the next one goes.

use std::path::{Path, PathBuf};

use crate::chapters::Task;
use crate::region_pairs::Files;
use crate::this_machine::compiles_here;
use crate::workspace::{Workspace, files_below, read_text};

/// One marked body of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// As its marker calls it: `FullKvCache::rewind`.
    pub name: String,
    /// Below the crate's folder.
    pub file: PathBuf,
    /// The line to write in, from 1.
    pub line: usize,
    /// The line of its `// [end]`, from 1.
    end: usize,
    /// The `todo!` that the stub came with is still there.
    pub is_open: bool,
}

impl Piece {
    /// `crates/tiny-llm/src/kv_append.rs:95`, where `learner` is the crate's folder.
    pub fn place(&self, workspace: &Workspace) -> String {
        format!("{}:{}", workspace.display(&workspace.learner().join(&self.file)), self.line)
    }
}

/// The task's pieces that this machine compiles, in the order of the course's list.
///
/// Nothing here is an error: a marker that is missing is one for `diff` and `solve` to name.
pub fn of_task(workspace: &Workspace, task: &Task) -> Vec<Piece> {
    let learner = workspace.learner();
    let mut files = Files::new();
    for path in files_below(&learner.join("src")).unwrap_or_default() {
        let relative = path.strip_prefix(&learner).unwrap_or(&path).to_owned();
        if let Ok(text) = read_text(&path) {
            files.insert(relative, text);
        }
    }
    in_files(&files, task)
}

fn in_files(files: &Files, task: &Task) -> Vec<Piece> {
    let here = files.iter().filter(|(file, _)| compiles_here(files, file));
    let mut pieces: Vec<Piece> = here.flat_map(|(file, text)| in_file(file, text, &task.id)).collect();
    // A file that the list doesn't name comes last.
    let rank = |piece: &Piece| task.items.iter().position(|item| names_file(item, &piece.file)).unwrap_or(usize::MAX);
    pieces.sort_by_key(|piece| (rank(piece), piece.file.clone(), piece.line));
    pieces
}

fn in_file(file: &Path, text: &str, task: &str) -> Vec<Piece> {
    let marker = format!("// [task {task}] ");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let starts = (0..lines.len()).filter(|index| lines[*index].starts_with(&marker));
    let piece = |start: usize| {
        let length = lines[start + 1..].iter().take_while(|line| !line.starts_with("// [")).count();
        // A long message stands on a line of its own.
        let code = lines[start + 1..start + 1 + length].concat();
        Piece {
            name: lines[start][marker.len()..].to_owned(),
            file: file.to_owned(),
            line: start + 2,
            end: start + 2 + length,
            is_open: code.contains("todo!(\"week "),
        }
    };
    starts.map(piece).collect()
}

/// Whether an item of the list such as `filters::TopK::apply` or `kernels/swiglu.metal` lies in this file.
fn names_file(item: &str, file: &Path) -> bool {
    let file = file.strip_prefix("src").unwrap_or(file);
    if let Some((kernel, _)) = item.split_once(".metal") {
        return file == Path::new(&format!("{kernel}.metal"));
    }
    let module = file.with_extension("");
    let module = if module.ends_with("mod") { module.parent().unwrap_or(&module) } else { &module };
    Path::new(&item.replace("::", "/")).starts_with(module)
}

/// Which of `pieces` a failing test is about, as far as that can be told: the one in which it panicked, the one that the
/// list assigns to it, the one whose name the test's name holds. Nothing is guessed: of several candidates none is
/// returned.
/// `function` is the test's, without modules and cases.
pub fn concerned<'a>(task: &Task, pieces: &'a [Piece], function: &str, panicked_at: Option<&str>) -> Option<&'a Piece> {
    if let [only] = pieces {
        return Some(only);
    }
    if let Some((file, line)) = panicked_at.and_then(file_and_line) {
        let inside = |piece: &&Piece| file.ends_with(&piece.file) && (piece.line..piece.end).contains(&line);
        if let Some(piece) = pieces.iter().find(inside) {
            return Some(piece);
        }
    }
    if let Some(name) = task.piece_of_test(function) {
        return pieces.iter().find(|piece| piece.name == name);
    }
    let words: Vec<String> = words_of(function.strip_prefix(&task.tests).unwrap_or(function));
    let score = |piece: &Piece| {
        let whole = words_of(&piece.name);
        let last = words_of(piece.name.rsplit("::").next().unwrap_or_default());
        let named = |name: &[String]| {
            let is_there = !name.is_empty() && words.windows(name.len()).any(|part| part == name);
            if is_there { name.len() } else { 0 }
        };
        named(&whole).max(named(&last))
    };
    let best = pieces.iter().map(score).max().filter(|score| *score > 0)?;
    let mut named = pieces.iter().filter(|piece| score(piece) == best);
    named.next().filter(|_| named.next().is_none())
}

/// `crates/tiny-llm/src/linear.rs:9:5` in parts.
fn file_and_line(place: &str) -> Option<(&Path, usize)> {
    let (place, _column) = place.rsplit_once(':')?;
    let (file, line) = place.rsplit_once(':')?;
    Some((Path::new(file), line.parse().ok()?))
}

/// `TopK::apply`, `top_k apply` and `top k: apply` are all `top`, `k`, `apply`.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in name.chars() {
        let is_new = !c.is_alphanumeric() || (c.is_uppercase() && before.is_lowercase());
        if is_new {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chapters::Course;

    fn task(items: &str, pieces: &str) -> Task {
        let text = format!(
            "[[chapter]]\nid = \"1.1\"\ntitle = \"A\"\ntest = \"t\"\nbook = \"d.md\"\n[[chapter.task]]\nid = \"1.1.1\"\n\
             title = \"t\"\ntests = \"task_1_\"\nanchor = \"a\"\nitems = [{items}]\npieces = [{pieces}]\n"
        );
        Course::parse(&text).unwrap().chapters[0].tasks[0].clone()
    }

    const FILTERS: &str = "impl TopP {\n    // [task 1.1.1] TopP\n    todo!(\n        \"week 1 day 1 task 1: TopP - see x\"\n    )\n\
        \x20   // [end]\n}\nimpl MinP {\n    // [task 1.1.1] MinP\n    min()\n    // [end]\n}\n";

    fn pieces() -> (Task, Vec<Piece>) {
        let task = task("\"filters::TopP::apply\", \"filters::MinP::apply\", \"a::first\"", "\"task_1_tail: TopP\"");
        let files = [
            ("src/lib.rs", "mod a;\nmod filters;\n"),
            (
                "src/a.rs",
                "fn first() {\n// [task 1.1.1] first\ntodo!(\"week 1 day 1 task 1: first - see x\")\n// [end]\n}\n",
            ),
            ("src/filters.rs", FILTERS),
        ];
        let files = files.map(|(file, text)| (PathBuf::from(file), text.to_owned()));
        let pieces = in_files(&Files::from(files), &task);
        (task, pieces)
    }

    #[test]
    fn pieces_come_in_the_order_of_the_list_and_know_whether_they_are_written() {
        let (_, pieces) = pieces();
        let seen: Vec<_> = pieces.iter().map(|p| (p.name.as_str(), p.line, p.is_open)).collect();
        assert_eq!(seen, [("TopP", 3, true), ("MinP", 10, false), ("first", 3, true)]);
    }

    #[test]
    fn a_test_is_about_the_piece_that_its_name_its_panic_or_the_list_names() {
        let (task, pieces) = pieces();
        let concerned = |function, place| concerned(&task, &pieces, function, place).map(|piece| piece.name.as_str());
        assert_eq!(concerned("task_1_min_p", None), Some("MinP"));
        assert_eq!(concerned("task_1_min_p_and_first", None), Some("MinP")); // two words against one
        assert_eq!(concerned("min_p_of_a_case", None), Some("MinP"));
        assert_eq!(concerned("task_1_sums", None), None);
        assert_eq!(concerned("task_1_tail", None), Some("TopP"));
        assert_eq!(concerned("task_1_sums", Some("crates/tiny-llm/src/filters.rs:10:5")), Some("MinP"));
        assert_eq!(concerned("task_1_sums", Some("crates/tiny-llm/src/filters.rs:1:5")), None);
    }

    #[test]
    fn names_are_split_into_words_in_any_spelling() {
        for name in ["TopK::apply", "top_k_apply", "top k: apply"] {
            assert_eq!(words_of(name), ["top", "k", "apply"], "{name}");
        }
    }

    #[test]
    fn an_item_names_its_file() {
        assert!(names_file("quantized::gpu::plain::plain", Path::new("src/quantized/gpu/plain.rs")));
        assert!(!names_file("quantized::plain::plain_matmul", Path::new("src/quantized/gpu/plain.rs")));
        assert!(names_file("quantized::kernel::chosen", Path::new("src/quantized/kernel/mod.rs")));
        assert!(names_file("kernels/quantized.metal packed_integer", Path::new("src/kernels/quantized.metal")));
    }
}
