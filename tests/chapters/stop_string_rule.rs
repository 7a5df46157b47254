//! What stop strings mean, said on whole texts: the oracle of day 1.6's matcher, which sees them in pieces.

use grader::Rng;

/// The rule on the whole text: the stop string that ends first wins, of several that end there the longest.
pub fn cut_at_stop_string(text: &str, stop_strings: &[String]) -> (String, Option<String>) {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    for end in ends {
        let matching = stop_strings.iter().filter(|stop| !stop.is_empty() && text[..end].ends_with(stop.as_str()));
        if let Some(stop) = matching.max_by_key(|stop| stop.len()) {
            return (text[..end - stop.len()].to_owned(), Some(stop.clone()));
        }
    }
    (text.to_owned(), None)
}

/// How many bytes at the end of the text may become a stop string.
pub fn undecided(text: &str, stop_strings: &[String]) -> usize {
    let starts = text.char_indices().map(|(at, _)| at);
    let mut ends = starts.map(|at| &text[at..]).filter(|end| stop_strings.iter().any(|stop| stop.starts_with(end)));
    ends.next().map_or(0, str::len)
}

pub fn random_text(rng: &mut Rng, max_chars: i32) -> String {
    (0..rng.between(0, max_chars)).map(|_| ['a', 'b', 'é'][rng.between(0, 2) as usize]).collect()
}
