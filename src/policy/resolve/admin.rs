//! The meaning of the admin listener.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::clients::strong;
use super::context::Context;
use crate::diagnostics::Diagnostic;
use crate::engine::snapshot::AdminAccess;
use crate::policy::codes;
use crate::policy::document::installation::AdminDocument;
use crate::policy::model::Admin;

/// Where Prometheus looks for exporters of this kind.
const PORT: u16 = 9464;

/// Reads where the admin listener is and who may ask it.
pub fn admin(context: &mut Context<'_>, written: &AdminDocument) -> Admin {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let address = written.address.as_ref().map_or(default, |text| {
        text.parse().unwrap_or_else(|_| {
            let message = format!("`{text}` is not an IP address with a port");
            let diagnostic = Diagnostic::error(codes::INVALID_VALUE, message);
            context.push(diagnostic.help("write for example `127.0.0.1:9464`"), "/admin/address");
            default
        })
    });
    let token = written.token.as_ref().and_then(|secret| strong(context, secret, "/admin/token"));
    if !address.ip().is_loopback() && written.token.is_none() {
        let message = format!("whoever reaches {address} could read the status and the metrics");
        let help = "add `token`, or let it listen on 127.0.0.1";
        context.push_at_key(Diagnostic::error(codes::OPEN_ADMIN, message).help(help), "/admin");
    }
    let hosts = written.hosts.iter().flatten().map(|host| host.to_ascii_lowercase()).collect();
    Admin { address, access: Arc::new(AdminAccess { token: token.map(|held| held.secret.fingerprint()), hosts }) }
}
