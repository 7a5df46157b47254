//! Names of tests in a reader's words, and what tells the tests that pass from those that fail.

use std::collections::BTreeSet;

use crate::chapters::Task;
use crate::verdict::{Status, TestReport};

/// More values than these are counted instead of listed.
const MAX_LISTED: usize = 4;
/// More functions than these are counted instead of listed.
const MAX_FUNCTIONS: usize = 4;
/// An argument's text beyond this is an expression, and says less than its number.
const MAX_VALUE: usize = 32;

/// One argument of a test: `name_01___plain_f32__` is the first value of `name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Argument {
    name: String,
    value: String,
}

/// How the tests of one task are called.
#[derive(Debug)]
pub struct Names<'a> {
    task: &'a Task,
    /// Those parts of paths that carry the task's prefix and are modules: a file may hold all tests of a task.
    modules: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    pub fn new(task: &'a Task, tests: &'a [TestReport]) -> Self {
        // A module is followed by functions, a function by nothing or by cases.
        let follows = |test: &'a TestReport| {
            let mut parts = test.name.split("::").skip_while(|part| !part.starts_with(&task.tests));
            Some((parts.next()?, parts.next()?))
        };
        let modules = tests.iter().filter_map(follows).filter(|(_, next)| argument(next).is_none());
        Self { task, modules: modules.map(|(module, _)| module).collect() }
    }

    /// The test function of a test's path, without modules and cases.
    pub fn function<'b>(&self, test: &'b str) -> &'b str {
        self.parts(test).next().unwrap_or(test)
    }

    /// The function's name and the cases.
    fn parts<'b>(&self, test: &'b str) -> impl Iterator<Item = &'b str> {
        let from_prefix = test.split("::").skip_while(|part| !part.starts_with(&self.task.tests));
        from_prefix.skip_while(|part| self.modules.contains(part))
    }

    /// `task_3_attention::name_01___plain_f32__` as `task_3_attention, plain_f32`.
    pub fn readable(&self, test: &str) -> String {
        let arguments = self.arguments(test);
        let shown = arguments.iter().map(|argument| match argument.name.as_str() {
            "name" | "dtype" => argument.value.clone(),
            "case" if argument.value.parse::<u32>().is_err() => argument.value.clone(),
            name => format!("{name} {}", argument.value),
        });
        std::iter::once(self.function(test).to_owned()).chain(shown).collect::<Vec<_>>().join(", ")
    }

    /// What the harness appended to the function's name.
    fn arguments(&self, test: &str) -> Vec<Argument> {
        self.parts(test).skip(1).filter_map(argument).collect()
    }

    /// A line for every test function of which some tests are wrong, that says which; in the order of the tests.
    /// Nothing where there is nothing to tell apart.
    pub fn groups(&self, tests: &[TestReport]) -> Vec<String> {
        let mut functions: Vec<&str> = Vec::new();
        for test in tests {
            let function = self.function(&test.name);
            if !functions.contains(&function) {
                functions.push(function);
            }
        }
        let is_right = |test: &&TestReport| test.status == Status::Passed;
        if !tests.iter().any(|test| is_right(&test)) {
            return Vec::new();
        }
        let mut lines = Vec::new();
        let (mut n_right, mut n_single) = (0, 0);
        for function in functions {
            let own = || tests.iter().filter(|test| self.function(&test.name) == function);
            let wrong: Vec<_> = own().filter(is_wrong).map(|test| self.arguments(&test.name)).collect();
            let right: Vec<_> = own().filter(is_right).map(|test| self.arguments(&test.name)).collect();
            match (right.len(), wrong.len()) {
                (0, 0) => {}
                (_, 0) => n_right += 1,
                (0, 1) => {
                    lines.push(format!("{function} fails"));
                    n_single += 1;
                }
                (0, n) => lines.push(format!("{function}: all {n} cases fail")),
                _ => lines.push(format!("{function}: {}", difference(&right, &wrong))),
            }
        }
        if lines.len() == 1 && n_single == 1 {
            return Vec::new(); // one test alone, which is shown anyway
        }
        if lines.len() > MAX_FUNCTIONS {
            let n_more = lines.len() - (MAX_FUNCTIONS - 1);
            lines.truncate(MAX_FUNCTIONS - 1);
            lines.push(format!("{n_more} more test functions fail, in some cases or all"));
        }
        match n_right {
            0 => {}
            1 => lines.push("1 other test function passes".to_owned()),
            n => lines.push(format!("{n} other test functions pass")),
        }
        lines
    }
}

