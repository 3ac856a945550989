//! Messages: plain text with `{{ variable }}` in it.
//!
//! Invariant: a template holds text, variables and the filters below, nothing that loops or calls; what it says is at
//! most [`MESSAGE_MAX`] characters, and a variable that a lead lacks is an error, never an empty word.
//! Not here: escaping for the carrier's markup, and who refuses a start.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use minijinja::{Environment, UndefinedBehavior};
use serde_json::{Map, Value};

/// The most characters of a template, and of what it says. A carrier's voice may take less in one go (Twilio, warning
/// 13521: 3000 to 5000 by voice); who writes the carrier's markup splits a longer message.
pub const MESSAGE_MAX: usize = 4_000;
/// The template's name in its own environment.
const NAME: &str = "message";
/// Filters that take nothing: each turns one text into another.
const PLAIN_FILTERS: [&str; 4] = ["capitalize", "lower", "trim", "upper"];

/// Why a text is no template, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail} (line {line}, character {column})")]
pub struct TemplateError {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// A sentence for people: what is wrong and what to do.
    pub detail: String,
}

/// Why a template says nothing for a lead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The lead lacks these variables.
    #[error("The lead lacks: {}.", .0.join(", "))]
    Missing(Vec<String>),
    /// What is said would be longer than the template may be.
    #[error("What is said would have more characters than fit.")]
    TooLong,
    /// The engine refused; nothing that [`Template::parse`] lets pass should come here.
    #[error("The message could not be written: {0}")]
    Engine(String),
}

impl RenderError {
    /// The word that programs may decide by. The sentence for people is the error's text.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing_variable",
            Self::TooLong => "too_long",
            Self::Engine(_) => "invalid_template",
        }
    }
}

/// A message that has been read and may be said for any lead.
#[derive(Debug, Clone)]
pub struct Template {
    engine: Environment<'static>,
    /// The most characters of the text and of what it says.
    most: usize,
    /// Whether each variable must be there: not where every use of it has a default.
    variables: BTreeMap<String, bool>,
}

impl Template {
    /// Reads a template: text with `{{ name }}`, `{{ name | filter }}` or `{{ name | default("text") }}`.
    ///
    /// # Errors
    /// Where the text holds anything else in braces, or is too long, with the place.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Self::parse_within(text, MESSAGE_MAX)
    }

    /// The same for a text that is not said to a carrier and may have `most` characters.
    ///
    /// # Errors
    /// As [`Template::parse`].
    pub fn parse_within(text: &str, most: usize) -> Result<Self, TemplateError> {
        let fault = |at: usize, detail: String| place(text, at, detail);
        if let Some((at, _)) = text.char_indices().nth(most) {
            return Err(fault(at, format!("This text has at most {most} characters. Shorten it.")));
        }
        if let Some(at) = text.find('\0') {
            return Err(fault(at, "A message holds no NUL character. Remove it.".to_owned()));
        }
        let mut engine = engine();
        let mut variables = BTreeMap::new();
        for (at, inner) in holes(text).map_err(|(at, detail)| fault(at, detail.to_owned()))? {
            let (name, has_default) = read_hole(inner).map_err(|detail| fault(at, detail))?;
            if is_reserved(&engine, name) {
                return Err(fault(at, format!("{name} is a reserved word. Give the variable another name.")));
            }
            *variables.entry(name.to_owned()).or_default() |= !has_default;
        }
        engine.add_template_owned(NAME, text.to_owned()).map_err(|error| TemplateError {
            line: error.line().unwrap_or(1),
            column: 1,
            detail: format!("This is no template: {}.", error.detail().unwrap_or("its braces do not fit")),
        })?;
        Ok(Self { engine, most, variables })
    }

    /// Every variable that the template names.
    #[must_use]
    pub fn variables(&self) -> BTreeSet<String> {
        self.variables.keys().cloned().collect()
    }

    /// The variables that a lead lacks: absent or null, and used somewhere without a default. An empty text is there.
    #[must_use]
    pub fn missing(&self, variables: &Map<String, Value>) -> Vec<String> {
        let lacks = |name: &str| variables.get(name).is_none_or(Value::is_null);
        self.variables.iter().filter(|(name, needed)| **needed && lacks(name)).map(|(name, _)| name.clone()).collect()
    }

    /// What the template says for a lead, as plain text.
    ///
    /// # Errors
    /// Where the lead lacks a variable, or the message would be too long.
    pub fn render(&self, variables: &Map<String, Value>) -> Result<String, RenderError> {
        let missing = self.missing(variables);
        if !missing.is_empty() {
            return Err(RenderError::Missing(missing));
        }
        let used = variables.iter().filter(|(name, _)| self.variables.contains_key(*name));
        let given = used.filter_map(|(name, value)| Some((name.clone(), spoken(value)?)));
        let given = minijinja::Value::from_pairs(given);
        let mut said = Said { bytes: Vec::new(), most: self.most, full: false };
        let template = self.engine.get_template(NAME).map_err(|e| RenderError::Engine(e.to_string()))?;
        let rendered = template.render_captured_to(given, &mut said).map(drop);
        if said.full {
            return Err(RenderError::TooLong);
        }
        rendered.map_err(|e| RenderError::Engine(e.to_string()))?;
        let text = String::from_utf8(said.bytes).map_err(|e| RenderError::Engine(e.to_string()))?;
        if text.chars().count() > self.most { Err(RenderError::TooLong) } else { Ok(text) }
    }
}

