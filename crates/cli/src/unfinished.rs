//! Running an engine that may still contain `todo!`.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};
use mlx_rs::error::Exception;

use crate::failure;

/// Runs `work`; a panic comes back as an error of one line.
///
/// The learner's crate panics at its first unfinished task, and may panic in code that is being written. Neither
/// should look like a crash of this program.
pub fn guard(work: impl FnOnce() -> Result<()>) -> Result<()> {
    let message = Arc::new(Mutex::new(String::new()));
    let recorded = Arc::clone(&message);
    panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or("a panic without a message");
        let place = info.location().map(|place| format!(" ({}:{})", place.file(), place.line()));
        if let Ok(mut message) = recorded.lock() {
            *message = format!("{text}{}", place.unwrap_or_default());
        }
    }));
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    // The hook holds the other reference; the default one is right again from here on.
    drop(panic::take_hook());
    match outcome {
        Ok(Ok(())) => Ok(()),
        // A panic inside an operation comes back as the error of the evaluation that waited for it.
        Ok(Err(error)) => Err(not_done(&failure::sentence(&error)).unwrap_or(error)),
        Err(_) => {
            let message = message.lock().map(|message| message.clone()).unwrap_or_default();
            Err(not_done(&message)
                .or_else(|| from_mlx(&message))
                .unwrap_or_else(|| anyhow!("the engine panicked: {message}")))
        }
    }
}

/// The error of MLX that `as_slice` and its like panic with, when an operation that was not evaluated yet fails.
fn from_mlx(message: &str) -> Option<anyhow::Error> {
    let (_, quoted) = message.split_once("Exception { what: \"")?;
    let (mut text, mut chars) = (String::new(), quoted.chars());
    loop {
        match chars.next()? {
            '"' => return Some(anyhow!(Exception::custom(text)).context("MLX")),
            '\\' => match chars.next()? {
                'n' => text.push('\n'),
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

/// What to say if `message` is that of a stub.
fn not_done(message: &str) -> Option<anyhow::Error> {
    let (_, task) = message.split_once("not yet implemented: ")?;
    Some(anyhow!(
        "the engine stops at a task that is not done yet: {task}\n\
         Do it, or run the model answer with `--solution reference`."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_is_named_wherever_it_stops() {
        let panicking = guard(|| todo!("week 1 day 1 task 1: softmax")).unwrap_err().to_string();
        assert!(panicking.contains("task that is not done yet: week 1 day 1 task 1: softmax"), "{panicking}");
        let from_an_operation = || Err(anyhow!("kv_append: panicked: not yet implemented: week 2 day 1 task 1"));
        let error = guard(from_an_operation).unwrap_err().to_string();
        assert!(error.starts_with("the engine stops at a task that is not done yet: week 2 day 1 task 1"), "{error}");
        let thrown = || {
            panic!(
                "called `Result::unwrap()` on an `Err` value: {:?}",
                Exception::custom("f: \"x\" is\nno at /a/b.cpp:7")
            )
        };
        assert_eq!(failure::sentence(&guard(thrown).unwrap_err()), "MLX: f: \"x\" is\nno");
        let other = guard(|| Err(anyhow!("no such file"))).unwrap_err().to_string();
        assert_eq!(other, "no such file");
    }
}