/// `shapes_2_Shapes__HalfChunks` is `shapes`, `HalfChunks`; `case_3` is `case`, `3`; `case_3_ties` is `case`, `ties`.
fn argument(part: &str) -> Option<Argument> {
    let pieces: Vec<&str> = part.split('_').collect();
    let index = pieces.iter().position(|piece| !piece.is_empty() && piece.bytes().all(|b| b.is_ascii_digit()))?;
    let name = pieces[..index].join("_");
    let text = pieces[index + 1..].join("_");
    // A path such as `Dtype::Float32` keeps its last part; two underscores stand for other signs, too.
    let text = text.trim_matches('_');
    let text = match text.split_once("__") {
        Some((path, last)) if path.starts_with(char::is_uppercase) && !last.contains("__") => last,
        _ => text,
    };
    let value = match text {
        "Float32" => "f32",
        "Float16" => "f16",
        "Bfloat16" => "bf16",
        "" => pieces[index].trim_start_matches('0'),
        // A shape or a name that goes on: its place in the list, or its first words.
        text if text.len() > MAX_VALUE && text.starts_with(|c: char| c.is_ascii_lowercase()) => {
            let words = text.get(..MAX_VALUE).and_then(|start| start.rsplit_once('_'));
            return (!name.is_empty()).then(|| Argument { name, value: format!("{}..", words.map_or("", |(w, _)| w)) });
        }
        text if text.len() > MAX_VALUE => pieces[index].trim_start_matches('0'),
        text => text,
    };
    (!name.is_empty()).then(|| Argument { name, value: value.to_owned() })
}

fn is_wrong(test: &&TestReport) -> bool {
    matches!(test.status, Status::Failed | Status::Panicked | Status::TimedOut | Status::Crashed)
}

