//! Does every rule that a day states have a test? `tests/rules/<day>.toml` says which.
//!
//! Collected from the chapter: the first cells of *What must hold* and *Common mistakes*, and the sentences of the tasks'
//! bullets that state a condition. Collected from the documentation of what a learner writes: all of `# Errors`, and the
//! sentences that state a condition. Each needs an entry, and each entry has to be true: its words stand in the text, its
//! tests and mutants exist.

use std::collections::BTreeSet;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use crate::chapters::{Chapter, Course};
use crate::error::{Error, Result};
use crate::mutants;
use crate::regions::{self, Kind};
use crate::workspace::{Workspace, files_below, read_text};

/// Words, in lower case, by which a sentence is known to state a condition.
const CONDITIONS: [&str; 12] =
    ["if", "unless", "only", "never", "must", "refuse", "refuses", "refused", "error", "errors", "err", "nan"];

/// Shorter words than these stand in sentences that they don't mean.
const SHORTEST: usize = 8;

/// One entry of a rule table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    says: String,
    tests: Vec<String>,
    mutants: Vec<String>,
    untested: Option<String>,
}

/// Something that a day states, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    place: String,
    text: String,
}

/// How many rules there are, and what is wrong with them.
pub fn check(workspace: &Workspace, course: &Course) -> Result<(usize, Vec<String>)> {
    let mut problems = Vec::new();
    let mut n_rules = 0;
    let known_mutants: BTreeSet<String> = mutants::load(workspace)?.into_iter().map(|mutant| mutant.id).collect();
    let documentation = documentation(workspace)?;
    for chapter in &course.chapters {
        let path = workspace.root().join("tests/rules").join(format!("{}.toml", chapter.test));
        if !path.is_file() {
            problems.push(format!("day {}: {} is missing", chapter.id, workspace.display(&path)));
            continue;
        }
        let rules = parse(&read_text(&path)?).map_err(|e| Error::new(format!("{}: {e}", workspace.display(&path))))?;
        n_rules += rules.len();
        let page = read_text(&workspace.book().join("src").join(&chapter.book))?;
        let docs: Vec<&(String, Statement)> =
            documentation.iter().filter(|(task, _)| chapter.tasks.iter().any(|t| t.id == *task)).collect();
        let tests = test_functions(workspace, chapter)?;
        let mut statements = stated_by_page(&page);
        statements.extend(docs.iter().flat_map(|(_, doc)| stated_by_doc(doc)));
        let everything = std::iter::once(one_line(&page)).chain(docs.iter().map(|(_, doc)| one_line(&doc.text)));
        let everything = everything.collect::<Vec<_>>().join(" ");
        problems.extend(
            judge(&rules, &statements, &everything, &tests, &known_mutants)
                .into_iter()
                .map(|problem| format!("day {}: {problem}", chapter.id)),
        );
    }
    Ok((n_rules, problems))
}

fn judge(
    rules: &[Rule],
    statements: &[Statement],
    everything: &str,
    tests: &BTreeSet<String>,
    known_mutants: &BTreeSet<String>,
) -> Vec<String> {
    let mut problems = Vec::new();
    for rule in rules {
        if rule.says.len() < SHORTEST {
            problems.push(format!("\"{}\" is too short to mean one rule", rule.says));
        }
        if !everything.contains(&rule.says) {
            problems.push(format!("neither the page nor a stub says \"{}\" any more", rule.says));
        }
        match &rule.untested {
            Some(reason) if reason.trim().is_empty() || !rule.tests.is_empty() => {
                problems.push(format!("\"{}\" has `untested` without a reason, or beside `tests`", rule.says));
            }
            None if rule.tests.is_empty() => problems.push(format!("the rule \"{}\" has no test", rule.says)),
            _ => {}
        }
        for test in rule.tests.iter().filter(|test| !tests.contains(*test)) {
            problems.push(format!("\"{}\" names the test {test}, which is not there", rule.says));
        }
        for mutant in rule.mutants.iter().filter(|mutant| !known_mutants.contains(*mutant)) {
            problems.push(format!("\"{}\" names the mutant {mutant}, which is not there", rule.says));
        }
    }
    for statement in statements {
        let covered = |rule: &Rule| statement.text.contains(&rule.says) || rule.says.contains(statement.text.as_str());
        if !rules.iter().any(covered) {
            problems.push(format!("{} states a rule without a test: \"{}\"", statement.place, statement.text));
        }
    }
    problems
}

fn parse(text: &str) -> Result<Vec<Rule>> {
    let document = DeTable::parse(text).map_err(|e| Error::new(e.to_string().trim().to_owned()))?;
    let Some(DeValue::Array(list)) = document.get_ref().get("rule").map(toml::Spanned::get_ref) else {
        return Err(Error::new("it holds no [[rule]]"));
    };
    list.iter().map(|item| rule(item.get_ref())).collect()
}