/// A variable's value as the engine takes it. Null counts as absent, so that a default stands in for it.
fn spoken(value: &Value) -> Option<minijinja::Value> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.as_str().into()),
        // Numbers and booleans are said as JSON writes them; a lead holds no lists or objects.
        other => Some(other.to_string().into()),
    }
}

/// An engine that knows nothing but the filters: no functions, no tests, no escaping.
fn engine() -> Environment<'static> {
    let mut engine = Environment::empty();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.add_filter("lower", |text: String| text.to_lowercase());
    engine.add_filter("upper", |text: String| text.to_uppercase());
    engine.add_filter("trim", |text: String| text.trim().to_owned());
    engine.add_filter("capitalize", |text: String| {
        let mut chars = text.chars();
        chars.next().map(|first| first.to_uppercase().chain(chars.flat_map(char::to_lowercase)).collect::<String>())
    });
    engine.add_filter(
        "default",
        |value: minijinja::Value, or: String| {
            if value.is_undefined() { minijinja::Value::from(or) } else { value }
        },
    );
    engine
}

/// Words of the engine, such as `true` and `not`, look like variables and are none.
fn is_reserved(engine: &Environment<'_>, name: &str) -> bool {
    engine.compile_expression(name).map_or(true, |word| !word.undeclared_variables(false).contains(name))
}

/// The text between each `{{` and `}}` with its place, in bytes.
fn holes(text: &str) -> Result<Vec<(usize, &str)>, (usize, &'static str)> {
    let mut holes = Vec::new();
    let mut at = 0;
    while let Some(open) = text[at..].find('{').map(|found| at + found) {
        let inside = open + 2;
        match text.as_bytes().get(open + 1) {
            Some(b'{') => {
                let close =
                    text[inside..].find("}}").ok_or((open, "These braces are never closed by }}. Close them."))?;
                holes.push((open, &text[inside..inside + close]));
                at = inside + close + 2;
            }
            Some(b'%' | b'#') => {
                return Err((
                    open,
                    "A message holds text and {{ variables }}, no statements or comments. Remove this.",
                ));
            }
            _ => at = open + 1,
        }
    }
    Ok(holes)
}

/// The variable of a hole, and whether it has a default.
fn read_hole(inner: &str) -> Result<(&str, bool), String> {
    let (name, mut rest) = word(inner.trim_start());
    if name.is_empty() {
        let detail =
            "Between the braces goes the name of a variable: letters, digits and underscores, not a digit first.";
        return Err(detail.to_owned());
    }
    let mut has_default = false;
    let mut first = true;
    while let Some(filters) = rest.trim_start().strip_prefix('|') {
        let (filter, after) = word(filters.trim_start());
        rest = match filter {
            // Only as the first filter: the others need a text to work on.
            "default" if first => {
                has_default = true;
                literal(after).ok_or("A default is written default(\"text\").")?
            }
            plain if PLAIN_FILTERS.contains(&plain) => after,
            _ => {
                let known = PLAIN_FILTERS.join(", ");
                return Err(format!("There is no such filter here. Use default(\"text\") first, or {known}."));
            }
        };
        first = false;
    }
    if rest.trim().is_empty() {
        Ok((name, has_default))
    } else {
        Err(format!("After {name} goes nothing but | and a filter. A variable's name has no spaces, dots or hyphens."))
    }
}

/// The word that `text` begins with, perhaps empty, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) { ("", text) } else { text.split_at(end) }
}

/// What follows `("text")`, or `None` where that is not how `text` begins. No escapes: a quote ends the text.
fn literal(text: &str) -> Option<&str> {
    let inside = text.trim_start().strip_prefix('(')?.trim_start();
    let quote = inside.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (said, after) = inside[1..].split_once(quote)?;
    if said.contains('\\') {
        return None;
    }
    after.trim_start().strip_prefix(')')
}

