//! Error texts without the source locations of libraries.
//!
//! MLX ends its messages with a place in its own C++ source, mlx-rs adds one in Rust's standard library. Neither helps
//! a learner, whose own mistake is in neither file.

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
    use super::without_places;

    #[test]
    fn both_places_of_an_mlx_error_go() {
        let text = "MLX: \"[reshape] Cannot reshape array of size 18 into shape (3,2). at /a/mlx/ops.cpp:4512\" \
                    at /rustc/59/core/src/ops/function.rs:250:5";
        assert_eq!(without_places(text), "MLX: \"[reshape] Cannot reshape array of size 18 into shape (3,2).\"");
    }

    #[test]
    fn everything_else_stays() {
        for text in ["", "no such axis", "it ends at 3", "look at /tmp", "x at src/rope.rs:12:5", "at / at :1 at "] {
            assert_eq!(without_places(text), text);
        }
    }
}
