//! `portcullis import`: from the settings of oauth-mcp-proxy to a policy that means the same, but for what was unsafe.
//!
//! No value of a secret is looked at but its length, and none is written: the policy names the variable.

mod page;
mod place;
mod resource;
mod sign_in;
mod variables;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use self::page::{Note, Page};
use self::variables::{NEVER_READ, Variables};
use super::{complain, fail, print};

/// `portcullis import`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A file of `NAME=value` lines with the settings, instead of the environment.
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Where the policy is written, instead of standard output. A file that is there stays as it is.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Who issued tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Issuer {
    /// Shared secrets.
    Hmac,
    /// Okta.
    Okta,
    /// Google.
    Google,
    /// Microsoft Entra ID.
    Azure,
}

/// What the library did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It verified tokens.
    Native,
    /// It stood between clients and the provider.
    Proxy,
}

impl Issuer {
    /// The name of the provider in the policy, which is that of its preset.
    fn name(self) -> &'static str {
        match self {
            Self::Hmac => "own",
            Self::Okta => "okta",
            Self::Google => "google",
            Self::Azure => "entra",
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let variables = match &arguments.env_file {
        None => Variables::of_process(),
        Some(path) => {
            let named = |error: String| format!("`{}`: {error}", path.display());
            let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
            match text.and_then(|text| Variables::of_file(&text)).map_err(named) {
                Ok(variables) => variables,
                Err(error) => return fail(&error),
            }
        }
    };
    let (text, notes) = match policy(&variables) {
        Ok(made) => made,
        Err(problems) => {
            problems.iter().for_each(|problem| complain(&format!("error: {problem}\n")));
            return ExitCode::FAILURE;
        }
    };
    let shown = match &arguments.out {
        None => "the policy".to_owned(),
        Some(path) => {
            let written = std::fs::File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
            if let Err(error) = written {
                return fail(&format!("`{}` cannot be written: {error}", path.display()));
            }
            format!("`{}`", path.display())
        }
    };
    if arguments.out.is_none() {
        print(&text);
    }
    complain(&format!("{notes} notes in {shown} say what is not as it was; `portcullis check` says what is missing\n"));
    ExitCode::SUCCESS
}

/// The policy with the number of its notes, or everything that keeps from making one.
fn policy(variables: &Variables) -> Result<(String, usize), Vec<String>> {
    let mut page = Page::default();
    page.line("# yaml-language-server: $schema=policy.schema.json");
    page.line("#");
    page.comment(
        "Made by `portcullis import` from the settings of oauth-mcp-proxy. Comments marked `unsafe`, `note` and `to do` say \
         what is not taken over as it was, and what is left to do. Every message now needs a good token, and a refusal is a \
         401 or 403 that clients understand. Editors check this file with the schema that `portcullis schema policy` prints.",
    );
    let (issuer, mode) = wanted(&mut page, variables)?;
    page.line("service: mcp");
    let place = place::write(&mut page, variables);
    match mode {
        Mode::Native => resource::write(&mut page, variables, issuer, &place),
        Mode::Proxy => sign_in::write(&mut page, variables, issuer, &place).map_err(|problem| vec![problem])?,
    }
    page.note(
        Note::NoRules,
        "whoever had a token could do everything. These rules still say so; name the tools, resources and prompts that you mean, \
         and who may use them.",
    );
    page.line("rules:");
    page.line("  - allow: { tools: [\"*\"], resources: [\"**\"], prompts: [\"*\"], methods: [logging/setLevel] }");
    let notes = page.noted.len();
    Ok((page.finish(), notes))
}

/// Provider and mode, when oauth-mcp-proxy would have started with these settings.
fn wanted(page: &mut Page, variables: &Variables) -> Result<(Issuer, Mode), Vec<String>> {
    let mut problems = Vec::new();
    let issuer = match variables.get("OAUTH_PROVIDER") {
        Some("hmac") => Some(Issuer::Hmac),
        Some("okta") => Some(Issuer::Okta),
        Some("google") => Some(Issuer::Google),
        Some("azure") => Some(Issuer::Azure),
        Some(other) => {
            let told = page::quoted(other);
            problems.push(format!("OAUTH_PROVIDER is {told}; oauth-mcp-proxy knew hmac, okta, google and azure"));
            None
        }
        None => {
            problems.push("OAUTH_PROVIDER is not set: there is nothing to import".to_owned());
            None
        }
    };
    let client = variables.get("OIDC_CLIENT_ID").is_some();
    let mode = match variables.get("OAUTH_MODE") {
        Some("native") => Some(Mode::Native),
        Some("proxy") => Some(Mode::Proxy),
        Some(other) => {
            problems.push(format!("OAUTH_MODE is {}; oauth-mcp-proxy knew native and proxy", page::quoted(other)));
            None
        }
        None => {
            let (word, is) = if client { ("proxy", "is") } else { ("native", "is not") };
            let told = format!("OAUTH_MODE is not set. It was {word}, because OIDC_CLIENT_ID {is} set.");
            page.note(Note::ModeImplied, &told);
            Some(if client { Mode::Proxy } else { Mode::Native })
        }
    };
    let mut needs = |name: &str, who: &str| {
        if variables.get(name).is_none() {
            problems.push(format!("{name} is not set, and {who} needs it"));
        }
    };
    if issuer.is_some_and(|issuer| issuer != Issuer::Hmac) {
        needs("OIDC_ISSUER", "a provider");
    }
    let hmac_proxy = issuer == Some(Issuer::Hmac) && mode == Some(Mode::Proxy);
    if mode == Some(Mode::Proxy) && !hmac_proxy {
        needs("OIDC_CLIENT_ID", "proxy mode");
        if variables.set(&["OAUTH_REDIRECT_URIS", "OAUTH_FIXED_REDIRECT_URI"]).is_empty() {
            problems.push(
                "neither OAUTH_REDIRECT_URIS nor OAUTH_FIXED_REDIRECT_URI is set, and proxy mode needs one".to_owned(),
            );
        }
    }
    let (Some(issuer), Some(mode), true) = (issuer, mode, problems.is_empty()) else { return Err(problems) };
    for (never, instead) in NEVER_READ {
        if variables.get(never).is_some() {
            let told = format!(
                "{never} stands in the documents of oauth-mcp-proxy, which only ever read {instead}. Not taken over."
            );
            page.note(Note::NeverRead, &told);
        }
    }
    for stranger in variables.strangers() {
        page.note(
            Note::Stranger,
            &format!("{} is no variable of oauth-mcp-proxy's. Not taken over.", page::quoted(stranger)),
        );
    }
    if hmac_proxy {
        let told = "proxy mode with shared secrets has nobody to sign people in with and never worked. Written as a resource server: \
                    tokens come from whoever has the secret.";
        page.note(Note::HmacProxy, told);
        return Ok((issuer, Mode::Native));
    }
    Ok((issuer, mode))
}

#[cfg(test)]
mod tests {
    use super::variables::READ;
    use super::*;

    /// The variables and the policy of every golden.
    fn goldens() -> Vec<(String, String)> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/import");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let read = |path: PathBuf| {
            let text = std::fs::read_to_string(path).unwrap();
            let (written, expected) = text.split_once("----\n").unwrap();
            (written.to_owned(), expected.to_owned())
        };
        files.map(read).collect()
    }

    #[test]
    fn every_variable_and_every_note_has_a_golden() {
        let goldens = goldens();
        let never = NEVER_READ.map(|(name, _)| name);
        for name in READ.iter().chain(&never) {
            let set =
                |line: &str| line.split_once('=').is_some_and(|(found, value)| found == *name && !value.is_empty());
            assert!(goldens.iter().any(|(written, _)| written.lines().any(set)), "no golden sets {name}");
        }
        for note in Note::ALL {
            let heading = format!("[{}]: ", note.name());
            assert!(goldens.iter().any(|(_, made)| made.contains(&heading)), "no golden shows {heading}");
        }
    }
}
