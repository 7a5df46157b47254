//! Marked regions: the lines that a learner writes, between two comments.
//!
//! ```text
//! // [task 1.1.1] softmax               a body: the stub says todo!(..) here
//! // [task 1.1.3 helpers] scores        whole items: the stub keeps nothing here
//! // [reference only] unit tests        the stub drops these lines, markers too
//! // [end]
//! ```
//!
//! `reference/` is the source; the generated crate keeps the markers of the first two kinds, so
//! `diff`, `solve` and `reset` find the same lines in the learner's file and touch no others.

use crate::chapters;
use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Body,
    Helpers,
    ReferenceOnly,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    pub kind: Kind,
    /// `1.1.1`; empty for [`Kind::ReferenceOnly`].
    pub task: String,
    pub name: String,
    /// Index of the marker line, from 0.
    pub start: usize,
    /// Index of the `// [end]` line.
    pub end: usize,
}

impl Region {
    /// The marker comment without its indentation.
    pub fn marker(&self) -> String {
        match self.kind {
            Kind::Body => format!("// [task {}] {}", self.task, self.name),
            Kind::Helpers => format!("// [task {} helpers] {}", self.task, self.name),
            Kind::ReferenceOnly => format!("// [reference only] {}", self.name),
        }
    }

    /// The lines between the markers.
    pub fn body<'a>(&self, lines: &[&'a str]) -> Vec<&'a str> {
        lines.get(self.start + 1..self.end).unwrap_or_default().to_vec()
    }
}

pub const END: &str = "// [end]";

/// All regions of a file, in order. Errors carry a line number but no file name.
pub fn parse(text: &str) -> Result<Vec<Region>> {
    let mut regions: Vec<Region> = Vec::new();
    let mut open: Option<Region> = None;
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed == END {
            match open.take() {
                Some(region) => regions.push(Region { end: index, ..region }),
                None => return Err(at(index, "`// [end]` without a marker that opens a region")),
            }
        } else if let Some(region) = opening(trimmed, index)? {
            if let Some(open) = &open {
                return Err(at(index, &format!("`{}` is still open: its `// [end]` is missing", open.marker())));
            }
            if regions.iter().any(|r| r.kind != Kind::ReferenceOnly && r.marker() == region.marker()) {
                return Err(at(index, &format!("`{}` appears twice", region.marker())));
            }
            open = Some(region);
        }
    }
    match open {
        Some(open) => Err(at(open.start, &format!("`{}` has no `// [end]`", open.marker()))),
        None => Ok(regions),
    }
}

fn at(index: usize, problem: &str) -> Error {
    Error::new(format!("line {}: {problem}", index + 1))
}

fn opening(trimmed: &str, index: usize) -> Result<Option<Region>> {
    let region = |kind, task: &str, name: &str| {
        Some(Region { kind, task: task.to_owned(), name: name.trim().to_owned(), start: index, end: index })
    };
    let Some(marker) = trimmed.strip_prefix("// [") else { return Ok(None) };
    if let Some(name) = marker.strip_prefix("reference only]") {
        return Ok(region(Kind::ReferenceOnly, "", name));
    }
    let Some(rest) = marker.strip_prefix("task ") else { return Ok(None) };
    let Some((head, name)) = rest.split_once(']') else {
        return Err(at(index, "a marker without its `]`"));
    };
    let (kind, task) = match head.strip_suffix(" helpers") {
        Some(task) => (Kind::Helpers, task),
        None => (Kind::Body, head),
    };
    if !chapters::is_task_id(task) {
        return Err(at(index, &format!("`{task}` is not a task id such as 1.1.2")));
    }
    if name.trim().is_empty() {
        return Err(at(index, "a marker needs a name after its `]`"));
    }
    Ok(region(kind, task, name))
}

