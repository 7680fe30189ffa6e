//! How clients spell a host.

use crate::policy::model::Installation;

/// A client may write the scheme's default port into `Host`.
pub fn spellings(host: &str, installation: &Installation) -> Vec<String> {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    if has_port {
        return vec![host.to_owned()];
    }
    let plain = installation.public_url.as_ref().is_some_and(|url| url.url().scheme() == "http");
    vec![host.to_owned(), format!("{host}:{}", if plain { 80 } else { 443 })]
}
