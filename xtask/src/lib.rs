//! The course's runner, `cargo xtask`.
//!
//! In reading order:
//!
//! - what is asked: [`cli`], [`arguments`], [`help`], [`workspace`], [`chapters`]
//! - grading: [`check`], [`cargo`] builds a day's tests, [`grade`] runs one task's, [`libtest`], [`results`] and
//!   [`kernels`] read what they wrote, [`verdict`] judges with [`causes`] and [`test_order`]; [`check_report`] shows, with
//!   [`test_names`] in words, the [`pieces`] of a task that are still open and the [`next_step`]; [`rules`] explains what is
//!   off limits
//! - around it: [`watch`], [`hint`], [`progress`], and [`solution`] (`diff`, `solve`, `reset`) on the marked
//!   [`regions`]
//! - the machine: [`setup`], [`doctor`], [`engine`] (`chat` and the like, at one of the
//!   [`stages`]), [`bench`] with [`bench_peers`], [`book`]
//! - another machine: [`bundle`] puts [`bundle_contents`] together, [`bundle_elf`] makes programs movable,
//!   [`bundle_needs`] finds out what the other machine must have, [`bundle_pack`] compresses and splits
//! - for authors: [`suite`] (`test`), [`author`], [`stubs`], [`fixtures`], [`author_check`], [`mutants`] and their
//!   [`mutant_trials`], many in one build with [`schemata`]
//!
//! Nothing here touches MLX: the runner builds in seconds, before anything else does.

pub mod arguments;
pub mod author;
pub mod author_check;
pub mod author_list;
pub mod author_rules;
pub mod author_solve;
pub mod bench;
pub mod bench_options;
pub mod bench_peers;
pub mod bindings;
pub mod book;
pub mod bundle;
pub mod bundle_contents;
pub mod bundle_elf;
pub mod bundle_needs;
pub mod bundle_options;
pub mod bundle_pack;
pub mod cargo;
pub mod causes;
pub mod chapters;
pub mod check;
pub mod check_report;
pub mod cli;
pub mod clock;
pub mod diff;
pub mod doctor;
pub mod engine;
pub mod error;
pub mod exit_code;
pub mod fixture_compare;
pub mod fixtures;
pub mod grade;
pub mod help;
pub mod hint;
pub mod json;
pub mod kernels;
pub mod keys;
pub mod language;
pub mod libtest;
pub mod links;
pub mod mutant_trials;
pub mod mutants;
pub mod next_step;
pub mod output;
pub mod parallel;
pub mod pieces;
pub mod process;
pub mod progress;
pub mod region_pairs;
pub mod regions;
pub mod results;
pub mod rules;
pub mod rust_source;
pub mod schemata;
pub mod scratch;
pub mod setup;
pub mod solution;
pub mod stages;
pub mod status_line;
pub mod stubs;
pub mod style;
pub mod suite;
pub mod table;
pub mod test_names;
pub mod test_order;
pub mod text_mutants;
pub mod this_machine;
pub mod verdict;
pub mod watch;
pub mod workspace;
