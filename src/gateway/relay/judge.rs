//! Judges the messages of an upstream before they reach the client.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::super::Gateway;
use super::super::exchange::Exchange;
use crate::engine::decision::Reason;
use crate::engine::service::{Pipeline, UriForm};
use crate::mcp::discover;
use crate::mcp::era::Era;
use crate::mcp::error::error_body;
use crate::mcp::json;
use crate::mcp::list::{self, ListError};
use crate::mcp::operation::ItemKind;
use crate::mcp::server::{FromServer, FromServerKind};
use crate::mcp::sse::{EventJudge, Verdict};
use crate::mcp::uri;
use crate::oauth::identity::Identity;

/// Judges the messages of one answer.
pub struct Judge<'a> {
    gateway: &'a Gateway,
    exchange: &'a Exchange,
    pipeline: Arc<Pipeline>,
    service: &'a str,
    identity: &'a Identity,
    /// Why nothing may follow, once a message was refused in the place of the answer.
    pub over: Option<Reason>,
}

impl EventJudge for Judge<'_> {
    async fn event(&mut self, data: &[u8]) -> Verdict {
        // A server of 2025-03-26 may put several messages into one event (MCP 2025-03-26 transports).
        let several = self.exchange.era == Era::Legacy && data.trim_ascii_start().starts_with(b"[");
        if several { self.batch(data).await } else { self.message(data).await }
    }
}

impl<'a> Judge<'a> {
    /// `None` before a request was admitted.
    pub fn new(gateway: &'a Gateway, exchange: &'a Exchange) -> Option<Self> {
        let service = exchange.service.as_deref()?;
        let pipeline = Arc::clone(service.pipeline().ok()?);
        let identity = exchange.identity.as_deref()?;
        Some(Self { gateway, exchange, pipeline, service: &service.name, identity, over: None })
    }

    /// Judges what comes from now on as another generation of the service does.
    pub fn follow(&mut self, pipeline: Arc<Pipeline>) {
        self.pipeline = pipeline;
    }

    /// What becomes of one message.
    async fn message(&mut self, data: &[u8]) -> Verdict {
        if data.iter().all(u8::is_ascii_whitespace) {
            return Verdict::Keep;
        }
        let read = json::check(data)
            .map_err(|error| error.to_string())
            .and_then(|text| FromServer::of(text).map(|read| (text, read)).map_err(|error| error.to_string()));
        match read {
            Ok((text, read)) => self.read(text, &read).await,
            Err(cause) => self.refuse(Reason::UpstreamInvalid, &cause),
        }
    }

    async fn read(&mut self, text: &str, read: &FromServer<'_>) -> Verdict {
        if let Some(wish) = read.wishes.iter().find(|wish| !self.pipeline.server_requests.allow(wish)) {
            return self.refuse(Reason::ServerRequestRefused, &format!("the server asks for {wish}"));
        }
        match (&read.kind, &read.task) {
            (FromServerKind::Answer, task) => {
                if let Some(task) = task {
                    // What only answers about tasks need takes no room in those that are not.
                    Box::pin(self.gateway.made(self.service, task, self.identity)).await;
                }
                self.answer(text).await
            }
            (FromServerKind::ResourceUpdated(uri), _) if !self.may_read(uri) => Verdict::Drop,
            (FromServerKind::TaskStatus, Some(task)) => Box::pin(self.report(&task.id)).await,
            (FromServerKind::TaskStatus, None) => Verdict::Drop,
            _ => Verdict::Keep,
        }
    }

    /// A report about a task is for its maker. Where it is not known who that is, it is for nobody: clients ask again.
    async fn report(&self, task: &str) -> Verdict {
        match self.gateway.owns(self.service, &[Cow::Borrowed(task)], self.identity).await {
            Ok(true) => Verdict::Keep,
            Ok(false) => Verdict::Drop,
            Err(denial) => {
                let (request, service) = (&self.exchange.id, self.service);
                let cause = denial.internal.as_deref();
                tracing::warn!(event = denial.reason.as_str(), %request, service, cause, "report about a task withheld");
                Verdict::Drop
            }
        }
    }

    /// Lists hold what the caller may use, and a discovery what the gateway can police.
    async fn answer(&mut self, text: &str) -> Verdict {
        let plan = &self.exchange.plan;
        let edited = if plan.discovers {
            discover::narrow(text, &self.pipeline.revisions)
        } else {
            let kinds = match plan.lists.as_slice() {
                [] => return Verdict::Keep,
                [only] if !plan.batch => vec![*only],
                several => list::kinds_of(text, several),
            };
            let named = if kinds.contains(&ItemKind::Task) { self.tasks_of(text) } else { Vec::new() };
            let own = match named.as_slice() {
                [] => HashSet::new(),
                named => match Box::pin(self.gateway.owned(self.service, named, self.identity)).await {
                    Ok(own) => own,
                    Err(denial) => return self.refuse(denial.reason, denial.internal.as_deref().unwrap_or_default()),
                },
            };
            self.cut(text, &kinds, &own)
        };
        match edited {
            Ok(None) => Verdict::Keep,
            Ok(Some(edited)) => Verdict::Replace(edited),
            Err(error) => self.refuse(Reason::UpstreamInvalid, &error.to_string()),
        }
    }

