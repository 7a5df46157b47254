//! One cause for a task, from all of its failures.
//!
//! A mistake shows in most of what it breaks. So no single failure speaks for a task: an answer in one case of many may
//! look like another mistake by chance, or because two mistakes coincide on its inputs.

use crate::results::{Comparison, Guess};

/// Longer sentences are cut in the table; the message below it has all of them.
const MAX_LENGTH: usize = 200;

/// A task's probable cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The answers equal those stored for a known mistake.
    Known(String),
    /// Most failures show one pattern, which is a guess.
    Guess { pattern: String, sentence: String },
    /// Most failures say it themselves: an error, a refusal that did not come, a panic.
    Observed(String),
}

impl Cause {
    /// For a table's cell, in one line.
    pub fn sentence(&self) -> String {
        match self {
            Self::Known(sentence) | Self::Observed(sentence) => sentence.clone(),
            Self::Guess { sentence, .. } => format!("perhaps: {sentence}"),
        }
    }
}

/// A failing test: what the grader found, or else what the test's panic says.
#[derive(Debug, Clone, Copy)]
pub enum Failure<'a> {
    Compared(&'a Comparison),
    Said(Option<&'a str>),
}

impl Failure<'_> {
    fn comparison(&self) -> Option<&Comparison> {
        match self {
            Self::Compared(comparison) => Some(comparison),
            Self::Said(_) => None,
        }
    }

    fn observed(&self) -> Option<&str> {
        match self {
            Self::Compared(comparison) => comparison.observed.as_deref(),
            Self::Said(text) => *text,
        }
    }
}

