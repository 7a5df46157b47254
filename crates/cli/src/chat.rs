//! `tiny-llm chat`: a conversation with an instruction-tuned model.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::{Context, Result, bail};
use checkpoint::{ChatTemplate, Message, Tokenizer, untrusted};

use crate::arguments::Chat;
use crate::failure;
use crate::generate::stream;
use crate::model::{Loaded, Setting};
use crate::output::{Closed, note};
use crate::report;

pub fn run(arguments: &Chat) -> Result<()> {
    let setting = Setting::new(&arguments.model)?;
    arguments.sampling.sampler()?;
    let opened = setting.open()?;
    // First, as they take less time than the weights.
    let template = opened.checkpoint.chat_template()?;
    let tokenizer = opened.tokenizer()?;
    let mut conversation = Conversation { loaded: opened.load()?, tokenizer, template, messages: Vec::new() };
    if let Some(system) = &arguments.system {
        conversation.messages.push(Message::new("system", system));
    }
    match &arguments.question {
        Some(question) => conversation.turn(question, arguments),
        None if io::stdin().is_terminal() => conversation.repl(&mut io::stdin().lock(), arguments),
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

    fn repl(&mut self, input: &mut dyn BufRead, arguments: &Chat) -> Result<()> {
        note!(
            "Type a message. /reset forgets the conversation, /exit (or Ctrl-D) ends it; // begins a message that begins with /."
        );
        let n_instructions = self.messages.len();
        loop {
            let _ = write!(io::stderr(), "> ");
            match Line::read(input)? {
                Line::End => {
                    note!();
                    return Ok(());
                }
                Line::Exit => return Ok(()),
                Line::Empty => (),
                Line::Reset => self.messages.truncate(n_instructions),
                Line::NotText => note!("that line is not UTF-8, and was not sent; type it again"),
                Line::Unknown(command) => {
                    let command = untrusted::one_line(&command);
                    note!("unknown command {command}; there are /reset and /exit, and // begins a message with /");
                }
                Line::Message(question) => match self.turn(&question, arguments) {
                    // A conversation that outgrew the context is told so, and goes on after /reset.
                    Err(error) if !error.is::<Closed>() => note!("error: {}", failure::sentence(&error)),
                    outcome => outcome?,
                },
            }
        }
    }
}

/// A line that the user typed.
#[derive(Debug, PartialEq)]
enum Line {
    End,
    Empty,
    Exit,
    Reset,
    Unknown(String),
    NotText,
    Message(String),
}

impl Line {
    /// # Errors
    /// When the input cannot be read.
    fn read(input: &mut dyn BufRead) -> Result<Self> {
        let mut bytes = Vec::new();
        if input.read_until(b'\n', &mut bytes).context("reading a line")? == 0 {
            return Ok(Self::End);
        }
        let Ok(text) = str::from_utf8(&bytes) else { return Ok(Self::NotText) };
        Ok(match text.trim() {
            "" => Self::Empty,
            "/exit" | "/quit" => Self::Exit,
            "/reset" => Self::Reset,
            escaped if escaped.starts_with("//") => Self::Message(escaped[1..].to_owned()),
            command if command.starts_with('/') => Self::Unknown(command.to_owned()),
            message => Self::Message(message.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_understood_and_none_ends_the_conversation() {
        let typed = b"Hi\n\n caf\xe9\n/help me\n//etc is what?\n// \n/reset\n  last".as_slice();
        let mut input = io::BufReader::new(typed);
        let message = |text: &str| Line::Message(text.to_owned());
        let unknown = Line::Unknown("/help me".to_owned());
        let expected = [
            message("Hi"),
            Line::Empty,
            Line::NotText,
            unknown,
            message("/etc is what?"),
            message("/"),
            Line::Reset,
            message("last"),
            Line::End,
        ];
        for expected in expected {
            assert_eq!(Line::read(&mut input).unwrap(), expected);
        }
    }
}