fn rule(value: &DeValue<'_>) -> Result<Rule> {
    let text = |key: &str| value.get(key).and_then(|v| v.get_ref().as_str()).map(str::to_owned);
    let list = |key: &str| -> Vec<String> {
        let items = value.get(key).and_then(|v| v.get_ref().as_array());
        items.into_iter().flatten().filter_map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
    };
    let says = text("says").ok_or_else(|| Error::new("a rule without `says`"))?;
    Ok(Rule { says: one_line(&says), tests: list("tests"), mutants: list("mutants"), untested: text("untested") })
}

/// Every run of white space becomes one blank.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The names of all functions in the day's test file, in its folder, and in the modules that it names.
fn test_functions(workspace: &Workspace, chapter: &Chapter) -> Result<BTreeSet<String>> {
    let folder = workspace.root().join("tests/chapters");
    let main = folder.join(format!("{}.rs", chapter.test));
    let mut texts = vec![read_text(&main)?];
    let modules: Vec<PathBuf> = texts[0]
        .lines()
        .filter_map(|line| line.trim().strip_prefix("mod ")?.strip_suffix(';'))
        .map(|module| folder.join(format!("{module}.rs")))
        .collect();
    for path in modules.iter().filter(|path| path.is_file()) {
        texts.push(read_text(path)?);
    }
    let own = folder.join(&chapter.test);
    if own.is_dir() {
        for path in files_below(&own)? {
            texts.push(read_text(&path)?);
        }
    }
    let names = texts.iter().flat_map(|text| text.lines()).filter_map(|line| {
        let name = line.trim().trim_start_matches("pub ").strip_prefix("fn ")?;
        Some(name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned())
    });
    Ok(names.collect())
}

/// The documentation of every function with a body to write, with the task to which it belongs.
fn documentation(workspace: &Workspace) -> Result<Vec<(String, Statement)>> {
    let mut found = Vec::new();
    for path in files_below(&workspace.reference().join("src"))? {
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = read_text(&path)?;
        let lines: Vec<&str> = text.lines().collect();
        for region in regions::parse(&text)?.into_iter().filter(|region| region.kind == Kind::Body) {
            let doc = doc_above(&lines, region.start);
            if !doc.is_empty() {
                let place = format!("the documentation of {} ({})", region.name, workspace.display(&path));
                found.push((region.task, Statement { place, text: doc }));
            }
        }
    }
    Ok(found)
}

/// The doc comment of the function in whose body line `at` stands.
fn doc_above(lines: &[&str], at: usize) -> String {
    let is_function = |line: &&str| {
        let line = line.trim_start();
        !line.starts_with("//") && (line.starts_with("fn ") || line.contains(" fn "))
    };
    let Some(function) = (0..at).rev().find(|&i| is_function(&lines[i])) else { return String::new() };
    let above = lines[..function].iter().rev().map(|line| line.trim_start());
    let block = above.take_while(|line| line.starts_with("///") || line.starts_with("#["));
    let mut doc: Vec<&str> = block.filter_map(|line| line.strip_prefix("///")).collect();
    doc.reverse();
    doc.join("\n")
}

fn stated_by_doc(doc: &Statement) -> Vec<Statement> {
    let (body, errors) = doc.text.split_once("# Errors").unwrap_or((&doc.text, ""));
    let stated = |text: &str| Statement { place: doc.place.clone(), text: text.to_owned() };
    let conditions = sentences(body).into_iter().filter(|sentence| states_a_condition(sentence));
    conditions.chain(sentences(errors)).map(|sentence| stated(&sentence)).collect()
}

fn stated_by_page(page: &str) -> Vec<Statement> {
    let mut found = Vec::new();
    for heading in ["## What must hold", "## Common mistakes"] {
        let place = heading.trim_start_matches("## ");
        let cells = section(page, heading).lines().filter_map(first_cell).skip(1);
        found.extend(
            cells
                .filter(|cell| !cell.chars().all(|c| c == '-' || c == ':'))
                .map(|cell| Statement { place: place.to_owned(), text: one_line(&cell) }),
        );
    }
    for heading in page.lines().filter(|line| line.starts_with("## Task ")) {
        let place = heading.trim_start_matches("## ").split(':').next().unwrap_or_default();
        for bullet in bullets(section(page, heading)) {
            let conditions = sentences(&bullet).into_iter().filter(|sentence| states_a_condition(sentence));
            found.extend(conditions.map(|text| Statement { place: place.to_owned(), text }));
        }
    }
    found
}

/// What stands between a heading and the next one of its rank.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let Some(start) = page.find(&format!("{heading}\n")).map(|at| at + heading.len() + 1) else { return "" };
    let rest = &page[start..];
    rest.find("\n## ").map_or(rest, |end| &rest[..end])
}