/// The line and character of a byte of `text`.
fn place(text: &str, at: usize, detail: String) -> TemplateError {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    TemplateError { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1, detail }
}

/// What has been said so far; refuses more than any message can hold, so that a large value cannot fill the memory.
struct Said {
    bytes: Vec<u8>,
    most: usize,
    full: bool,
}

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A character has at most four bytes.
        if self.bytes.len() + bytes.len() > self.most * 4 {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn say(text: &str, lead: Value) -> Result<String, RenderError> {
        Template::parse(text).unwrap().render(lead.as_object().unwrap())
    }

    #[test]
    fn a_message_is_said_with_the_leads_variables_as_plain_text() {
        let lead =
            json!({"first_name": "Zoë <b>&", "n": 3, "ok": true, "rate": 0.5, "x": " aB ", "empty": "", "z": null});
        for (text, said) in [
            ("Hello {{ first_name }}!", "Hello Zoë <b>&!"),
            ("{{n}} {{ok}} {{rate}} [{{empty}}] { % } {x}", "3 true 0.5 [] { % } {x}"),
            ("{{ x | trim | upper }}/{{ x|lower }}/{{ x | trim | capitalize }}", "AB/ ab /Ab"),
            ("{{ gone | default(\"friend\") }} {{ z | default('you') | upper }} {{ n | default('') }}", "friend YOU 3"),
            ("no variables", "no variables"),
            ("", ""),
        ] {
            assert_eq!(say(text, lead.clone()).as_deref(), Ok(said), "{text}");
        }
        assert_eq!(say("{{ v }}", json!({"v": "{{ other }}{% for %}"})).as_deref(), Ok("{{ other }}{% for %}"));
    }

    #[test]
    fn a_variable_that_a_lead_lacks_is_named_and_never_left_out() {
        let template = Template::parse("{{b}} {{a}} {{c | default('c')}} {{d | default('d')}} {{d}} {{e}}").unwrap();
        assert_eq!(template.variables(), ["a", "b", "c", "d", "e"].map(String::from).into());
        let lead = json!({"a": null, "e": ""});
        let lead = lead.as_object().unwrap();
        assert_eq!(template.missing(lead), ["a", "b", "d"]);
        assert_eq!(template.render(lead), Err(RenderError::Missing(vec!["a".into(), "b".into(), "d".into()])));
    }

    #[test]
    fn anything_but_variables_and_plain_filters_is_refused_with_its_place() {
        for (text, line, column) in [
            ("Hi {% for x in y %}{% endfor %}", 1, 4),
            ("a\nü {{ range(10) }}", 2, 3),
            ("{# secret #}", 1, 1),
            ("{{ 'a' * 1000000000 }}", 1, 1),
            ("{{ first name }}", 1, 1),
            ("{{ first-name }}", 1, 1),
            ("{{ lead.name }}", 1, 1),
            ("{{- name -}}", 1, 1),
            ("{{ name | safe }}", 1, 1),
            ("{{ name | upper | default('x') }}", 1, 1),
            ("{{ name | default(1) }}", 1, 1),
            ("{{ name | default('a' ~ b) }}", 1, 1),
            ("{{ 1name }}", 1, 1),
            ("{{ }}", 1, 1),
            ("{{ name", 1, 1),
            ("{{{ name }}}", 1, 1),
            ("{{ true }}", 1, 1),
            ("{{ a }} {{ not }}", 1, 9),
            ("{{ not }}", 1, 1),
            ("nul \0", 1, 5),
        ] {
            let error = Template::parse(text).map(|t| t.variables()).unwrap_err();
            assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
        }
        assert!(Template::parse(&"ü".repeat(MESSAGE_MAX)).is_ok());
        assert!(Template::parse(&"ü".repeat(MESSAGE_MAX + 1)).unwrap_err().detail.contains("4000"));
    }

    #[test]
    fn a_message_that_would_be_too_long_is_refused_however_large_the_values() {
        assert_eq!(say("{{ v }}", json!({"v": "ü".repeat(MESSAGE_MAX)})).unwrap().chars().count(), MESSAGE_MAX);
        assert_eq!(say("{{ v }}!", json!({"v": "ü".repeat(MESSAGE_MAX)})), Err(RenderError::TooLong));
        assert_eq!(say(&"{{ v }}".repeat(500), json!({"v": "x".repeat(16_000)})), Err(RenderError::TooLong));
    }
}
