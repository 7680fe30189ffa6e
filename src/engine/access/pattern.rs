//! Patterns over names and URIs: byte-exact, anchored, linear in the length of what they are tried on.
//!
//! A glob knows `*`, `**` and `\`, nothing else. In URIs `*` stops at `/` and `**` does not; in names both match anything.
//! Regular expressions are a syntax of their own, never guessed from the text.

use std::sync::Arc;

use regex::Regex;

use super::automaton::build;
use crate::shared::Shared;

/// Bytes of a pattern at most.
pub(super) const LONGEST: usize = 2048;

/// Why a pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing is written.
    #[error("the pattern is empty")]
    Empty,
    /// Longer than 2048 bytes.
    #[error("the pattern is longer than 2048 bytes")]
    TooLong,
    /// A backslash escapes nothing.
    #[error("the pattern ends with a backslash that escapes nothing")]
    DanglingEscape,
    /// The regular expression cannot be compiled.
    #[error("the regular expression is not valid: {0}")]
    Regex(String),
    /// The regular expression compiles to more than a mebibyte.
    #[error("the regular expression is too large when compiled")]
    TooLarge,
}

/// A pattern over names of tools, prompts or methods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(Pattern);

impl NamePattern {
    /// A glob: `*` matches any text, `/` included; `\` escapes.
    ///
    /// # Errors
    /// Empty, too long, or ending in a lone backslash.
    pub fn glob(text: &str) -> Result<Self, PatternError> {
        Pattern::glob(text, Span::Any).map(Self)
    }

    /// A regular expression over the whole name.
    ///
    /// # Errors
    /// Not valid or too large.
    pub fn regex(text: &str) -> Result<Self, PatternError> {
        Pattern::regex(text).map(Self)
    }

    /// This name and no other, whatever characters it has.
    ///
    /// # Errors
    /// Empty or too long.
    pub fn exact(text: &str) -> Result<Self, PatternError> {
        Pattern::exact(text).map(Self)
    }

    /// Whether `name` is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.matches(name)
    }

    /// Whether every name is meant.
    #[must_use]
    pub fn is_catch_all(&self) -> bool {
        self.0.is_catch_all()
    }

    /// The text as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.text()
    }

    pub(in crate::engine) fn pattern(&self) -> &Pattern {
        &self.0
    }
}

/// A pattern over resource URIs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UriPattern(Pattern);

impl UriPattern {
    /// A glob: `*` stops at `/`, `**` does not, `\` escapes.
    ///
    /// # Errors
    /// Empty, too long, or ending in a lone backslash.
    pub fn glob(text: &str) -> Result<Self, PatternError> {
        Pattern::glob(text, Span::Segment).map(Self)
    }

    /// A regular expression over the whole URI.
    ///
    /// # Errors
    /// Not valid or too large.
    pub fn regex(text: &str) -> Result<Self, PatternError> {
        Pattern::regex(text).map(Self)
    }

    /// This URI and no other.
    ///
    /// # Errors
    /// Empty or too long.
    pub fn exact(text: &str) -> Result<Self, PatternError> {
        Pattern::exact(text).map(Self)
    }

    /// Whether `uri` is meant.
    #[must_use]
    pub fn matches(&self, uri: &str) -> bool {
        self.0.matches(uri)
    }

    /// Whether the pattern names one whole URI, as services with `uri_form: opaque` require.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self.0.form(), Form::Exact(_))
    }

    /// The text as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.text()
    }

    /// Whether some URI that the RFC 6570 `template` expands to could match. Judged by what stands before the first and
    /// after the last expression, so it may say yes where a closer look would say no, never the other way round.
    pub(super) fn meets_template(&self, template: &str) -> bool {
        let Some((head, tail)) = ends(template) else { return self.matches(template) };
        let meets = |prefix: &str, suffix: &str| {
            (prefix.starts_with(head) || head.starts_with(prefix)) && (suffix.ends_with(tail) || tail.ends_with(suffix))
        };
        match self.0.form() {
            Form::Exact(text) => {
                text.len() >= head.len() + tail.len() && text.starts_with(head) && text.ends_with(tail)
            }
            Form::Affix { prefix, suffix, span } => {
                // What `*` stands for would have to span a slash that the template has for certain.
                let slash = head.strip_prefix(prefix.as_ref()).is_some_and(|rest| rest.contains('/'));
                meets(prefix, suffix) && !(*span == Span::Segment && slash && !suffix.contains('/'))
            }
            Form::Several { prefix, suffix, .. } => meets(prefix, suffix),
            Form::Regex(_) => true,
        }
    }

    /// Whether the pattern names the template itself or matches every URI that it expands to.
    pub(super) fn covers_template(&self, template: &str) -> bool {
        match (self.0.form(), ends(template)) {
            (Form::Exact(text), _) => text.as_ref() == template,
            (Form::Affix { prefix, suffix, span: Span::Any }, Some((head, tail))) => {
                head.starts_with(prefix.as_ref()) && tail.ends_with(suffix.as_ref())
            }
            (_, Some(_)) => false,
            (_, None) => self.matches(template),
        }
    }

    pub(in crate::engine) fn pattern(&self) -> &Pattern {
        &self.0
    }
}

