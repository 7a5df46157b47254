//! The course's grader: it compares an answer with a fixture and says what is wrong with it.
//!
//! A test loads a [`Fixture`], asks one of its [`Case`]s for the inputs, runs the solution and hands
//! the result to [`Case::check`]:
//!
//! ```no_run
//! # use mlx_rs::Array;
//! # fn softmax(x: &Array, axis: i32) -> mlx_rs::error::Result<Array> { Ok(x.clone()) }
//! let fixture = grader::Fixture::load("week1_day1");
//! let case = fixture.case("softmax/rows_f32");
//! case.check(softmax(&case.array("x"), case.i32("axis")));
//! ```
//!
//! A failure says, in this order: the error or the wrong shape or dtype; NaN; the first entry that is
//! wrong with both values; how many are wrong and by how much; a small piece of both arrays; and the
//! probable cause, when the answer equals a known mistake. Known mistakes are the `wrong.*` tensors of
//! the fixture, written by the same program that wrote the expected values. What can be recognised on any
//! array (zeros, a constant factor, swapped axes) may be there by chance, so it is marked: "perhaps".
//!
//! In reading order: [`values`] (arrays as f64), [`compare`] (the tolerance), [`fixture`], [`cause`]
//! and [`layout`] (what went wrong), [`report`] (the message), [`check`] (pass or panic), [`results`]
//! (the stream that the runner reads), [`property`] (seeded random tests), [`guarded`] (memory that
//! ends at a page that must not be touched), [`self_test`] (the grader
//! graded with wrong answers).

pub mod cause;
pub mod check;
pub mod compare;
pub mod fixture;
mod fixture_file;
pub mod guarded;
pub mod layout;
mod places;
pub mod property;
pub mod report;
pub mod results;
mod rule;
pub mod self_test;
pub mod values;

pub use cause::number;
pub use check::{check_close, check_tokens, expect_error, expect_error_of_kind};
pub use compare::Tolerance;
pub use fixture::{Case, Fixture, FixtureError};
pub use guarded::Guarded;
pub use property::{Rng, property};
pub use rule::check_rule;
pub use self_test::{Verdict, wrong_variants};
pub use values::strided;
