//! `tiny-llm convert`: a GGUF file as the folder that mlx-lm reads.

use anyhow::Result;
use checkpoint::{Checkpoint, untrusted};

use crate::arguments::Convert;
use crate::model;
use crate::output::note;

pub fn run(arguments: &Convert) -> Result<()> {
    let checkpoint = Checkpoint::open(&model::resolve(&arguments.model)?)?;
    checkpoint.write_mlx_folder(&arguments.output)?;
    note!("wrote {}", untrusted::path(&arguments.output));
    Ok(())
}
