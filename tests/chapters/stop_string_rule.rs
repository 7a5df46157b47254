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

/// What one `push` said, beside what it must say.
pub struct Pushed<'a> {
    pub stop_strings: &'a [String],
    /// The text released by this call.
    pub text: &'a str,
    pub matched: Option<&'a str>,
    pub expected_text: &'a str,
    pub expected_match: Option<&'a str>,
}

impl Pushed<'_> {
    pub fn is_right(&self) -> bool {
        self.text == self.expected_text && self.matched == self.expected_match
    }

    /// The mistake that this looks like.
    pub fn cause(&self) -> Option<&'static str> {
        match (self.matched, self.expected_match) {
            (None, Some(_)) => Some(
                "looks like: a stop string over several pieces is missed; search what was held back and the new \
                 piece together",
            ),
            (Some(""), _) => Some("looks like: an empty stop string matches; `new` leaves those out"),
            (Some(_), None) => Some("looks like: a stop string is reported that is not complete yet"),
            (Some(got), Some(right)) if got != right && right.ends_with(got) => {
                Some("looks like: the shorter of two stop strings that end at the same place; the longest of them wins")
            }
            (Some(got), Some(right)) if got != right => {
                Some(if self.stop_strings.first().map(String::as_str) == Some(got) {
                    "looks like: the first stop string of the list, or the one that begins first; the one that \
                     *ends* first wins"
                } else {
                    "looks like: the stop string that begins first, or is the longest; the one that *ends* first wins"
                })
            }
            (Some(_), Some(right)) if self.text.ends_with(right) => Some("looks like: the stop string itself is shown"),
            (Some(_), Some(right)) if self.text.contains(right) => {
                Some("looks like: the stop string and what follows it are shown, or a later one of equals was taken")
            }
            (Some(_), Some(_))
                if self.expected_text.starts_with(self.text) || self.expected_text.ends_with(self.text) =>
            {
                Some("looks like: text in front of the stop string is lost; it is released with the match")
            }
            (None, None) if self.text.len() > self.expected_text.len() => Some(
                "looks like: too little is held back; hold back the longest end of the text that some stop string \
                 begins with",
            ),
            (None, None) if self.text.len() < self.expected_text.len() => {
                Some("looks like: more is held back than the longest end of the text that some stop string begins with")
            }
            _ => None,
        }
    }
}

/// The cause of a panic in the matcher.
pub fn cause_of_panic(text: &str) -> Option<String> {
    let is_cut = text.contains("char boundary") || text.contains("character boundary");
    let cause =
        "looks like: the text is cut inside a character; a character may have several bytes, so go by char_indices";
    is_cut.then(|| cause.to_owned())
}
