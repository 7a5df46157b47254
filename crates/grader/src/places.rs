//! Error texts without the source locations of libraries.
//!
//! MLX ends its messages with a place in its own C++ source, mlx-rs adds one in Rust's standard library. Neither helps
//! a learner, whose own mistake is in neither file.

/// An error's text as a learner should read it: without places in other people's sources, without the wrapping of an
/// `unwrap`, and without saying anything twice.
pub(crate) fn plain_words(text: &str) -> String {
    let text = without_places(&unwrapped(text));
    let text = text.replace("panicked: panicked: ", "panicked: ").replace("MLX: MLX: ", "MLX: ");
    let mut said: Vec<&str> = Vec::new();
    for line in text.lines() {
        let new = !said.iter().any(|earlier| !line.trim().is_empty() && earlier.contains(line.trim()));
        if new {
            said.push(line);
        }
    }
    said.join("\n").trim_end().to_owned()
}

/// `x` of "called `Result::unwrap()` on an `Err` value: Exception { what: "x", location: .. }".
fn unwrapped(text: &str) -> String {
    const UNWRAP: &str = "called `Result::unwrap()` on an `Err` value: ";
    let Some((before, value)) = text.split_once(UNWRAP) else { return text.to_owned() };
    for field in ["what: \"", "message: \""] {
        if let Some((_, quoted)) = value.split_once(field) {
            let end = quoted.match_indices('"').map(|(at, _)| at).find(|&at| !quoted[..at].ends_with('\\'));
            let message = &quoted[..end.unwrap_or(quoted.len())];
            return format!("{before}{}", message.replace("\\n", "\n").replace("\\\"", "\""));
        }
    }
    format!("{before}{value}")
}

/// Removes every ` at <absolute path>:<line>` from an error's text. A relative path stays: it is in this repository.
pub(crate) fn without_places(text: &str) -> String {
    const AT: &str = " at ";
    let mut kept = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(AT) {
        let after = &rest[at + AT.len()..];
        let end = after.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(after.len());
        if is_place(&after[..end]) {
            kept.push_str(&rest[..at]);
            rest = &after[end..];
        } else {
            kept.push_str(&rest[..at + AT.len()]);
            rest = after;
        }
    }
    kept + rest
}

/// `/a/b.cpp:12` or `/a/b.rs:12:5`.
fn is_place(word: &str) -> bool {
    let ends_in_line = word.rsplit(':').next().is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    word.starts_with('/') && word.contains(':') && ends_in_line
}

#[cfg(test)]
mod tests {
    use super::{plain_words, without_places};

    #[test]
    fn both_places_of_an_mlx_error_go() {
        let text = "MLX: \"[reshape] Cannot reshape array of size 18 into shape (3,2). at /a/mlx/ops.cpp:4512\" \
                    at /rustc/59/core/src/ops/function.rs:250:5";
        assert_eq!(without_places(text), "MLX: \"[reshape] Cannot reshape array of size 18 into shape (3,2).\"");
    }

    #[test]
    fn an_unwrap_and_what_is_said_twice_go() {
        let text = "MLX: matmul: panicked: called `Result::unwrap()` on an `Err` value: Exception { what: \"[matmul] \
                    sizes \\\"3\\\" and 4\", location: Location { file: \"/a/b.rs\", line: 1, col: 2 } }";
        assert_eq!(plain_words(text), "MLX: matmul: panicked: [matmul] sizes \"3\" and 4");
        let twice = "kernel x: threads 0 and 1 race at /a/b.cpp:7\n  on out[3]\nthreads 0 and 1 race\n";
        assert_eq!(plain_words(twice), "kernel x: threads 0 and 1 race\n  on out[3]");
        assert_eq!(plain_words("InvalidArgument: no heads"), "InvalidArgument: no heads");
    }

    #[test]
    fn everything_else_stays() {
        for text in ["", "no such axis", "it ends at 3", "look at /tmp", "x at src/rope.rs:12:5", "at / at :1 at "] {
            assert_eq!(without_places(text), text);
        }
    }
}
