//! Many mutants in one build ("mutant schemata": Untch, Offutt, Harrold, 1993).
//!
//! A build and its links take longer than most tests. So a function in which mistakes are to be made gets one body for
//! each of them, and the original; a variable of the environment chooses when the tests run:
//!
//! ```text
//! fn double(x: f32) -> f32 { match crate::mutant_switch::active() {
//! 7 => { times(3.0, x) }
//! _ => { times(2.0, x) }
//! } }
//! ```
//!
//! A mistake outside a body needs a build of its own, and so does one in a `const fn`, which may read no environment,
//! or in a function with an `impl Trait` for a result, whose bodies would be of different types.
//!
//! Functions marked `#[inline(always)]` are copied into their callers, and so are those into theirs: with several bodies
//! each, the copies would multiply. So their changed bodies stand out of line, and only the original is copied.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::cargo::CompileError;
use crate::mutants::Mutant;
use crate::rust_source::functions;
use crate::stubs::StubFile;

/// The variable that holds the active mutant's number.
pub const SWITCH: &str = "TINY_LLM_MUTANT";

/// Every number belongs to one mutant; no mutant has this one.
pub const NO_MUTANT: u32 = 0;

const LIB: &str = "src/lib.rs";

/// Bodies that are not chosen leave helpers unused.
const ATTRIBUTES: &str = "#![allow(unused)]\n";

/// Added to the crate: which mutant is active. Small functions ask it often, so it is one load from memory.
const SWITCH_MODULE: &str = r#"
pub mod mutant_switch {
    use std::sync::atomic::{AtomicU32, Ordering};

    const NOT_READ: u32 = u32::MAX;
    static ACTIVE: AtomicU32 = AtomicU32::new(NOT_READ);

    #[inline(always)]
    pub fn active() -> u32 {
        match ACTIVE.load(Ordering::Relaxed) {
            NOT_READ => read(),
            number => number,
        }
    }

    #[inline(never)]
    pub fn out_of_line<R>(body: impl FnOnce() -> R) -> R {
        body()
    }

    #[cold]
    #[inline(never)]
    fn read() -> u32 {
        let number = std::env::var("TINY_LLM_MUTANT").map_or(0, |text| text.parse().expect("a mutant's number"));
        ACTIVE.store(number, Ordering::Relaxed);
        number
    }
}
"#;

/// Before and behind a body that is not to be copied.
const OUT_OF_LINE: (&str, &str) = ("crate::mutant_switch::out_of_line(|| ", "),");

/// A crate that holds several mutants.
pub struct Combined {
    pub files: Vec<StubFile>,
    arms: Vec<Arm>,
}

/// Where a mutant's body stands in the combined text.
struct Arm {
    number: u32,
    file: PathBuf,
    /// Counted from 1, as compilers count.
    lines: Range<usize>,
}

/// A mutant's place: a body, and the same with the mistake in it.
struct Site {
    body: Range<usize>,
    mutated: String,
    is_inlined: bool,
}

/// Whether a mutant can be one of several in `source`, its file.
pub fn fits(mutant: &Mutant, source: &str) -> bool {
    site(mutant, source).is_some()
}

/// The crate `files` with those of the numbered mutants that fit.
pub fn combine(files: &[StubFile], mutants: &[(u32, &Mutant)]) -> Combined {
    let mut combined = Combined { files: Vec::new(), arms: Vec::new() };
    for file in files {
        let here = mutants.iter().filter(|(_, mutant)| mutant.file == file.path);
        let sites = here.filter_map(|(number, mutant)| Some((*number, site(mutant, &file.text)?))).collect();
        let (mut text, arms) = with_sites(&file.text, sites);
        let mut n_new_lines = 0;
        if file.path == Path::new(LIB) {
            n_new_lines = ATTRIBUTES.lines().count();
            text = format!("{ATTRIBUTES}{text}{SWITCH_MODULE}");
        }
        combined.arms.extend(arms.into_iter().map(|(number, lines)| Arm {
            number,
            file: file.path.clone(),
            lines: lines.start + n_new_lines..lines.end + n_new_lines,
        }));
        combined.files.push(StubFile { path: file.path.clone(), text });
    }
    combined
}