/// The cause of these failures, which stand in the order of the test file.
pub fn of_task(failures: &[Failure<'_>]) -> Option<Cause> {
    known(failures).or_else(|| guessed(failures)).or_else(|| observed(failures))
}

/// The known mistake that gives most of the wrong answers. One that is stored for more failures than it explains is
/// refuted: where it explains one, two mistakes coincide.
fn known(failures: &[Failure<'_>]) -> Option<Cause> {
    let compared: Vec<&Comparison> = failures.iter().filter_map(Failure::comparison).collect();
    let mut best: Option<(usize, &String)> = None;
    for sentence in compared.iter().flat_map(|comparison| &comparison.known) {
        let n_explained = compared.iter().filter(|comparison| comparison.known.contains(sentence)).count();
        let n_stored = compared.iter().filter(|comparison| comparison.stored.contains(sentence)).count();
        if 2 * n_explained >= n_stored && best.is_none_or(|(most, _)| n_explained > most) {
            best = Some((n_explained, sentence));
        }
    }
    best.map(|(_, sentence)| Cause::Known(sentence.clone()))
}

/// The pattern that more than half of all failures show.
fn guessed(failures: &[Failure<'_>]) -> Option<Cause> {
    let guesses: Vec<&Guess> =
        failures.iter().filter_map(Failure::comparison).filter_map(|comparison| comparison.guess.as_ref()).collect();
    let of = |pattern: &str| guesses.iter().filter(|guess| guess.pattern == pattern).count();
    let first = guesses.iter().find(|guess| 2 * of(&guess.pattern) > failures.len())?;
    // What only one answer shows may be chance, unless there is only this one.
    if of(&first.pattern) < 2.min(failures.len()) {
        return None;
    }
    let all_alike = guesses.iter().all(|guess| guess.pattern != first.pattern || guess.sentence == first.sentence);
    let sentence =
        if all_alike { first.sentence.clone() } else { format!("{} (the numbers differ by case)", first.sentence) };
    Some(Cause::Guess { pattern: first.pattern.clone(), sentence })
}

/// What the first failure says, if at least half of them say something. What follows a wrong answer without a known cause is
/// about less: where the plain case fails, what large values do says little.
fn observed(failures: &[Failure<'_>]) -> Option<Cause> {
    let said: Vec<&str> = failures.iter().filter_map(Failure::observed).collect();
    let first = failures.iter().find(|failure| failure.comparison().is_some() || failure.observed().is_some())?;
    let first = first.observed()?;
    (2 * said.len() >= failures.len()).then(|| Cause::Observed(one_line(first)))
}

/// The first line, cut where it is too long for a table.
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(MAX_LENGTH) {
        Some((at, _)) => format!("{} ..", line[..at].trim_end()),
        None => line.to_owned(),
    }
}

/// What a panic that is no comparison says about its cause; `None` for a bare assertion.
pub fn of_panic(message: &str) -> Option<String> {
    let message = plain_words(message);
    let first = message.lines().next().unwrap_or_default().trim();
    if let Some(explained) = first.strip_prefix("assertion `left ") {
        return explained.split_once("failed: ").map(|(_, text)| text.to_owned());
    }
    // "value 3: got 1, expected 2" says that something is wrong, and not what.
    let is_number = first.contains("value ") && first.contains(": got ") && first.contains("expected ");
    let bare = first.is_empty()
        || is_number
        || first.starts_with("assertion failed: ")
        || first.starts_with("not yet implemented");
    (!bare).then(|| first.to_owned())
}

/// A panic's message without the wrapping of an `unwrap` and without places outside of this repository.
pub fn plain_words(message: &str) -> String {
    let mut text = message.to_owned();
    if let Some((before, value)) = text.split_once(" on an `Err` value: ") {
        let before = before.strip_suffix("called `Result::unwrap()`").unwrap_or(before);
        let quoted = ["what: \"", "message: \""].iter().find_map(|field| value.split_once(field));
        let inner = quoted.map_or(value, |(_, rest)| rest.split_once("\", ").map_or(rest, |(inner, _)| inner));
        text = format!(
            "{before}{}",
            inner.trim_end_matches(['"', ' ', '}', ')']).replace("\\n", "\n").replace("\\\"", "\"")
        );
    }
    let mut kept = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(" at /") {
        let after = &rest[at + " at ".len()..];
        let end = after.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(after.len());
        let is_place =
            after[..end].rsplit(':').next().is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        kept.push_str(if is_place { &rest[..at] } else { &rest[..at + " at ".len() + end] });
        rest = &after[end..];
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(known: &[&str], stored: &[&str]) -> Comparison {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Comparison { known: owned(known), stored: owned(stored), ..Comparison::default() }
    }

    fn guess(pattern: &str, sentence: &str) -> Comparison {
        let guess = Guess { pattern: pattern.to_owned(), sentence: sentence.to_owned() };
        Comparison { guess: Some(guess), ..Comparison::default() }
    }

    fn cause(comparisons: &[Comparison]) -> Option<String> {
        let failures: Vec<_> = comparisons.iter().map(Failure::Compared).collect();
        of_task(&failures).map(|cause| cause.sentence())
    }

    #[test]
    fn a_stored_mistake_in_a_late_failure_wins_over_patterns_in_all_others() {
        let zeros = guess("zeros", "every entry is zero");
        assert_eq!(cause(&[zeros.clone(), zeros.clone()]), Some("perhaps: every entry is zero".to_owned()));
        assert_eq!(
            cause(&[zeros.clone(), zeros, comparison(&["no scale"], &["no scale"])]),
            Some("no scale".to_owned())
        );
    }

    #[test]
    fn a_mistake_that_most_failures_refute_is_not_named() {
        // In the first case two mistakes coincide; the other cases know both.
        let both = comparison(&["1/D", "E/H"], &["1/D", "E/H"]);
        let second = comparison(&["E/H"], &["1/D", "E/H"]);
        assert_eq!(cause(&[both.clone(), second.clone(), second]), Some("E/H".to_owned()));
        let neither = comparison(&[], &["1/D", "E/H"]);
        assert_eq!(cause(&[both, neither.clone(), neither]), None);
    }

    #[test]
    fn a_pattern_needs_most_failures() {
        let factor = |n: u8| guess("factor", &format!("times {n}"));
        let nothing = || comparison(&[], &[]);
        assert_eq!(cause(&[factor(2), nothing(), nothing()]), None);
        assert_eq!(cause(&[factor(2), nothing()]), None);
        assert_eq!(cause(&[factor(2), factor(2), nothing()]), Some("perhaps: times 2".to_owned()));
        let differ = Some("perhaps: times 2 (the numbers differ by case)".to_owned());
        assert_eq!(cause(&[factor(2), factor(3), nothing()]), differ);
    }

    #[test]
    fn what_a_failure_says_is_the_cause_where_nothing_is_known() {
        let said = |text| Failure::Said(Some(text));
        let error = Some(Cause::Observed("threads 0 and 1 race".to_owned()));
        assert_eq!(of_task(&[said("threads 0 and 1 race\non out[3]"), Failure::Said(None)]), error);
        assert_eq!(of_task(&[said("odd dims"), Failure::Said(None), Failure::Said(None)]), None);
        let wrong = comparison(&[], &["no scale"]);
        assert_eq!(of_task(&[Failure::Compared(&wrong), said("large values")]), None, "the plain case fails too");
    }

    #[test]
    fn a_panic_is_told_in_plain_words() {
        let text = "called `Result::unwrap()` on an `Err` value: Exception { what: \"[matmul] sizes 3 and 4 at \
                    /a/ops.cpp:12\", location: Location { file: \"/b.rs\", line: 1 } }";
        assert_eq!(of_panic(text).as_deref(), Some("[matmul] sizes 3 and 4"));
        assert_eq!(
            of_panic("assertion `left == right` failed: two offsets\n  left: 1\n right: 2").as_deref(),
            Some("two offsets")
        );
        for bare in ["assertion `left == right` failed\n  left: 1", "assertion failed: x.is_ok()", ""] {
            assert_eq!(of_panic(bare), None);
        }
        assert_eq!(of_panic("avx2, 64 inputs: value 0: got 3.5, expected -4.25; off by 7.75"), None);
        let own = "index out of bounds: the len is 3 but the index is 3";
        assert_eq!(of_panic(own).as_deref(), Some(own));
    }
}
