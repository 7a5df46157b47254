//! `tiny-llm chat`: a conversation with an instruction-tuned model.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::{Context, Result, bail};
use checkpoint::{ChatTemplate, Message, Tokenizer};

use crate::arguments::Chat;
use crate::generate::stream;
use crate::model::{Loaded, load};
use crate::report;

pub fn run(arguments: &Chat) -> Result<()> {
    let loaded = load(&arguments.model)?;
    let template = loaded.checkpoint.chat_template()?;
    let tokenizer = loaded.tokenizer()?;
    let mut conversation = Conversation { loaded, tokenizer, template, messages: Vec::new() };
    if let Some(system) = &arguments.system {
        conversation.messages.push(Message::new("system", system));
    }
    match &arguments.question {
        Some(question) => conversation.turn(question, arguments),
        None if io::stdin().is_terminal() => conversation.repl(arguments),
        None => {
            let mut question = String::new();
            io::stdin().read_to_string(&mut question).context("reading the question from standard input")?;
            conversation.turn(question.trim(), arguments)
        }
    }
}

struct Conversation {
    loaded: Loaded,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    messages: Vec<Message>,
}

impl Conversation {
    /// One question and its answer, both remembered for the next turn.
    fn turn(&mut self, question: &str, arguments: &Chat) -> Result<()> {
        if question.is_empty() {
            bail!("the question is empty");
        }
        self.messages.push(Message::new("user", question));
        let answered = self.answer(arguments);
        if answered.is_err() {
            // A question without an answer would confuse the next turn.
            self.messages.pop();
        }
        let answer = answered?;
        self.messages.push(Message::new("assistant", answer));
        Ok(())
    }

    fn answer(&self, arguments: &Chat) -> Result<String> {
        let prompt = self.template.render(&self.messages, true)?;
        // The template writes the special tokens itself.
        let tokens = self.tokenizer.encode(&prompt, false)?;
        let generation = stream(&self.loaded, &self.tokenizer, &tokens, &arguments.sampling, true)?;
        report::print_timings(&generation);
        Ok(generation.text)
    }

    fn repl(&mut self, arguments: &Chat) -> Result<()> {
        eprintln!("Type a message. /reset forgets the conversation, /exit (or Ctrl-D) ends it.");
        let n_instructions = self.messages.len();
        let mut lines = io::stdin().lock().lines();
        loop {
            eprint!("> ");
            io::stderr().flush()?;
            let Some(line) = lines.next() else {
                eprintln!();
                return Ok(());
            };
            match line?.trim() {
                "" => continue,
                "/exit" | "/quit" => return Ok(()),
                "/reset" => self.messages.truncate(n_instructions),
                command if command.starts_with('/') => {
                    eprintln!("unknown command {command}; there are /reset and /exit")
                }
                question => {
                    // A conversation that outgrew the context is told so, and goes on after /reset.
                    if let Err(error) = self.turn(question, arguments) {
                        eprintln!("error: {error:#}");
                    }
                }
            }
        }
    }
}
