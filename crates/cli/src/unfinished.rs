//! Running an engine that may still contain `todo!`.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};

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
    outcome.unwrap_or_else(|_| {
        let message = message.lock().map(|message| message.clone()).unwrap_or_default();
        Err(match message.strip_prefix("not yet implemented: ") {
            Some(task) => anyhow!(
                "the engine stops at a task that is not done yet: {task}\n\
                 Do it, or run the model answer with `--solution reference`."
            ),
            None => anyhow!("the engine panicked: {message}"),
        })
    })
}
