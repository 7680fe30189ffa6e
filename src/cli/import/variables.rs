//! The variables to import, from the environment or from a file of `NAME=value` lines.

use std::collections::BTreeMap;

/// Every variable that oauth-mcp-proxy reads.
pub(super) const READ: [&str; 18] = [
    "OAUTH_MODE",
    "OAUTH_PROVIDER",
    "OAUTH_REDIRECT_URIS",
    "OAUTH_FIXED_REDIRECT_URI",
    "OAUTH_ALLOWED_CLIENT_REDIRECT_DOMAINS",
    "OIDC_ISSUER",
    "OIDC_AUDIENCE",
    "OIDC_CLIENT_ID",
    "OIDC_CLIENT_SECRET",
    "OIDC_SCOPES",
    "OIDC_SKIP_AUDIENCE_CHECK",
    "OIDC_VALIDATOR_ISSUER",
    "JWT_SECRET",
    "MCP_URL",
    "MCP_HOST",
    "MCP_PORT",
    "HTTPS_CERT_FILE",
    "HTTPS_KEY_FILE",
];
/// What its documents name and its code never reads.
pub(super) const NEVER_READ: [(&str, &str); 4] = [
    ("OAUTH_ISSUER", "OIDC_ISSUER"),
    ("OAUTH_AUDIENCE", "OIDC_AUDIENCE"),
    ("OAUTH_CLIENT_ID", "OIDC_CLIENT_ID"),
    ("OAUTH_SERVER_URL", "MCP_URL"),
];

/// Variables with their values. An empty value is none, as it was before.
#[derive(Debug, Default)]
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Those of this process. Values that are not UTF-8 are none of oauth-mcp-proxy's.
    pub(super) fn of_process() -> Self {
        let all = std::env::vars_os();
        Self(all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect())
    }

    /// Those of a file. The last of several lines with one name counts.
    ///
    /// # Errors
    /// The number of a line that is no `NAME=value`; never what it holds.
    pub(super) fn of_file(text: &str) -> Result<Self, String> {
        let mut variables = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
            let named = line.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
            let (name, value) = named
                .filter(|(name, _)| is_name(name))
                .ok_or_else(|| format!("line {} is no `NAME=value`", index + 1))?;
            let value = unquoted(value).ok_or_else(|| format!("line {}: a quote is not closed", index + 1))?;
            variables.insert(name.to_owned(), value);
        }
        Ok(Self(variables))
    }

    /// The value of a variable that is set to something.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Which of these are set.
    pub(super) fn set<'n>(&self, names: &[&'n str]) -> Vec<&'n str> {
        names.iter().copied().filter(|name| self.get(name).is_some()).collect()
    }

    /// Names that look like settings of oauth-mcp-proxy and are none.
    pub(super) fn strangers(&self) -> impl Iterator<Item = &str> {
        let names = self.0.keys().map(String::as_str);
        let alike = |name: &&str| ["OAUTH_", "OIDC_"].iter().any(|start| name.starts_with(start));
        names.filter(alike).filter(|name| !READ.contains(name) && !NEVER_READ.iter().any(|(never, _)| never == name))
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The value of a line: between quotes as it stands, in double quotes with `\n`, `\"`, `\\` and `\$`; without quotes up to
/// a comment.
fn unquoted(value: &str) -> Option<String> {
    if let Some(inside) = value.strip_prefix('\'') {
        return inside.split_once('\'').map(|(inside, _)| inside.to_owned());
    }
    let Some(inside) = value.strip_prefix('"') else {
        let end = value.find(" #").unwrap_or(value.len());
        return value.get(..end).map(|value| value.trim_end().to_owned());
    };
    let mut text = String::new();
    let mut chars = inside.chars();
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => match chars.next()? {
                'n' => text.push('\n'),
                escaped @ ('"' | '\\' | '$') => text.push(escaped),
                other => text.extend(['\\', other]),
            },
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_shells_and_tools_read_it() {
        let text = "# settings\n\nA=1\nexport B = two words # said\nC='a # \"b'\nD=\"a\\\"b\\n\\$c\\d\" # x\nE=\nF=a#b\nA=2\r\n G=\"\"\n";
        let variables = Variables::of_file(text).unwrap();
        for (name, value) in [("A", "2"), ("B", "two words"), ("C", "a # \"b"), ("D", "a\"b\n$c\\d"), ("F", "a#b")] {
            assert_eq!(variables.get(name), Some(value), "{name}");
        }
        assert_eq!((variables.get("E"), variables.get("G"), variables.get("H")), (None, None, None), "nothing is none");
        for (text, says) in [("A=1\nhunter2\n", "line 2"), ("A='x", "line 1"), ("A=\"x", "line 1"), ("=x", "line 1")] {
            let error = Variables::of_file(text).unwrap_err();
            assert!(error.contains(says) && !error.contains("hunter2"), "{error}");
        }
    }
}
