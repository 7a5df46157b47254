//! Chat templates: the Jinja program that a model carries to turn a conversation into its prompt.
//!
//! Rendering follows `apply_chat_template(..., tokenize=False)` of transformers (`utils/chat_template_utils.py`): blocks
//! are trimmed, Python's string methods work, and templates may call `raise_exception` and `strftime_now`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, ErrorKind};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::{python_text, template_source};

const NAME: &str = "chat_template";
/// Steps that a rendering may take: far more than any conversation needs, and an end for a template that loops.
const FUEL: u64 = 10_000_000;
/// Marks an error as the template's own.
const RAISED: &str = "raised: ";

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or whatever else the template knows.
    pub role: String,
    pub content: String,
}

impl Message {
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A compiled chat template with the special tokens that it may name.
pub struct ChatTemplate {
    file: PathBuf,
    environment: Environment<'static>,
    special_tokens: Vec<(String, String)>,
}

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are variables such as `("bos_token", "<s>")`; `file` is named in errors.
    ///
    /// # Errors
    /// If the template is not valid Jinja, with the line.
    pub fn new(file: &Path, source: &str, special_tokens: Vec<(String, String)>) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_syntax(trimmed_blocks().map_err(|error| fault(file, &error))?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_formatter(python_text::format);
        environment.add_filter("tojson", python_text::tojson);
        environment.add_filter("string", python_text::str);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.set_fuel(Some(FUEL));
        let source = template_source::prepare(source)
            .map_err(|problem| Error::ChatTemplate { file: file.to_owned(), problem })?;
        environment.add_template_owned(NAME, source).map_err(|error| fault(file, &error))?;
        Ok(Self { file: file.to_owned(), environment, special_tokens })
    }

    /// The prompt for a conversation; `add_generation_prompt` ends it where the assistant's answer begins.
    ///
    /// # Errors
    /// If the template refuses the conversation, with the template's own words.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.render_with(&Value::from(Serde(messages)), &Value::from(()), add_generation_prompt)
    }

    /// As [`ChatTemplate::render`], for messages with more fields than a role and a text (such as `tool_calls`), and with
    /// the tools that the model may call, or nothing. Both can be any serializable list; the order of fields is kept.
    ///
    /// # Errors
    /// If the template refuses the conversation, with the template's own words.
    pub fn render_with_tools(
        &self,
        messages: &impl Serialize,
        tools: Option<&impl Serialize>,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let tools = tools.map_or(Value::from(()), |tools| Value::from(Serde(tools)));
        self.render_with(&Value::from(Serde(messages)), &tools, add_generation_prompt)
    }

    fn render_with(&self, messages: &Value, tools: &Value, add_generation_prompt: bool) -> Result<String> {
        let mut context: BTreeMap<&str, Value> = BTreeMap::new();
        context.extend(self.special_tokens.iter().map(|(name, text)| (name.as_str(), Value::from(text.as_str()))));
        context.insert("messages", messages.clone());
        context.insert("tools", tools.clone());
        context.insert("documents", Value::from(()));
        context.insert("add_generation_prompt", Value::from(add_generation_prompt));
        let template = self.environment.get_template(NAME).map_err(|error| fault(&self.file, &error))?;
        template.render(Value::from(context)).map_err(|error| fault(&self.file, &error))
    }
}

fn trimmed_blocks() -> Result<SyntaxConfig, minijinja::Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

fn fault(file: &Path, error: &minijinja::Error) -> Error {
    // raise_exception's text is the template author's explanation and stands alone.
    let problem = match (error.kind(), error.detail()) {
        (ErrorKind::InvalidOperation, Some(detail)) if detail.starts_with(RAISED) => detail[RAISED.len()..].to_owned(),
        _ => error.to_string(),
    };
    Error::ChatTemplate { file: file.to_owned(), problem }
}

fn raise_exception(message: &Value) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
}

/// The local time in C's strftime notation, as Python's `datetime.now().strftime`.
fn strftime_now(format: &str, kwargs: Kwargs) -> Result<String, minijinja::Error> {
    kwargs.assert_all_used()?;
    jiff::fmt::strtime::format(format, &jiff::Zoned::now())
        .map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}")))
}
