//! Day 1.2.

/// `text` in capitals with an exclamation mark.
pub fn shout(text: &str) -> String {
    let mut loud = text.to_owned();
    // [task 1.2.1] shout
    loud = loud.to_uppercase();
    loud.push('!');
    // [end]
    loud
}

// [reference only] unit tests
#[cfg(test)]
mod tests {
    #[test]
    fn capitals() {
        assert_eq!(super::shout("a"), "A!");
    }
}
// [end]
