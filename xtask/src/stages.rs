//! The stages at which the engine can be run, and which of them a learner has reached.

use crate::chapters::Course;
use crate::error::{Error, Result};
use crate::progress::Progress;

/// A stage as the engine calls it, and the day that makes it possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    pub name: &'static str,
    /// `None` for the one that week 1 makes.
    day: Option<&'static str>,
}

impl Stage {
    /// The day that makes it possible.
    pub fn day(&self) -> Option<&'static str> {
        self.day
    }
}

/// In the order of the course; each contains the ones before it.
pub const STAGES: [Stage; 6] = [
    Stage { name: "dense", day: None },
    Stage { name: "cached", day: Some("2.1") },
    Stage { name: "packed", day: Some("2.2a") },
    Stage { name: "quantized", day: Some("2.2b") },
    Stage { name: "fused", day: Some("2.2c") },
    Stage { name: "flash", day: Some("2.4") },
];

/// The stages that the learner's crate can run, judged by the days that are ticked off; at least the first.
pub fn reached(course: &Course, progress: &Progress) -> &'static [Stage] {
    let is_finished = |day: &str| course.chapters.iter().any(|chapter| chapter.id == day && progress.finished(chapter));
    let n = STAGES.iter().take_while(|stage| stage.day.is_none_or(is_finished)).count();
    &STAGES[..n]
}

/// Stages from a list such as `dense,flash`, in the order of the course.
pub fn parse(list: &str) -> Result<Vec<Stage>> {
    let names: Vec<&str> = list.split(',').collect();
    if let Some(unknown) = names.iter().find(|name| STAGES.iter().all(|stage| stage.name != **name)) {
        let known: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
        return Err(Error::new(format!("there is no stage `{unknown}`"))
            .remedy(format!("choose from {}, or all", known.join(", "))));
    }
    Ok(STAGES.into_iter().filter(|stage| names.contains(&stage.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learner_has_the_stages_whose_days_are_finished() {
        let chapter = |day: &str| {
            format!(
                "[[chapter]]\nid = \"{day}\"\ntitle = \"t\"\ntest = \"t\"\nbook = \"b.md\"\nfixtures = []\n\
                 [[chapter.task]]\nid = \"{day}.1\"\ntitle = \"t\"\nitems = []\ntests = \"task_1_\"\n\
                 hints = [\"a\", \"b\", \"c\"]\nanchor = \"task-1-t\"\npasses_untouched = []\n"
            )
        };
        let course = Course::parse(&["2.1", "2.2a", "2.2b", "2.2c", "2.4"].map(chapter).concat()).unwrap();
        let last = |marks: &str| reached(&course, &Progress::parse(marks)).last().unwrap().name;
        assert_eq!(last(""), "dense");
        assert_eq!(last("2.1.1 pass\n"), "cached");
        assert_eq!(last("2.1.1 pass\n2.2a.1 pass\n"), "packed");
        assert_eq!(last("2.1.1 pass\n2.2a.1 pass\n2.2b.1 pass\n"), "quantized");
        assert_eq!(last("2.1.1 pass\n2.2a.1 tried\n2.4.1 pass\n"), "cached");
        assert_eq!(last("2.1.1 pass\n2.2a.1 pass\n2.2b.1 pass\n2.2c.1 pass\n"), "fused");
        assert_eq!(last("2.1.1 pass\n2.2a.1 pass\n2.2b.1 pass\n2.2c.1 pass\n2.4.1 pass\n"), "flash");
    }

    #[test]
    fn stages_are_chosen_by_name() {
        let names = |list| parse(list).unwrap().iter().map(|stage| stage.name).collect::<Vec<_>>();
        assert_eq!(names("flash,dense"), ["dense", "flash"]);
        let error = parse("dense,fast").unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no stage `fast`; choose from dense, cached, packed, quantized, fused, flash, or all"
        );
    }
}
