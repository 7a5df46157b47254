//! The grader's result stream: one JSON object per comparison, one per line, appended to the file
//! that `TINY_LLM_RESULTS` names. Lines about [`kernels`](crate::kernels) stand between them, and are skipped here.

use tinyjson::JsonValue;

/// One comparison of a learner's array with the expected one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    pub case: String,
    pub passed: bool,
    /// The part of the tolerance that was left, 0 to 1; absent if nothing could be compared.
    pub headroom: Option<f64>,
    /// The known mistakes that give this answer, the nearest first.
    pub known: Vec<String>,
    /// The known mistakes whose answers are stored for this case.
    pub stored: Vec<String>,
    /// A pattern in the answer, perhaps there by chance.
    pub guess: Option<Guess>,
    /// What was seen and needs no guessing, such as an error.
    pub observed: Option<String>,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guess {
    pub pattern: String,
    pub sentence: String,
}

/// Reads the stream. A line cut short (the process was killed while writing) is skipped.
pub fn parse(stream: &str) -> Vec<Comparison> {
    stream.lines().filter_map(comparison).collect()
}

fn comparison(line: &str) -> Option<Comparison> {
    let value: JsonValue = line.parse().ok()?;
    let object = value.get::<std::collections::HashMap<String, JsonValue>>()?;
    let text = |key: &str| object.get(key).and_then(|v| v.get::<String>()).cloned();
    let texts = |key: &str| {
        let list = object.get(key)?.get::<Vec<JsonValue>>()?;
        Some(list.iter().filter_map(|text| text.get::<String>().cloned()).collect::<Vec<_>>())
    };
    let guess = text("pattern").zip(text("guess")).map(|(pattern, sentence)| Guess { pattern, sentence });
    Some(Comparison {
        case: text("case").unwrap_or_default(),
        passed: text("status")? == "pass",
        headroom: object.get("headroom").and_then(|v| v.get::<f64>()).copied(),
        // Without the list, the one cause is a known one.
        known: texts("known").unwrap_or_else(|| text("cause").into_iter().collect()),
        stored: texts("stored").unwrap_or_default(),
        guess,
        observed: text("observed"),
        message: text("message").unwrap_or_default(),
    })
}

/// The least headroom of all comparisons: how near the solution came to its tolerance.
pub fn least_headroom(comparisons: &[Comparison]) -> Option<f64> {
    comparisons.iter().filter_map(|c| c.headroom).reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_a_torn_one_is_skipped() {
        let stream = concat!(
            r#"{"test":"a","case":"s/x","status":"pass","max_error":1e-7,"tolerance":1e-6,"headroom":0.9,"cause":null,"message":""}"#,
            "\n",
            r#"{"test":"a","case":"s/y","status":"fail","headroom":0.2,"cause":"no scale","message":"m"}"#,
            "\n",
            r#"{"test":"a","case":"s/z","status":"error","known":[],"stored":["no scale","no mask"],"pattern":"factor","#,
            r#""guess":"times 2","observed":"NaN","message":"m"}"#,
            "\n",
            r#"{"test":"a","case":"#,
        );
        let comparisons = parse(stream);
        assert_eq!(comparisons.len(), 3);
        assert!(comparisons[0].passed && !comparisons[1].passed);
        assert_eq!(comparisons[1].known, ["no scale"]);
        assert_eq!(comparisons[2].stored, ["no scale", "no mask"]);
        let guess = Guess { pattern: "factor".to_owned(), sentence: "times 2".to_owned() };
        assert_eq!((&comparisons[2].guess, comparisons[2].observed.as_deref()), (&Some(guess), Some("NaN")));
        assert_eq!(least_headroom(&comparisons), Some(0.2));
        assert_eq!(least_headroom(&[]), None);
    }
}