/// What stands before the first and after the last expression of a URI template; `None` when it has none.
fn ends(template: &str) -> Option<(&str, &str)> {
    let (head, rest) = template.split_once('{')?;
    Some((head, rest.rsplit_once('}').map_or("", |(_, tail)| tail)))
}

/// What both kinds of pattern are made of. Equal ones are compiled and held once in the process.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Pattern(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    text: Box<str>,
    form: Form,
}

/// Patterns that are held, by their text; each syntax has its own.
type Held = Shared<String, Compiled>;

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        let same = std::mem::discriminant(self.form()) == std::mem::discriminant(other.form());
        match (self.form(), other.form()) {
            _ if Arc::ptr_eq(&self.0, &other.0) => true,
            (Form::Exact(one), Form::Exact(two)) => one == two,
            _ => same && self.text() == other.text(),
        }
    }
}

impl Eq for Pattern {}

/// What a wildcard may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Span {
    /// Anything but `/`.
    Segment,
    /// Anything.
    Any,
}

#[derive(Debug)]
enum Form {
    Exact(Box<str>),
    /// One wildcard, compared by hand.
    Affix {
        prefix: Box<str>,
        suffix: Box<str>,
        span: Span,
    },
    /// Several wildcards: an automaton, tried only where both ends fit.
    Several {
        prefix: Box<str>,
        suffix: Box<str>,
        regex: Regex,
    },
    Regex(Regex),
}

enum Token {
    Literal(String),
    Wildcard(Span),
}

impl Pattern {
    pub(in crate::engine) fn exact(text: &str) -> Result<Self, PatternError> {
        static HELD: Held = Held::new();
        Self::held(&HELD, text, || Ok(Form::Exact(text.into())))
    }

    fn held(held: &Held, text: &str, form: impl FnOnce() -> Result<Form, PatternError>) -> Result<Self, PatternError> {
        let text = checked(text)?;
        held.get_or_make(text, || Ok(Compiled { text: text.into(), form: form()? })).map(Self)
    }

    /// `single` is what one `*` stands for; two or more stand for anything.
    pub(in crate::engine) fn glob(text: &str, single: Span) -> Result<Self, PatternError> {
        static SEGMENT: Held = Held::new();
        static ANY: Held = Held::new();
        Self::held(if single == Span::Any { &ANY } else { &SEGMENT }, text, || Form::of_glob(text, single))
    }

    pub(in crate::engine) fn regex(text: &str) -> Result<Self, PatternError> {
        static HELD: Held = Held::new();
        Self::held(&HELD, text, || {
            // Read alone first: `a)|(b` must not close the group that anchors it.
            build(text)?;
            build(&format!(r"\A(?:{text})\z")).map(Form::Regex)
        })
    }

    pub(in crate::engine) fn text(&self) -> &str {
        &self.0.text
    }

    fn form(&self) -> &Form {
        &self.0.form
    }

    /// Whether the whole of `subject` matches.
    pub(in crate::engine) fn matches(&self, subject: &str) -> bool {
        match self.form() {
            Form::Exact(text) => text.as_ref() == subject,
            Form::Affix { prefix, suffix, span } => {
                let middle = subject.strip_prefix(prefix.as_ref()).and_then(|rest| rest.strip_suffix(suffix.as_ref()));
                middle.is_some_and(|middle| *span == Span::Any || !middle.contains('/'))
            }
            Form::Several { prefix, suffix, regex } => {
                subject.starts_with(prefix.as_ref()) && subject.ends_with(suffix.as_ref()) && regex.is_match(subject)
            }
            Form::Regex(regex) => regex.is_match(subject),
        }
    }

