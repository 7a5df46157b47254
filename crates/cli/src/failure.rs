//! What the program says when it fails.

use std::ffi::OsString;

use checkpoint::untrusted;
use mlx_rs::error::Exception;

/// The error with its causes, each said once, without places in sources that are not the reader's, and without characters
/// that a terminal would obey.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain() {
        let text = match cause.downcast_ref::<Exception>() {
            Some(exception) => mlx_custom::message(exception).to_owned(),
            None => cause.to_string(),
        };
        // A cause that is part of the message has been said.
        if sentence.contains(&text) {
            continue;
        }
        if !sentence.is_empty() {
            sentence.push_str(": ");
        }
        sentence.push_str(&text);
    }
    let lines: Vec<String> = sentence.lines().map(untrusted::one_line).collect();
    lines.join("\n")
}

/// Which arguments are not UTF-8: clap refuses them without saying which they are.
pub fn not_utf8(arguments: impl Iterator<Item = OsString>) -> String {
    let shown = |argument: &OsString| untrusted::one_line(&format!("{argument:?}"));
    let wrong: Vec<_> =
        arguments.filter(|argument| argument.to_str().is_none()).map(|argument| shown(&argument)).collect();
    format!("{}: texts and numbers have to be UTF-8; only paths can hold other bytes", wrong.join(", "))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use anyhow::{Context, anyhow};

    use super::*;
    use crate::engine;

    #[test]
    fn every_cause_is_said_once_and_without_our_sources() {
        let from_mlx = "fused_layer: TINY_LLM_KERNEL is \"x\" at /home/me/mlx/transforms.cpp:73";
        let error = anyhow::Error::from(engine::Error::from(Exception::custom(from_mlx)));
        assert_eq!(sentence(&error), "MLX: fused_layer: TINY_LLM_KERNEL is \"x\"");
        let bare = anyhow::Error::from(Exception::custom("TINY_LLM_GPU is \"x\"")).context("choosing a device");
        assert_eq!(sentence(&bare), "choosing a device: TINY_LLM_GPU is \"x\"");
        let nested = Err::<(), _>(anyhow!("no such file")).context("reading a: no such file").unwrap_err();
        assert_eq!(sentence(&nested), "reading a: no such file");
    }

    #[test]
    fn lines_stay_and_escapes_do_not() {
        let error = anyhow!("does not compile:\n  \u{1b}[31merror\u{7}\r");
        assert_eq!(sentence(&error), "does not compile:\n  \\u{1b}[31merror\\u{7}\\r");
    }

    #[test]
    fn an_argument_that_is_no_text_is_named() {
        let arguments = [OsString::from("chat"), OsString::from_vec(b"caf\xe9".to_vec())];
        let text = not_utf8(arguments.into_iter());
        assert!(text.starts_with(r#""caf\xE9": "#), "{text}");
    }
}