/// Where `wanted` lies in a learner's file, however they edited the rest of it.
///
/// `context` is the line that stands before the marker in the untouched stub: if the marker is
/// gone, the error says where to put it back.
pub fn locate(text: &str, wanted: &Region, context: Option<&str>) -> Result<Region> {
    let marker = wanted.marker();
    let lines: Vec<&str> = text.lines().collect();
    let mut found = (0..lines.len()).filter(|i| lines[*i].trim() == marker);
    let Some(start) = found.next() else {
        let place = match context.map(str::trim).filter(|line| !line.is_empty()) {
            Some(line) => format!("put it back on its own line after `{line}`, and `{END}` after your code"),
            None => format!("put it back where your code for it begins, and `{END}` after it"),
        };
        return Err(Error::new(format!("the line `{marker}` is missing")).remedy(place));
    };
    if let Some(second) = found.next() {
        return Err(Error::new(format!("line {}: `{marker}` appears twice", second + 1))
            .remedy("keep the one around your code"));
    }
    let next_marker = |line: &str| line.trim() == END || matches!(opening(line.trim(), 0), Ok(Some(_)));
    let end = (start + 1..lines.len()).find(|i| next_marker(lines[*i]));
    match end {
        Some(end) if lines[end].trim() == END => Ok(Region { start, end, ..wanted.clone() }),
        _ => Err(Error::new(format!("line {}: `{marker}` has no `{END}` after it", start + 1))
            .remedy(format!("put `{END}` on its own line after the last line of your code for it"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "fn a() {\n    // [task 1.1.1] a\n    one();\n    two();\n    // [end]\n}\n\
        // [task 1.1.2 helpers] tools\nfn tool() {}\n// [end]\n// [reference only] tests\nmod t {}\n// [end]\n";

    #[test]
    fn regions_of_all_kinds_are_found() {
        let regions = parse(SOURCE).unwrap();
        let seen: Vec<_> = regions.iter().map(|r| (r.kind, r.task.as_str(), r.name.as_str(), r.start, r.end)).collect();
        assert_eq!(
            seen,
            [
                (Kind::Body, "1.1.1", "a", 1, 4),
                (Kind::Helpers, "1.1.2", "tools", 6, 8),
                (Kind::ReferenceOnly, "", "tests", 9, 11)
            ]
        );
        let lines: Vec<&str> = SOURCE.lines().collect();
        assert_eq!(regions[0].body(&lines), ["    one();", "    two();"]);
    }

    #[test]
    fn broken_markers_are_named_with_their_line() {
        let message = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(message("// [end]\n"), "line 1: `// [end]` without a marker that opens a region");
        assert_eq!(message("\n// [task 1.1.1] a\n"), "line 2: `// [task 1.1.1] a` has no `// [end]`");
        assert!(
            message("// [task 1.1.1] a\n// [task 1.1.2] b\n// [end]\n")
                .starts_with("line 2: `// [task 1.1.1] a` is still open")
        );
        assert_eq!(message("// [task 1.1] a\n// [end]"), "line 1: `1.1` is not a task id such as 1.1.2");
        assert_eq!(message("// [task 1.1.1]\n// [end]"), "line 1: a marker needs a name after its `]`");
        let twice = "// [task 1.1.1] a\n// [end]\n// [task 1.1.1] a\n// [end]\n";
        assert_eq!(message(twice), "line 3: `// [task 1.1.1] a` appears twice");
    }

    #[test]
    fn a_region_is_found_in_an_edited_file() {
        let wanted = &parse(SOURCE).unwrap()[0];
        let edited = format!("// my notes\n\n{SOURCE}");
        let region = locate(&edited, wanted, None).unwrap();
        assert_eq!((region.start, region.end), (3, 6));
    }

    #[test]
    fn a_missing_marker_says_where_it_belongs() {
        let wanted = &parse(SOURCE).unwrap()[0];
        let without = SOURCE.replace("    // [task 1.1.1] a\n", "");
        assert_eq!(
            locate(&without, wanted, Some("fn a() {")).unwrap_err().to_string(),
            "the line `// [task 1.1.1] a` is missing; put it back on its own line after `fn a() {`, and `// [end]` after your code"
        );
        let endless = SOURCE.replacen("    // [end]\n", "", 1);
        let message = locate(&endless, wanted, None).unwrap_err().to_string();
        assert!(message.starts_with("line 2: `// [task 1.1.1] a` has no `// [end]` after it"), "{message}");
    }
}
