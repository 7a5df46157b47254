//! The model answer of a course in miniature.
//!
//! Numbers first, then words.

pub mod numbers;
pub mod words;
