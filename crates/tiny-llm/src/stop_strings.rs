//! Stopping at given strings in streamed text.

/// What to do after a piece of text arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopStringOutcome {
    /// Text that can be shown now: no stop string begins in it.
    pub text: String,
    /// The stop string that was found. Neither it nor anything after it is ever shown.
    pub matched: Option<String>,
}

/// Looks for stop strings in text that arrives in pieces of any size.
///
/// A stop string may be spread over several pieces, so text that could be the beginning of one is held back until
/// more arrives. The result does not depend on how the text was cut: the stop string that *ends* first wins, and of
/// several that end at the same place the longest.
#[derive(Debug, Clone)]
pub struct StopStringMatcher {
    stop_strings: Vec<String>,
    /// Text that was received and not yet released.
    held_back: String,
}

impl StopStringMatcher {
    /// Empty stop strings are ignored.
    pub fn new(stop_strings: &[String]) -> Self {
        let stop_strings = stop_strings.iter().filter(|s| !s.is_empty()).cloned().collect();
        Self { stop_strings, held_back: String::new() }
    }

    /// Takes the next piece of text, and says what can be shown and whether a stop string is complete.
    ///
    /// After a match nothing stays held back: the stop string and what followed it in this piece are dropped.
    pub fn push(&mut self, text: &str) -> StopStringOutcome {
        // [task 1.6.3] StopStringMatcher::push
        todo!("week 1 day 6 task 3: StopStringMatcher::push - see book/src/week1/day6.md")
        // [end]
    }

    /// The text that is still held back when no more will come.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held_back)
    }

    // [task 1.6.3 helpers] StopStringMatcher::push
    // [end]
}