impl Combined {
    /// The mutants in whose bodies the compiler found something wrong.
    pub fn blamed(&self, errors: &[CompileError]) -> Vec<u32> {
        let is_blamed = |arm: &Arm| {
            let mut places = errors.iter().flat_map(|error| &error.places);
            places.any(|place| Path::new(&place.file).ends_with(&arm.file) && arm.lines.contains(&place.line))
        };
        self.arms.iter().filter(|arm| is_blamed(arm)).map(|arm| arm.number).collect()
    }
}

fn site(mutant: &Mutant, source: &str) -> Option<Site> {
    let at = source.find(&mutant.find)?;
    let changed = mutant.apply(source).ok()?;
    let inside = |body: &Range<usize>| body.start < at && at + mutant.find.len() < body.end;
    let function = functions(source).ok()?.into_iter().find(|function| inside(&function.body))?;
    if function.is_const || function.returns_impl {
        return None;
    }
    // The text may hold one brace of a pair. Only if the same function ends behind the new text is it a body as before.
    let end = function.body.end + mutant.replace.len() - mutant.find.len();
    let after = functions(&changed).ok()?;
    let same = after.iter().any(|f| f.start == function.start && f.body == (function.body.start..end));
    let mutated = changed.get(function.body.start..end)?.to_owned();
    // `#![allow(..)]` may stand at the beginning of a function and not of an arm.
    let has_attributes =
        mutated[1..].trim_start().starts_with("#!") || source[function.body.start + 1..].trim_start().starts_with("#!");
    (same && !has_attributes).then_some(Site { body: function.body, mutated, is_inlined: function.is_inlined })
}

