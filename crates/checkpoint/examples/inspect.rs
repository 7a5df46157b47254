//! Prints what a checkpoint holds, and how it would begin a chat:
//! `cargo run -p checkpoint --example inspect -- smollm2-135m`

use std::process::ExitCode;

use checkpoint::{Checkpoint, Message, Result, registry};

fn main() -> ExitCode {
    for name in std::env::args().skip(1) {
        if let Err(error) = inspect(&name) {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn inspect(name: &str) -> Result<()> {
    let checkpoint = Checkpoint::open(&registry::resolve(name)?)?;
    println!("{name}: {}", checkpoint.summary()?);
    println!("  stops at {:?}", checkpoint.config().eos_token_ids);
    let prompt = checkpoint.chat_template()?.render(&[Message::new("user", "Hello!")], true)?;
    let tokens = checkpoint.tokenizer()?.encode(&prompt, false)?;
    println!("  {prompt:?}\n  {tokens:?}");
    Ok(())
}
