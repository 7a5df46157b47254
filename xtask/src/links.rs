//! Follows every internal link of the built book: its page and its anchor must exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::chapters::Course;
use crate::error::Result;
use crate::workspace::{files_below, read_text};

#[derive(Debug)]
pub struct Outcome {
    pub n_pages: usize,
    pub n_links: usize,
    pub problems: Vec<String>,
}

struct Page {
    anchors: BTreeSet<String>,
    targets: Vec<String>,
}

/// Pages that mdBook makes up itself: every page again in one, the table of contents, the error
/// page with links from the site's root.
const MADE_UP: [&str; 3] = ["print.html", "toc.html", "404.html"];

/// Checks the HTML below `folder`, and that every task of `course` has its heading.
pub fn check(folder: &Path, course: &Course) -> Result<Outcome> {
    let mut pages = BTreeMap::new();
    for path in files_below(folder)? {
        let name = path.strip_prefix(folder).unwrap_or(&path).to_owned();
        let is_page = name.extension().is_some_and(|e| e == "html");
        if is_page && !MADE_UP.iter().any(|made_up| name == Path::new(made_up)) {
            pages.insert(name, read_page(&read_text(&path)?));
        }
    }

    let mut problems = Vec::new();
    let mut n_links = 0;
    for (name, page) in &pages {
        for target in &page.targets {
            if is_external(target) {
                continue;
            }
            n_links += 1;
            if let Some(problem) = broken(folder, &pages, name, target) {
                problems.push(format!("{}: {problem}", name.display()));
            }
        }
    }
    for chapter in &course.chapters {
        let name = PathBuf::from(&chapter.book).with_extension("html");
        for task in &chapter.tasks {
            match pages.get(&name) {
                None => problems.push(format!("{}: the page of day {} is missing", name.display(), chapter.id)),
                Some(page) if !page.anchors.contains(&task.anchor) => problems.push(format!(
                    "{}: no heading has the anchor #{} of task {}",
                    name.display(),
                    task.anchor,
                    task.id
                )),
                Some(_) => {}
            }
        }
    }
    problems.dedup();
    Ok(Outcome { n_pages: pages.len(), n_links, problems })
}

fn broken(folder: &Path, pages: &BTreeMap<PathBuf, Page>, from: &Path, target: &str) -> Option<String> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = file.split('?').next().unwrap_or_default();
    let to = if file.is_empty() {
        from.to_owned()
    } else {
        normalised(&from.parent().unwrap_or(Path::new("")).join(percent_decoded(file)))
    };
    let to = if folder.join(&to).is_dir() { to.join("index.html") } else { to };
    if !folder.join(&to).is_file() {
        return Some(format!("the link to {target} leads nowhere"));
    }
    let page = pages.get(&to)?;
    let missing = !anchor.is_empty() && !page.anchors.contains(&percent_decoded(anchor));
    missing.then(|| format!("the link to {target} has an anchor that {} lacks", to.display()))
}

fn is_external(target: &str) -> bool {
    let scheme = target.split([':', '/', '#', '?']).next().unwrap_or_default();
    target.starts_with("//") || (target[scheme.len()..].starts_with(':') && !scheme.is_empty())
}

/// `a/../b` as `b`, without asking the file system.
pub fn normalised(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                result.pop();
            }
            Component::CurDir => {}
            other => result.push(other),
        }
    }
    result
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'%')
            .then(|| tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The ids and the link targets of a page. Only tags are read, so code that talks about `href` is
/// safe: mdBook escapes `<` in it.
fn read_page(html: &str) -> Page {
    let mut page = Page { anchors: BTreeSet::new(), targets: Vec::new() };
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        // A script's text is not markup.
        if rest.starts_with("script") {
            let end = rest.find("</script").unwrap_or(rest.len());
            let tag_end = rest.find('>').unwrap_or(end).min(end);
            read_tag(&rest[..tag_end], &mut page);
            rest = &rest[end..];
            continue;
        }
        let end = rest.find('>').unwrap_or(rest.len());
        read_tag(&rest[..end], &mut page);
        rest = &rest[end..];
    }
    page
}

fn read_tag(tag: &str, page: &mut Page) {
    for (name, value) in [("id", attribute(tag, "id")), ("name", attribute(tag, "name"))] {
        if let Some(value) = value
            && (name == "id" || tag.starts_with("a "))
        {
            page.anchors.insert(value);
        }
    }
    page.targets.extend(attribute(tag, "href"));
    page.targets.extend(attribute(tag, "src"));
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let key = format!(" {name}=\"");
    let start = tag.find(&key)? + key.len();
    let value = &tag[start..start + tag[start..].find('"')?];
    Some(value.replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_anchors_are_read_from_tags_only() {
        let page = read_page(
            "<h2 id=\"task-1\"><a class=\"x\" href=\"../b.html#t&amp;u\">b</a></h2>\
             <code>&lt;a href=\"no\"&gt;</code><script>let s = '<a href=\"no\">';</script><img src=\"i.svg\">",
        );
        assert!(page.anchors.contains("task-1"));
        assert_eq!(page.targets, ["../b.html#t&u", "i.svg"]);
    }

    #[test]
    fn external_links_are_told_from_internal_ones() {
        for external in ["https://x.org/a", "mailto:a@b", "//x.org", "data:image/png;base64,x"] {
            assert!(is_external(external), "{external}");
        }
        for internal in ["a.html", "../a.html#b:c", "#b", "week1/day1.html?q=x:y"] {
            assert!(!is_external(internal), "{internal}");
        }
    }

    #[test]
    fn paths_and_escapes_are_resolved() {
        assert_eq!(normalised(Path::new("week1/../a/./b.html")), Path::new("a/b.html"));
        assert_eq!(percent_decoded("a%20b%zz%C3%A9"), "a b%zzé");
    }
}