    /// The only text that matches, when there is only one.
    pub(in crate::engine) fn only(&self) -> Option<&str> {
        if let Form::Exact(text) = self.form() { Some(text) } else { None }
    }

    /// How every match begins.
    pub(in crate::engine) fn prefix(&self) -> &str {
        match self.form() {
            Form::Exact(text) => text,
            Form::Affix { prefix, .. } | Form::Several { prefix, .. } => prefix,
            Form::Regex(_) => "",
        }
    }

    /// The source of the anchored automaton of a regular expression.
    pub(in crate::engine) fn automaton(&self) -> Option<&str> {
        if let Form::Regex(regex) = self.form() { Some(regex.as_str()) } else { None }
    }

    pub(in crate::engine) fn is_catch_all(&self) -> bool {
        matches!(self.form(), Form::Affix { prefix, suffix, span: Span::Any } if prefix.is_empty() && suffix.is_empty())
    }

    /// Whether everything that `other` matches matches here too; `false` when that cannot be seen easily.
    pub(in crate::engine) fn covers(&self, other: &Self) -> bool {
        if self == other || self.is_catch_all() {
            return true;
        }
        match (self.form(), other.form()) {
            (_, Form::Exact(text)) => self.matches(text),
            (
                Form::Affix { prefix, suffix, span: Span::Any },
                Form::Affix { prefix: head, suffix: tail, .. } | Form::Several { prefix: head, suffix: tail, .. },
            ) => head.starts_with(prefix.as_ref()) && tail.ends_with(suffix.as_ref()),
            (
                Form::Affix { prefix, suffix, span: Span::Segment },
                Form::Affix { prefix: head, suffix: tail, span: Span::Segment },
            ) => {
                let (head, tail) = (head.strip_prefix(prefix.as_ref()), tail.strip_suffix(suffix.as_ref()));
                head.zip(tail).is_some_and(|(head, tail)| !head.contains('/') && !tail.contains('/'))
            }
            _ => false,
        }
    }
}

impl Form {
    /// `single` is what one `*` stands for; two or more stand for anything.
    fn of_glob(text: &str, single: Span) -> Result<Self, PatternError> {
        let tokens = tokens(text, single)?;
        let wildcards = tokens.iter().filter(|token| matches!(token, Token::Wildcard(_))).count();
        let literal = |token: Option<&Token>| match token {
            Some(Token::Literal(literal)) => literal.clone().into_boxed_str(),
            _ => Box::default(),
        };
        let (prefix, suffix) = (literal(tokens.first()), literal(tokens.last()));
        let span = tokens.iter().find_map(|token| if let Token::Wildcard(span) = token { Some(*span) } else { None });
        Ok(match (wildcards, span) {
            (1, Some(span)) => Self::Affix { prefix, suffix, span },
            (0, _) | (_, None) => Self::Exact(prefix),
            _ => Self::Several { prefix, suffix, regex: automaton(&tokens)? },
        })
    }
}

fn checked(text: &str) -> Result<&str, PatternError> {
    match text.len() {
        0 => Err(PatternError::Empty),
        1..=LONGEST => Ok(text),
        _ => Err(PatternError::TooLong),
    }
}

fn tokens(text: &str, single: Span) -> Result<Vec<Token>, PatternError> {
    let mut tokens = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '*' {
            let mut span = single;
            while characters.next_if_eq(&'*').is_some() {
                span = Span::Any;
            }
            tokens.push(Token::Wildcard(span));
            continue;
        }
        let character =
            if character == '\\' { characters.next().ok_or(PatternError::DanglingEscape)? } else { character };
        if let Some(Token::Literal(literal)) = tokens.last_mut() {
            literal.push(character);
        } else {
            tokens.push(Token::Literal(character.into()));
        }
    }
    Ok(tokens)
}

fn automaton(tokens: &[Token]) -> Result<Regex, PatternError> {
    let mut source = String::from(r"\A");
    for token in tokens {
        match token {
            Token::Literal(literal) => source.push_str(&regex::escape(literal)),
            Token::Wildcard(Span::Any) => source.push_str("(?s:.)*"),
            Token::Wildcard(Span::Segment) => source.push_str("[^/]*"),
        }
    }
    source.push_str(r"\z");
    build(&source)
}
