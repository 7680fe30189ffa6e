//! The provider's word after the sign-in: its tokens are renewed when they are too old, and it is asked whether it still
//! vouches for the person.
//!
//! Of many who need its word at once, in this process or another, one asks: the grant says so in the store, and the others
//! wait for what comes of it. The one who asks is not stopped by a client that goes away, since a refresh token that was used
//! and whose successor was not kept is lost.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep, timeout};

use super::answer::OauthError;
use super::grant::{self, Grant};
use super::provider::{self, ProviderError, ProviderTokens, Renewed, Word};
use crate::engine::credential::ProviderToken;
use crate::engine::decision::{Denial, Reason};
use crate::engine::issuing::{Issuing, SignIn};
use crate::engine::store::Table;
use crate::engine::vault::VaultError;

/// Seconds for which the provider's last word about a person is good enough, unless its access token ends before.
const INTERVAL: i64 = 60;
/// Seconds for which the one who asks may take: both steps, and some.
const ASKING: i64 = 25;
/// How long each of the two steps may take.
const STEP: Duration = Duration::from_secs(10);
/// Seconds for which a provider that did not answer is left alone, as far as one grant goes.
const REST: i64 = 5;
/// How long others wait for the one who asks.
const PATIENCE: Duration = Duration::from_secs(12);
/// When a request is tried again that got no token.
const RETRY: Duration = Duration::from_secs(2);
/// How often they look.
const LOOK: Duration = Duration::from_millis(50);

/// Why there is no word of the provider.
#[derive(Debug, thiserror::Error)]
pub enum Unvouched {
    /// There is no grant, or none that the provider gave tokens for; the person signs in again.
    #[error("the sign-in is over")]
    Over,
    /// It cannot be asked now.
    #[error("the identity provider cannot be asked")]
    Unavailable,
    /// What it says is not acceptable.
    #[error("the identity provider's answer is not acceptable")]
    Refused,
    /// The store cannot be asked.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl From<Unvouched> for OauthError {
    fn from(error: Unvouched) -> Self {
        match error {
            Unvouched::Over => ProviderError::Ended(String::new()).into(),
            Unvouched::Unavailable => ProviderError::Unavailable(String::new()).into(),
            Unvouched::Refused => ProviderError::Refused(String::new()).into(),
            Unvouched::Vault(error) => error.into(),
        }
    }
}

impl From<Unvouched> for Denial {
    fn from(error: Unvouched) -> Self {
        let reason = match error {
            Unvouched::Over => Reason::TokenInactive,
            Unvouched::Unavailable | Unvouched::Vault(_) => Reason::CredentialUnavailable,
            Unvouched::Refused => Reason::CredentialRefused,
        };
        let denial = Self::new(reason).because(error.to_string());
        if reason == Reason::CredentialUnavailable { denial.retry_after(RETRY) } else { denial }
    }
}

/// The tokens of providers that are kept with grants, for upstreams whose policy says that they get them.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeptTokens;

#[async_trait]
impl crate::engine::credential::ProviderTokens for KeptTokens {
    async fn token(&self, issuing: &Arc<Issuing>, grant: &str) -> Result<ProviderToken, Denial> {
        Ok(provider_token(issuing, grant).await?)
    }
}

/// The provider's access token for the person of a grant (`sid` of the gateway's tokens), renewed when it is too old. It asks
/// the store every time: whoever needs it often keeps it for a while, and no longer than the grant is good.
///
/// # Errors
/// There is none, and why.
pub async fn provider_token(issuing: &Arc<Issuing>, grant: &str) -> Result<ProviderToken, Unvouched> {
    let tokens = word(issuing, grant, ProviderTokens::is_stale).await?.tokens.ok_or(Unvouched::Over)?;
    Ok(ProviderToken { text: tokens.access, until: tokens.until })
}

/// Whether the provider is to be asked before a grant is refreshed. One that gave no refresh token cannot be.
pub fn is_due(issuing: &Issuing, grant: &Grant) -> bool {
    let sign_in = issuing.sign_in.iter().find(|sign_in| sign_in.name == grant.provider);
    sign_in.zip(grant.tokens.as_ref()).is_some_and(|(sign_in, tokens)| {
        provider::answers(sign_in, tokens) && is_old(tokens, issuing.works.clock.unix())
    })
}

fn is_old(tokens: &ProviderTokens, now: i64) -> bool {
    now - tokens.asked >= INTERVAL || tokens.until.is_some_and(|until| until <= now)
}

/// Asks the provider of a grant whether it still vouches for the person, and reads their claims anew.
///
/// # Errors
/// It does not, and then the grant is over; or it cannot be asked, and for longer than the policy has patience.
pub async fn vouch(issuing: &Arc<Issuing>, id: &str, held: &Grant) -> Result<(), Unvouched> {
    let silent = issuing.works.clock.unix() - held.tokens.as_ref().map_or(0, |tokens| tokens.asked);
    match word(issuing, id, is_old).await {
        Err(Unvouched::Unavailable) if silent < issuing.lifetimes.outage => {
            let (service, provider) = (&*issuing.service, &held.provider);
            tracing::warn!(
                event = "provider-outage",
                service,
                provider,
                silent,
                "a grant goes on by the provider's last word"
            );
            Ok(())
        }
        outcome => outcome.map(|_| ()),
    }
}

