//! A unified diff of two short texts.

use crate::style::{Colour, Style};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit<'a> {
    Keep(&'a str),
    Remove(&'a str),
    Add(&'a str),
}

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// The changes that turn `old` into `new`, or `None` if they are equal. The hunks' line numbers
/// count from `old_start` and `new_start`, so that they are those of the files.
pub fn unified(old: &[&str], new: &[&str], (old_start, new_start): (usize, usize), style: Style) -> Option<String> {
    let edits = edits(old, new);
    let changed: Vec<usize> = (0..edits.len()).filter(|i| !matches!(edits[*i], Edit::Keep(_))).collect();
    let (first, last) = (*changed.first()?, *changed.last()?);

    // One hunk: a region is a function body, so a gap inside it is worth showing.
    let from = first.saturating_sub(CONTEXT);
    let to = (last + 1 + CONTEXT).min(edits.len());
    let count = |edits: &[Edit<'_>], skip: fn(&Edit<'_>) -> bool| edits.iter().filter(|e| !skip(e)).count();
    let is_add = |e: &Edit<'_>| matches!(e, Edit::Add(_));
    let is_remove = |e: &Edit<'_>| matches!(e, Edit::Remove(_));
    let header = format!(
        "@@ -{},{} +{},{} @@",
        old_start + count(&edits[..from], is_add),
        count(&edits[from..to], is_add),
        new_start + count(&edits[..from], is_remove),
        count(&edits[from..to], is_remove),
    );
    let mut text = style.paint(Colour::Blue, &header);
    text.push('\n');
    for edit in &edits[from..to] {
        let line = match edit {
            Edit::Keep(line) => format!(" {line}"),
            Edit::Remove(line) => style.paint(Colour::Red, &format!("-{line}")),
            Edit::Add(line) => style.paint(Colour::Green, &format!("+{line}")),
        };
        text.push_str(&line);
        text.push('\n');
    }
    Some(text)
}

/// How many lines only `old` has, and how many only `new` has.
pub fn counts(old: &[&str], new: &[&str]) -> (usize, usize) {
    let edits = edits(old, new);
    let count = |of: fn(&Edit<'_>) -> bool| edits.iter().filter(|edit| of(edit)).count();
    (count(|edit| matches!(edit, Edit::Remove(_))), count(|edit| matches!(edit, Edit::Add(_))))
}

/// The shortest edit script by the longest common subsequence: quadratic, fine for a function.
fn edits<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Edit<'a>> {
    // common[i][j] = length of the longest common subsequence of old[i..] and new[j..]
    let mut common = vec![vec![0usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] =
                if old[i] == new[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut edits = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            edits.push(Edit::Keep(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            edits.push(Edit::Remove(old[i]));
            i += 1;
        } else {
            edits.push(Edit::Add(new[j]));
            j += 1;
        }
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_line_is_shown_in_its_context() {
        let old = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let new = ["a", "b", "c", "d", "E", "f", "g", "h", "i"];
        let text = unified(&old, &new, (10, 20), Style::plain()).unwrap();
        assert_eq!(text, "@@ -11,7 +21,8 @@\n b\n c\n d\n-e\n+E\n f\n g\n h\n+i\n");
    }

    #[test]
    fn lines_of_one_side_are_counted() {
        assert_eq!(counts(&["a", "b", "c"], &["a", "x", "c", "d"]), (1, 2));
        assert_eq!(counts(&["a"], &["a"]), (0, 0));
    }

    #[test]
    fn equal_texts_have_no_diff_and_empty_ones_work() {
        assert_eq!(unified(&["a"], &["a"], (1, 1), Style::plain()), None);
        assert_eq!(unified(&[], &["a"], (1, 1), Style::plain()).unwrap(), "@@ -1,0 +1,1 @@\n+a\n");
        assert_eq!(unified(&["a"], &[], (1, 1), Style::plain()).unwrap(), "@@ -1,1 +1,0 @@\n-a\n");
    }
}
