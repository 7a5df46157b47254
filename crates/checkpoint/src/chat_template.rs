//! Chat templates: the Jinja program that a model carries to turn a conversation into its prompt.
//!
//! Rendering follows `apply_chat_template(..., tokenize=False)` of transformers (`utils/chat_template_utils.py`): blocks
//! are trimmed, Python's string methods work, and templates may call `raise_exception` and `strftime_now`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{Environment, ErrorKind};
use serde::Serialize;

use crate::bounded::{self, Bounds};
use crate::error::{Error, Result};
use crate::{python_text, template_source};

const NAME: &str = "chat_template";
/// Steps that a rendering may take: far more than any conversation needs, and an end for a template that loops.
const FUEL: u64 = 10_000_000;
/// Far more than a template in use needs: it renders in milliseconds.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(10), bytes: 256 << 20, stack: 128 << 20 };
/// Bytes of a prompt: more than any model's context holds.
const MAX_PROMPT: usize = 16 << 20;
/// Characters of a template's own words in an error.
const MAX_WORDS: usize = 2000;
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
    environment: Arc<Environment<'static>>,
    /// Why it may not run again: it went past a bound, and its thread is still there.
    refused: OnceLock<String>,
    special_tokens: Vec<(String, String)>,
}

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are variables such as `("bos_token", "<s>")`; `file` is named in errors.
    ///
    /// # Errors
    /// If the template is not valid Jinja, with the line, or too large.
    pub fn new(file: &Path, source: &str, special_tokens: Vec<(String, String)>) -> Result<Self> {
        let source = source.to_owned();
        let environment = bounded::run(BOUNDS, move || compile(&source))
            .unwrap_or_else(|bound| Err(format!("cannot be compiled: {bound}")))
            .map_err(|problem| Error::ChatTemplate { file: file.to_owned(), problem })?;
        Ok(Self { file: file.to_owned(), environment: Arc::new(environment), refused: OnceLock::new(), special_tokens })
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
        let fault = |problem: String| Error::ChatTemplate { file: self.file.clone(), problem };
        if let Some(refusal) = self.refused.get() {
            return Err(fault(refusal.clone()));
        }
        let (environment, context) = (Arc::clone(&self.environment), Value::from(context));
        let render = move || environment.get_template(NAME)?.render(context);
        let rendered = bounded::run(BOUNDS, move || render().map_err(|error| words(&error)));
        let prompt = match rendered {
            Ok(prompt) => prompt.map_err(fault)?,
            Err(bound) => {
                return Err(fault(self.refused.get_or_init(|| format!("cannot be rendered: {bound}")).clone()));
            }
        };
        if prompt.len() > MAX_PROMPT {
            return Err(fault(format!("the prompt has {} bytes; at most {MAX_PROMPT} are expected", prompt.len())));
        }
        Ok(prompt)
    }
}

fn compile(source: &str) -> Result<Environment<'static>, String> {
    let mut environment = Environment::new();
    environment.set_syntax(trimmed_blocks().map_err(|error| words(&error))?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(python_text::format);
    environment.add_filter("tojson", python_text::tojson);
    environment.add_filter("string", python_text::str);
    environment.add_filter(template_source::STORABLE, storable);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.set_fuel(Some(FUEL));
    environment.add_template_owned(NAME, template_source::prepare(source)?).map_err(|error| words(&error))?;
    Ok(environment)
}

fn trimmed_blocks() -> Result<SyntaxConfig, minijinja::Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

fn words(error: &minijinja::Error) -> String {
    // raise_exception's text is the template author's explanation and stands alone.
    let problem = match (error.kind(), error.detail()) {
        (ErrorKind::InvalidOperation, Some(detail)) if detail.starts_with(RAISED) => detail[RAISED.len()..].to_owned(),
        _ => error.to_string(),
    };
    match problem.char_indices().nth(MAX_WORDS) {
        Some((end, _)) => format!("{} …", &problem[..end]),
        None => problem,
    }
}

fn raise_exception(message: &Value) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{}", python_text::str(message)?)))
}

/// What a field of a namespace may hold: nothing of great depth, and no namespace, which could hold itself. Functions that
/// walk through a value, and its end, take stack for each level. A lazy sequence becomes a list, as it is in Python: one made
/// of another made of another would be as deep.
fn storable(value: Value) -> Result<Value, minijinja::Error> {
    python_text::check_extent(&value, &is_namespace)?;
    if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) && !value.is_tuple() {
        return Ok(Value::from(value.try_iter()?.collect::<Vec<Value>>()));
    }
    Ok(value)
}

fn is_namespace(value: &Value) -> bool {
    // The type is private to the library.
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// The local time in C's strftime notation, as Python's `datetime.now().strftime`.
fn strftime_now(format: &str, kwargs: Kwargs) -> Result<String, minijinja::Error> {
    kwargs.assert_all_used()?;
    python_text::strftime(format, &jiff::Zoned::now())
        .map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}")))
}