/// `source` with a choice between bodies at every site, and the lines of each site's own.
fn with_sites(source: &str, mut sites: Vec<(u32, Site)>) -> (String, Vec<(u32, Range<usize>)>) {
    sites.sort_by_key(|(number, site)| (site.body.start, *number));
    let mut text = String::new();
    let mut arms = Vec::new();
    let mut next = 0;
    for same_body in sites.chunk_by(|(_, one), (_, other)| one.body == other.body) {
        let Some((_, Site { body, .. })) = same_body.first() else { continue };
        text.push_str(&source[next..body.start]);
        text.push_str("{ match crate::mutant_switch::active() {\n");
        for (number, site) in same_body {
            let first_line = text.matches('\n').count() + 1;
            let (before, behind) = if site.is_inlined { OUT_OF_LINE } else { ("", "") };
            text.push_str(&format!("{number} => {before}{}{behind}\n", site.mutated));
            arms.push((*number, first_line..text.matches('\n').count() + 1));
        }
        text.push_str(&format!("_ => {}\n}} }}", &source[body.clone()]));
        next = body.end;
    }
    text.push_str(&source[next..]);
    (text, arms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::Place;

    fn mutant(file: &str, find: &str, replace: &str) -> Mutant {
        Mutant {
            id: find.to_owned(),
            file: PathBuf::from(file),
            find: find.to_owned(),
            replace: replace.to_owned(),
            description: String::new(),
            kills: vec!["1.1.1".to_owned()],
        }
    }

    fn file(path: &str, text: &str) -> StubFile {
        StubFile { path: PathBuf::from(path), text: text.to_owned() }
    }

    const SOURCE: &str = "const N: u8 = 2;\nfn a(x: u8) -> u8 {\n    x + N\n}\nfn b() -> u8 { 5 }\n";

    #[test]
    fn mutants_of_one_function_share_its_choice() {
        let [plus, n, five] = [("x +", "x -"), ("+ N", "+ 1"), ("5", "6")].map(|(f, r)| mutant("src/a.rs", f, r));
        let combined = combine(&[file("src/a.rs", SOURCE)], &[(5, &five), (7, &plus), (9, &n)]);
        let expected = "const N: u8 = 2;\nfn a(x: u8) -> u8 { match crate::mutant_switch::active() {\n\
            7 => {\n    x - N\n}\n9 => {\n    x + 1\n}\n_ => {\n    x + N\n}\n} }\n\
            fn b() -> u8 { match crate::mutant_switch::active() {\n5 => { 6 }\n_ => { 5 }\n} }\n";
        assert_eq!(combined.files[0].text, expected);
    }

    #[test]
    fn a_file_without_mutants_stays_and_the_crate_gets_the_switch() {
        let files = [file("src/lib.rs", "//! Doc.\n\npub mod a;\n"), file("src/a.rs", SOURCE)];
        let combined = combine(&files, &[]);
        assert_eq!(combined.files[1], files[1]);
        let lib = &combined.files[0].text;
        assert!(lib.starts_with("#![allow(unused)]\n//! Doc.\n") && lib.contains("pub mod mutant_switch {"), "{lib}");
        assert!(SWITCH_MODULE.contains(&format!("\"{SWITCH}\"")));
    }

    #[test]
    fn what_is_not_in_a_body_does_not_fit() {
        let fits = |source: &str, find: &str, replace: &str| fits(&mutant("src/a.rs", find, replace), source);
        assert!(fits(SOURCE, "x + N", "x"));
        assert!(!fits(SOURCE, "= 2", "= 3"), "a constant");
        assert!(!fits(SOURCE, "a(x: u8)", "a(y: u8)"), "a signature");
        assert!(!fits(SOURCE, "u8 {\n    x", "u8 {\n    N"), "the brace of the body itself");
        assert!(!fits(SOURCE, "}\nfn b", "}\n\nfn b"), "the end of one and the beginning of the next");
        assert!(!fits(SOURCE, "u8", "u16"), "more than one place");
        assert!(!fits("const fn a() -> u8 { 5 }", "5", "6"));
        assert!(!fits("fn a() -> impl Iterator<Item = u8> { [5].into_iter() }", "5", "6"));
        assert!(!fits("fn a() -> u8 {\n    #![allow(unused)]\n    5\n}", "5", "6"), "an inner attribute");
    }

    #[test]
    fn changed_bodies_of_functions_that_are_copied_stand_out_of_line() {
        let source = "#[inline(always)]\nfn a() -> u8 { 5 }\n";
        let combined = combine(&[file("src/a.rs", source)], &[(7, &mutant("src/a.rs", "5", "6"))]);
        let expected = "#[inline(always)]\nfn a() -> u8 { match crate::mutant_switch::active() {\n\
            7 => crate::mutant_switch::out_of_line(|| { 6 }),\n_ => { 5 }\n} }\n";
        assert_eq!(combined.files[0].text, expected);
    }

    #[test]
    fn half_a_pair_of_braces_fits_if_the_function_still_ends_where_it_did() {
        let source = "fn a(x: u8) -> u8 { if x > 3 { 1 } else { 2 } }\nfn b() {}\n";
        let fits = |find: &str, replace: &str| fits(&mutant("src/a.rs", find, replace), source);
        assert!(fits("x > 3 {", "x < 3 {"));
        assert!(!fits("x > 3 {", "x < 3 {{"), "a brace too many");
        assert!(!fits("else { 2 } }", "}"), "a brace too few");
        assert!(!fits("1 }", "1 } } fn c() { {"), "another function");
    }

    #[test]
    fn an_error_is_blamed_on_the_body_it_is_in() {
        let [plus, n] = [("x +", "y +"), ("+ N", "+ 1")].map(|(find, replace)| mutant("src/a.rs", find, replace));
        let lib = mutant("src/lib.rs", "5", "6");
        let files = [file("src/lib.rs", "fn b() -> u8 { 5 }\n"), file("src/a.rs", SOURCE)];
        let combined = combine(&files, &[(7, &plus), (9, &n), (11, &lib)]);
        let blamed = |file: &str, text: &str| {
            let source = &combined.files.iter().find(|f| f.path == Path::new(file)).unwrap().text;
            let line = source[..source.find(text).unwrap()].matches('\n').count() + 1;
            let place = Place { file: format!("solution/{file}"), line };
            let error = CompileError { target: String::new(), rendered: String::new(), places: vec![place] };
            combined.blamed(&[error])
        };
        assert_eq!(blamed("src/a.rs", "y + N"), [7]);
        assert_eq!(blamed("src/a.rs", "x + 1"), [9]);
        assert_eq!(blamed("src/lib.rs", "6"), [11]);
        assert!(blamed("src/a.rs", "x + N").is_empty(), "the original is nobody's fault");
    }
}
