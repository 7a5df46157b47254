//! Which of the course's parts a loaded model uses: what a day bought is measured by running the stage before it.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// How far the engine has come. Every stage contains the ones before it, and all of them compute the same function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Stage {
    /// Week 1: every step recomputes the whole sequence.
    Dense,
    /// Day 2.1: keys and values of earlier tokens are kept.
    Cached,
    /// Day 2.2a: weights that the checkpoint stores quantized stay so, and are multiplied in plain loops.
    Packed,
    /// Day 2.2b: they are multiplied by a fast kernel.
    Quantized,
    /// Day 2.2c: neighbouring small operations run as one.
    Fused,
    /// Day 2.4: attention never holds its matrix of scores.
    #[default]
    Flash,
}

impl Stage {
    /// All of them, in the order in which the course reaches them.
    pub const ALL: [Self; 6] = [Self::Dense, Self::Cached, Self::Packed, Self::Quantized, Self::Fused, Self::Flash];

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Cached => "cached",
            Self::Packed => "packed",
            Self::Quantized => "quantized",
            Self::Fused => "fused",
            Self::Flash => "flash",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Stage {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::invalid("Stage", format!("there is no stage `{name}`; choose one of {known}"))
        })
    }
}