/// The first cell of a table's row; a bar after a backslash is text.
fn first_cell(line: &str) -> Option<String> {
    let row = line.trim().strip_prefix('|')?.replace("\\|", "\u{1}");
    let cell = row.split('|').next()?.trim().replace('\u{1}', "\\|");
    Some(cell)
}

/// The items of a section's lists, each with its continuation lines.
fn bullets(section: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let (mut inside, mut fenced) = (false, false);
    for line in section.lines() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("```") {
            fenced = !fenced;
            inside = false;
        } else if fenced {
            continue;
        } else if let Some(first) = trimmed.strip_prefix("- ") {
            found.push(first.to_owned());
            inside = true;
        } else if trimmed.is_empty() || !line.starts_with(' ') {
            inside = false;
        } else if let Some(last) = found.last_mut().filter(|_| inside) {
            last.push(' ');
            last.push_str(trimmed);
        }
    }
    found
}

/// A text's sentences: they end in a point, a colon or a mark, before a capital letter, a backtick or a bracket.
fn sentences(text: &str) -> Vec<String> {
    let text = one_line(text);
    let mut found = Vec::new();
    let mut start = 0;
    let characters: Vec<(usize, char)> = text.char_indices().collect();
    for window in characters.windows(3) {
        let [(_, end), (_, blank), (next_at, next)] = [window[0], window[1], window[2]];
        let begins = next.is_uppercase() || ['`', '(', '[', '*', '-'].contains(&next);
        if ".:!?".contains(end) && blank == ' ' && begins {
            found.push(text[start..next_at].trim().to_owned());
            start = next_at;
        }
    }
    found.push(text[start..].trim().to_owned());
    found.retain(|sentence| sentence.chars().any(char::is_alphanumeric));
    for sentence in &mut found {
        *sentence = sentence.trim_start_matches("- ").to_owned();
    }
    found
}

fn states_a_condition(sentence: &str) -> bool {
    let sentence = sentence.to_lowercase();
    let mut words = sentence.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.any(|word| CONDITIONS.contains(&word) || word.starts_with("infinit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Day\n\n## What must hold\n\n| invariant | what breaks |\n|---|---|\n| f32 inside | a lot |\n\n\
        ## Task 1: softmax\n\n- `x` is any array. A row of NaN must\n  stay NaN. It has a shape.\n- Nothing here.\n\n\
        ```rust\n- if this were code\n```\n\n## Common mistakes\n\n| the check says | cause |\n|---|---|\n| bias \\| forgotten | x |\n";

    fn texts(statements: &[Statement]) -> Vec<&str> {
        statements.iter().map(|statement| statement.text.as_str()).collect()
    }

    #[test]
    fn a_pages_tables_and_conditions_are_statements() {
        let stated = stated_by_page(PAGE);
        assert_eq!(texts(&stated), ["f32 inside", "bias \\| forgotten", "A row of NaN must stay NaN."]);
    }

    #[test]
    fn all_of_errors_is_stated_and_of_the_rest_what_has_a_condition() {
        let source = "/// Adds. Only f32 will do.\n///\n/// # Errors\n/// Another dtype. Too many axes.\n#[must_use]\npub fn add() {\n    // [task 1.1.1] add\n";
        let lines: Vec<&str> = source.lines().collect();
        let doc = Statement { place: "doc".to_owned(), text: doc_above(&lines, 6) };
        assert_eq!(texts(&stated_by_doc(&doc)), ["Only f32 will do.", "Another dtype.", "Too many axes."]);
    }

    #[test]
    fn a_rule_needs_words_a_test_and_a_true_name() {
        let statements = stated_by_page(PAGE);
        let table = "[[rule]]\nsays = \"f32\\n inside\"\ntests = [\"task_1_a\", \"task_1_gone\"]\nmutants = [\"gone\"]\n\
            [[rule]]\nsays = \"bias \\\\| forgotten\"\nuntested = \"\"\n[[rule]]\nsays = \"never said\"\n";
        let tests = BTreeSet::from(["task_1_a".to_owned()]);
        let problems = judge(&parse(table).unwrap(), &statements, &one_line(PAGE), &tests, &BTreeSet::new());
        assert_eq!(
            problems,
            [
                "\"f32 inside\" names the test task_1_gone, which is not there",
                "\"f32 inside\" names the mutant gone, which is not there",
                "\"bias \\| forgotten\" has `untested` without a reason, or beside `tests`",
                "neither the page nor a stub says \"never said\" any more",
                "the rule \"never said\" has no test",
                "Task 1 states a rule without a test: \"A row of NaN must stay NaN.\"",
            ]
        );
    }
}
