//! What one MCP message asks for.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// What one MCP message asks for, with the name that a policy governs (MCP schema, client requests and notifications).
#[derive(Debug, Clone)]
pub enum Operation<'a> {
    /// `tools/call`.
    CallTool {
        /// `params.name`, unescaped.
        name: Cow<'a, str>,
        /// `params.arguments`, as written.
        arguments: Option<&'a RawValue>,
    },
    /// `prompts/get`.
    GetPrompt {
        /// `params.name`, unescaped.
        name: Cow<'a, str>,
        /// `params.arguments`, as written.
        arguments: Option<&'a RawValue>,
    },
    /// `resources/read`.
    ReadResource {
        /// `params.uri`, unescaped.
        uri: Cow<'a, str>,
    },
    /// `resources/subscribe` and `resources/unsubscribe`: follow the rule of the resource.
    SubscribeResource {
        /// `params.uri`, unescaped.
        uri: Cow<'a, str>,
    },
    /// `completion/complete` on a prompt: follows the rule of the prompt.
    CompletePrompt {
        /// `params.ref.name`, unescaped.
        name: Cow<'a, str>,
    },
    /// `completion/complete` on a resource template: follows the rule of the resource.
    CompleteResource {
        /// `params.ref.uri`, unescaped.
        uri: Cow<'a, str>,
    },
    /// `subscriptions/listen`: each entry follows the rule of the resource that it names.
    Listen {
        /// `params.notifications.resourceSubscriptions`, unescaped.
        uris: Vec<Cow<'a, str>>,
    },
    /// One of the four list methods: needs no rule, its answer is filtered.
    List(ItemKind),
    /// What needs no rule but a valid token: `initialize`, `server/discover`, `ping`, lifecycle, progress and cancel
    /// notifications, and on the caller's own session or task client responses and `tasks/*`.
    Lifecycle {
        /// The method, or `response` for a client's answer to a server request.
        method: Cow<'a, str>,
    },
    /// Everything else, `logging/setLevel` included: needs `methods:` in a rule.
    Method {
        /// The method, unescaped.
        method: Cow<'a, str>,
        /// Whether the specification names it, for 403 and not 404 when no rule does.
        specified: bool,
    },
}

/// The four kinds of item that a server lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ItemKind {
    /// `tools/list`, named by `name`.
    Tool,
    /// `prompts/list`, named by `name`.
    Prompt,
    /// `resources/list`, named by `uri`.
    Resource,
    /// `resources/templates/list`, named by `uriTemplate`.
    ResourceTemplate,
}