/// The grant with a word of its provider that is good enough: as long as `wanted` says it is not, the provider is asked.
async fn word(
    issuing: &Arc<Issuing>,
    id: &str,
    wanted: impl Fn(&ProviderTokens, i64) -> bool + Send,
) -> Result<Grant, Unvouched> {
    let (vault, name, began) = (&issuing.works.vault, grant::row_name(issuing, id), Instant::now());
    let (since, mut waited) = (issuing.works.clock.unix(), false);
    loop {
        let Some(entry) = vault.get::<Grant>(Table::Grants, &name).await? else { return Err(Unvouched::Over) };
        let (held, now) = (&entry.value, issuing.works.clock.unix());
        let tokens = held.tokens.as_ref().ok_or(Unvouched::Over)?;
        // What another one has just brought is as good as it gets, however short it lasts.
        if !wanted(tokens, now) || (waited && tokens.busy == 0 && tokens.asked >= since) {
            return Ok(entry.value);
        }
        if now < tokens.rest || began.elapsed() > PATIENCE {
            return Err(Unvouched::Unavailable);
        }
        if now < tokens.busy {
            waited = true;
            sleep(LOOK).await;
            continue;
        }
        let mut asking = held.clone();
        asking.tokens = Some(ProviderTokens { busy: now + ASKING, ..tokens.clone() });
        if vault.replace(Table::Grants, &entry, &asking, asking.left(issuing), &asking.subject).await? {
            let asked = tokio::spawn(ask(Arc::clone(issuing), id.to_owned(), asking));
            return asked.await.unwrap_or(Err(Unvouched::Unavailable));
        }
    }
}

/// Asks the provider, and keeps what it says.
async fn ask(issuing: Arc<Issuing>, id: String, held: Grant) -> Result<Grant, Unvouched> {
    let error = match renewed(&issuing, &id, &held).await {
        Ok(grant) => return grant.ok_or(Unvouched::Over),
        Err(Failed::Vault(error)) => return Err(error.into()),
        Err(Failed::Provider(error)) => error,
    };
    let (service, provider) = (&*issuing.service, &held.provider);
    match error {
        ProviderError::Ended(_) => {
            tracing::warn!(event = "provider-ended", service, provider, client = held.client, %error, "a grant is revoked");
            grant::revoke(&issuing, &id).await?;
            return Err(Unvouched::Over);
        }
        ProviderError::Unavailable(_) => {
            tracing::warn!(event = "provider-unavailable", service, provider, %error, "a grant cannot be renewed for now");
        }
        ProviderError::Refused(_) => {
            tracing::warn!(event = "provider-refused", service, provider, %error, "a grant cannot be renewed");
        }
    }
    let rest = issuing.works.clock.unix() + REST;
    grant::change(&issuing, &id, |grant| {
        if let Some(tokens) = &mut grant.tokens {
            (tokens.busy, tokens.rest) = (0, rest);
        }
    })
    .await?;
    Err(if matches!(error, ProviderError::Refused(_)) { Unvouched::Refused } else { Unvouched::Unavailable })
}

/// Why the provider's word did not come to be kept.
enum Failed {
    Provider(ProviderError),
    Vault(VaultError),
}

impl From<ProviderError> for Failed {
    fn from(error: ProviderError) -> Self {
        Self::Provider(error)
    }
}

impl From<VaultError> for Failed {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

/// New tokens, kept before anything else may fail, and then what the provider says about the person.
async fn renewed(issuing: &Issuing, id: &str, held: &Grant) -> Result<Option<Grant>, Failed> {
    let sign_in = issuing.sign_in.iter().find(|sign_in| sign_in.name == held.provider);
    let sign_in = sign_in.ok_or_else(|| ProviderError::Ended("the policy no longer names it".to_owned()))?;
    let tokens = held.tokens.as_ref().ok_or_else(|| ProviderError::Ended("it gave no tokens".to_owned()))?;
    let (mut fresh, answer) = within(provider::renew(issuing, sign_in, tokens)).await?;
    // It has not vouched before its word is read.
    (fresh.asked, fresh.busy, fresh.told) = (tokens.asked, tokens.busy, tokens.told.clone());
    if grant::change(issuing, id, |grant| grant.tokens = Some(fresh.clone())).await?.is_none() {
        return Ok(None);
    }
    let word = word_of(issuing, sign_in, held, (&answer, &tokens.told)).await?;
    let now = issuing.works.clock.unix();
    let vouched = grant::change(issuing, id, |grant| {
        if let Some(tokens) = &mut grant.tokens {
            (tokens.asked, tokens.busy) = (now, 0);
        }
        let Some(word) = &word else { return };
        grant.claims = grant::mapped(issuing, &word.claims);
        if let Some(tokens) = &mut grant.tokens {
            tokens.told.clone_from(&word.told);
        }
    });
    Ok(vouched.await?)
}

async fn word_of(
    issuing: &Issuing,
    sign_in: &SignIn,
    held: &Grant,
    (answer, told): (&Renewed, &Map<String, Value>),
) -> Result<Option<Word>, ProviderError> {
    let subject = held.subject.strip_prefix(&sign_in.name).and_then(|rest| rest.strip_prefix(':'));
    let subject = subject.ok_or_else(|| ProviderError::Ended("it vouched for nobody".to_owned()))?;
    within(provider::claims(issuing, sign_in, answer, (subject, told))).await
}

async fn within<T>(step: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ProviderError> {
    let late = |_| ProviderError::Unavailable("no answer within 10 seconds".to_owned());
    timeout(STEP, step).await.map_err(late)?
}