    /// The tasks that a list names. One that cannot be read is refused where it is cut.
    fn tasks_of(&self, text: &str) -> Vec<String> {
        let mut named = Vec::new();
        let mut name = |task: &str| {
            named.push(task.to_owned());
            true
        };
        drop(list::filter(text, ItemKind::Task, self.exchange.era, &mut name));
        named
    }

    /// Cuts every list that an answer holds; of tasks to the caller's `own`.
    fn cut(&self, text: &str, kinds: &[ItemKind], own: &HashSet<&str>) -> Result<Option<Vec<u8>>, ListError> {
        let mut edited: Option<Vec<u8>> = None;
        for kind in kinds {
            let text = edited.as_deref().map_or(Ok(text), std::str::from_utf8).or(Err(ListError::Message))?;
            let lister = self.pipeline.access.lister(self.identity, *kind);
            let mut shows = |name: &str| match kind {
                ItemKind::Task => own.contains(name),
                ItemKind::Resource => self.is_clear(name) && lister.shows(name),
                ItemKind::Tool | ItemKind::Prompt | ItemKind::ResourceTemplate => lister.shows(name),
            };
            edited = list::filter(text, *kind, self.exchange.era, &mut shows)?.or(edited);
        }
        Ok(edited)
    }

    fn may_read(&self, uri: &str) -> bool {
        self.is_clear(uri) && self.pipeline.access.permits_resource(self.identity, uri)
    }

    /// Whether a request that names this URI is judged by rules, and not refused before.
    fn is_clear(&self, uri: &str) -> bool {
        self.pipeline.uri_form == UriForm::Opaque || uri::strict(uri).is_ok()
    }

    /// A message that may not pass: an error stands in its place when the client awaits an answer, and nothing follows.
    fn refuse(&mut self, reason: Reason, cause: &str) -> Verdict {
        let exchange = self.exchange;
        tracing::warn!(event = reason.as_str(), request = %exchange.id, service = self.service, cause, "message of the upstream withheld");
        match &exchange.asked.id {
            Some(id) => {
                self.over = Some(reason);
                Verdict::Replace(error_body(Some(id), reason.code(), reason.public(), None, &exchange.id))
            }
            None => Verdict::Drop,
        }
    }

    /// What becomes of a JSON answer, which is one message or, for a batch, a list of them. `None` leaves it as it is.
    ///
    /// # Errors
    /// It may not pass at all.
    pub async fn whole(&mut self, body: &[u8]) -> Result<Option<Vec<u8>>, Reason> {
        let verdict = if self.exchange.plan.batch { self.batch(body).await } else { self.message(body).await };
        match (self.over, verdict) {
            (Some(reason), _) => Err(reason),
            (None, Verdict::Keep) => Ok(None),
            (None, Verdict::Replace(edited)) => Ok(Some(edited)),
            (None, Verdict::Drop) => Err(Reason::UpstreamInvalid),
        }
    }

    /// What becomes of a list of messages; an error about a batch as a whole is one message. What is refused in the place of
    /// the answer takes the place of the list.
    async fn batch(&mut self, data: &[u8]) -> Verdict {
        let elements = json::check(data).ok().and_then(|text| serde_json::from_str::<Vec<&RawValue>>(text).ok());
        let Some(elements) = elements else { return self.message(data).await };
        let mut kept: Vec<Cow<'_, [u8]>> = Vec::with_capacity(elements.len());
        for element in &elements {
            let message = element.get().as_bytes();
            match self.message(message).await {
                verdict if self.over.is_some() => return verdict,
                Verdict::Keep => kept.push(Cow::Borrowed(message)),
                Verdict::Replace(edited) => kept.push(Cow::Owned(edited)),
                Verdict::Drop => {}
            }
        }
        let whole = kept.len() == elements.len() && kept.iter().all(|message| matches!(message, Cow::Borrowed(_)));
        match (whole, kept.is_empty()) {
            (true, _) => Verdict::Keep,
            (false, true) => Verdict::Drop,
            (false, false) => Verdict::Replace([b"[".as_slice(), &kept.join(&b','), b"]"].concat()),
        }
    }
}