/// How the cases that are wrong differ from those that are right.
fn difference(right: &[Vec<Argument>], wrong: &[Vec<Argument>]) -> String {
    let all = right.len() + wrong.len();
    // What all cases have, with few values: a dtype, a shape.
    let every = || right.iter().chain(wrong);
    let names: BTreeSet<&str> = every().flatten().map(|argument| argument.name.as_str()).collect();
    let of_names = names.into_iter().filter_map(|name| {
        let values = |cases: &[Vec<Argument>]| -> BTreeSet<String> {
            cases.iter().flatten().filter(|argument| argument.name == name).map(|a| a.value.clone()).collect()
        };
        let (of_right, of_wrong) = (values(right), values(wrong));
        let in_all = every().all(|case| case.iter().any(|argument| argument.name == name));
        // `true` and `2` say nothing without their name.
        let named = |values: BTreeSet<String>| -> BTreeSet<String> {
            let says_nothing = |value: &String| value == "true" || value == "false" || value.parse::<f64>().is_ok();
            let one = |value: String| if says_nothing(&value) { format!("{name} = {value}") } else { value };
            values.into_iter().map(one).collect()
        };
        (in_all && of_right.is_disjoint(&of_wrong)).then(|| (named(of_right), named(of_wrong)))
    });
    let of_names: Vec<_> = of_names.collect();
    let with_at_most = |n: usize| of_names.iter().find(|(right, wrong)| right.len() + wrong.len() <= n);
    if let Some((of_right, of_wrong)) = with_at_most(all - 1) {
        return pass_and_fail(of_right, of_wrong);
    }
    // What a case's name says: the dtype first, then any other word.
    let words = |case: &Vec<Argument>| -> BTreeSet<String> {
        case.iter().flat_map(|a| a.value.split(['_', ' ']).map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    let (right, wrong): (Vec<_>, Vec<_>) = (right.iter().map(words).collect(), wrong.iter().map(words).collect());
    let dtypes = |cases: &[BTreeSet<String>]| -> Option<BTreeSet<String>> {
        let of =
            |case: &BTreeSet<String>| case.iter().find(|word| ["f32", "f16", "bf16"].contains(&word.as_str())).cloned();
        cases.iter().map(of).collect()
    };
    if let (Some(of_right), Some(of_wrong)) = (dtypes(&right), dtypes(&wrong))
        && of_right.is_disjoint(&of_wrong)
    {
        return pass_and_fail(&of_right, &of_wrong);
    }
    let in_all = |cases: &[BTreeSet<String>], word: &String| cases.iter().all(|case| case.contains(word));
    let in_none = |cases: &[BTreeSet<String>], word: &String| cases.iter().all(|case| !case.contains(word));
    let only = |those: &[BTreeSet<String>], others: &[BTreeSet<String>]| {
        let words = those.first().into_iter().flatten().filter(|word| word.parse::<f64>().is_err());
        words.into_iter().find(|word| in_all(those, word) && in_none(others, word)).cloned()
    };
    let counts = format!("{} of {all} cases fail", wrong.len());
    if wrong.len() > 1
        && let Some(word) = only(&wrong, &right)
    {
        return format!("{counts}, all those with \"{word}\" and no others");
    }
    if right.len() > 1
        && let Some(word) = only(&right, &wrong)
    {
        return format!("{counts}, all but those with \"{word}\"");
    }
    // Each case has a value of its own; with few cases that says it, too.
    with_at_most(MAX_LISTED).map_or(counts, |(of_right, of_wrong)| pass_and_fail(of_right, of_wrong))
}

fn pass_and_fail(right: &BTreeSet<String>, wrong: &BTreeSet<String>) -> String {
    let list = |values: &BTreeSet<String>, (one, many): (&str, &str)| {
        let verb = if values.len() == 1 { one } else { many };
        match values.len() {
            0..=MAX_LISTED => format!("{} {verb}", values.iter().cloned().collect::<Vec<_>>().join(", ")),
            n => format!("{n} cases {verb}"),
        }
    };
    format!("{}; {}", list(right, ("passes", "pass")), list(wrong, ("fails", "fail")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chapters::Course;

    fn task() -> Task {
        let text = "[[chapter]]\nid = \"1.1\"\ntitle = \"A\"\ntest = \"t\"\nbook = \"d.md\"\n[[chapter.task]]\nid = \"1.1.1\"\n\
             title = \"t\"\ntests = \"task_1_\"\nanchor = \"a\"\n";
        Course::parse(text).unwrap().chapters[0].tasks[0].clone()
    }

    fn reports(names: &[&str], status: &Status) -> Vec<TestReport> {
        let report = |name: &&str| TestReport {
            name: (*name).to_owned(),
            status: status.clone(),
            diagnosis: String::new(),
            printed: String::new(),
        };
        names.iter().map(report).collect()
    }

    fn lines(right: &[&str], wrong: &[&str]) -> Vec<String> {
        let tests = [reports(right, &Status::Passed), reports(wrong, &Status::Failed)].concat();
        Names::new(&task(), &tests).groups(&tests)
    }

    #[test]
    fn names_become_readable() {
        let long = "task_1_a::shape_2___3_usize__4_usize__5_usize__7_usize__8_usize__";
        let tests = [
            ("task_1_a::name_01___plain_f32__", "task_1_a, plain_f32"),
            ("task_1_a::name_1___tiny__::dtype_2_Dtype__Bfloat16", "task_1_a, tiny, bf16"),
            ("task_1_a::shapes_2_Shapes__HalfChunks", "task_1_a, shapes HalfChunks"),
            ("task_1_a::case_3", "task_1_a, case 3"),
            ("task_1_a::case_3_ties::bits_1_4", "task_1_a, ties, bits 4"),
            ("task_1_b", "task_1_b"),
            // A module of the task's tests; a function's name may look like a case.
            ("task_1_module::rows::name_1___one__", "rows, one"),
            ("task_1_module::is_258_times_coarser", "is_258_times_coarser"),
            (long, "task_1_a, shape 2"),
            (
                "task_1_a::name_3___mask_of_four_axes_and_two_leading_dims_f32__",
                "task_1_a, mask_of_four_axes_and_two..",
            ),
        ];
        let names: Vec<&str> = tests.iter().map(|(name, _)| *name).collect();
        let (task, reports) = (task(), reports(&names, &Status::Failed));
        let all = Names::new(&task, &reports);
        for (name, readable) in tests {
            assert_eq!(all.readable(name), readable);
        }
    }

    #[test]
    fn an_argument_that_separates_them_is_said() {
        let case = |shape: u8, dtype: &str| format!("task_1_a::shape_{shape}_S__{shape}x::dtype_1_Dtype__{dtype}");
        let cases = |dtype: &str| [case(1, dtype), case(2, dtype)];
        let (right, wrong) = (cases("Float32"), [cases("Float16"), cases("Bfloat16")].concat());
        let refs = |names: &[String]| names.iter().map(String::as_str).map(str::to_owned).collect::<Vec<_>>();
        let (right, wrong) = (refs(&right), refs(&wrong));
        let (right, wrong): (Vec<&str>, Vec<&str>) =
            (right.iter().map(String::as_str).collect(), wrong.iter().map(String::as_str).collect());
        assert_eq!(lines(&right, &wrong), ["task_1_a: f32 passes; bf16, f16 fail"]);
        let shapes = |n: u8| format!("task_1_sizes::shapes_{n}_Shapes__S{n}");
        let (first, second, third) = (shapes(1), shapes(2), shapes(3));
        assert_eq!(lines(&[&first], &[&second, &third]), ["task_1_sizes: S1 passes; S2, S3 fail"]);
        let per_row = |yes: bool, n: u8| format!("task_1_a::name_{n}___a_{n}__::per_row_1_{yes}");
        let (right, wrong) = ([per_row(true, 1), per_row(true, 2)], [per_row(false, 1), per_row(false, 2)]);
        let (right, wrong) = (right.each_ref().map(String::as_str), wrong.each_ref().map(String::as_str));
        assert_eq!(lines(&right, &wrong), ["task_1_a: per_row = true passes; per_row = false fails"]);
    }

    #[test]
    fn a_word_of_the_cases_names_that_separates_them_is_said() {
        let wrong = ["task_1_a::name_1___plain_f16__", "task_1_a::name_2___mask_f16__"];
        let right =
            ["task_1_a::name_3___plain_f32__", "task_1_a::name_4___mask_f32__", "task_1_a::name_5___wide_f32__"];
        assert_eq!(lines(&right, &wrong), ["task_1_a: f32 passes; f16 fails"]);
        let wrong = ["task_1_a::name_2___mask_f16__", "task_1_a::name_4___mask_f32__"];
        let right =
            ["task_1_a::name_1___plain_f16__", "task_1_a::name_3___plain_f32__", "task_1_a::name_5___wide_f32__"];
        assert_eq!(lines(&right, &wrong), ["task_1_a: 2 of 5 cases fail, all those with \"mask\" and no others"]);
        let right = ["task_1_a::name_1___plain_f16__", "task_1_a::name_3___plain_f32__"];
        let wrong = ["task_1_a::name_2___mask_f16__", "task_1_a::name_4___nan_f32__", "task_1_a::name_5___wide_f32__"];
        assert_eq!(lines(&right, &wrong), ["task_1_a: 3 of 5 cases fail, all but those with \"plain\""]);
    }

    #[test]
    fn functions_are_told_apart_and_long_lists_are_cut() {
        assert!(lines(&["task_1_a"], &["task_1_b"]).is_empty());
        let told = lines(&["task_1_a"], &["task_1_b", "task_1_c::case_1", "task_1_c::case_2"]);
        assert_eq!(told, ["task_1_b fails", "task_1_c: all 2 cases fail", "1 other test function passes"]);
        assert!(lines(&[], &["task_1_a", "task_1_b"]).is_empty());
        let wrong = ["task_1_a", "task_1_b", "task_1_c", "task_1_d", "task_1_e", "task_1_f"];
        let told = lines(&["task_1_x", "task_1_y"], &wrong);
        assert_eq!(told[3..], ["3 more test functions fail, in some cases or all", "2 other test functions pass"]);
    }
}
