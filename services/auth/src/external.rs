//! Sign-in with an external identity provider: the way of the browser to the realm and back.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use kit::{catalog::SIGN_IN_CALLBACK_PATH, clock::now_ms};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::{
    config::{ExternalArgs, RealmArgs},
    domain::external::{self, Begun, Provider, Providers, ReturnPath, SIGN_IN_WITHIN},
    error::Error,
    sealed::{self, Purpose, random_word},
};

const PURPOSE: Purpose = Purpose("posthouse: a sign-in with an external identity provider");
const CODE_PURPOSE: Purpose = Purpose("posthouse: the code of a sign-in with an external identity provider");
const COOKIE: &str = "posthouse-login";
/// What a browser takes by TLS only, for this host only (RFC 6265bis).
const HOST_PREFIX: &str = "__Host-";

/// The external identity providers of a realm. Cheap to clone.
#[derive(Clone)]
pub struct External(Arc<Inner>);

struct Inner {
    providers: Vec<Provider>,
    /// The addresses of the tenant, the main one first.
    origins: Vec<String>,
    /// Where the realm takes browsers.
    authorization_url: Option<Url>,
    client_id: String,
    /// What all replicas have in common and no browser knows.
    secret: SecretString,
}

/// What the browser is answered with.
pub(crate) struct Redirect {
    pub location: String,
    pub cookie: String,
}

impl External {
    /// Returns the providers of a realm.
    pub fn new(args: ExternalArgs, realm: &RealmArgs) -> anyhow::Result<Self> {
        let ExternalArgs { identity_providers: Providers(providers), public_origins, oidc_issuer } = args;
        let url = format!("{}/protocol/openid-connect/auth", oidc_issuer.trim_end_matches('/'));
        Ok(Self(Arc::new(Inner {
            providers,
            origins: public_origins,
            authorization_url: Some(url.parse()?),
            client_id: realm.oidc_client_id.clone(),
            secret: realm.oidc_client_secret.clone(),
        })))
    }

    /// Returns those of a realm that has none.
    pub fn none() -> Self {
        Self(Arc::new(Inner {
            providers: Vec::new(),
            origins: Vec::new(),
            authorization_url: None,
            client_id: String::new(),
            secret: SecretString::default(),
        }))
    }

    pub(crate) fn providers(&self) -> &[Provider] {
        &self.0.providers
    }

    /// Begins a sign-in: sends the browser to the realm, which sends it on to the provider.
    pub(crate) fn begin(
        &self,
        alias: &str,
        host: Option<&str>,
        return_to: ReturnPath,
    ) -> Result<Redirect, Error> {
        let inner = &self.0;
        let is_known = inner.providers.iter().any(|provider| provider.alias == alias);
        let (true, Some(url), Some(origin)) =
            (is_known, &inner.authorization_url, external::origin(&inner.origins, host))
        else {
            return Err(Error::NoProvider);
        };
        let begun = Begun {
            state: random_word().expose_secret().to_owned(),
            verifier: random_word().expose_secret().to_owned(),
            origin: origin.to_owned(),
            return_to,
            begun_at_ms: now_ms(),
        };
        let mut url = url.clone();
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", &inner.client_id),
            ("redirect_uri", &callback(&begun)),
            ("scope", "openid"),
            ("state", &begun.state),
            ("code_challenge", &begun.challenge()),
            ("code_challenge_method", "S256"),
            ("kc_idp_hint", alias),
        ]);
        let sealed = sealed::seal(&inner.secret, PURPOSE, COOKIE, &begun);
        let seconds = SIGN_IN_WITHIN.as_secs();
        let cookie = cookie(origin, &BASE64_URL_SAFE_NO_PAD.encode(sealed), seconds);
        Ok(Redirect { location: url.into(), cookie })
    }

    /// Returns the sign-in that this browser has begun, by its `cookie` headers.
    pub(crate) fn begun<'a>(&self, cookies: impl Iterator<Item = &'a str>) -> Result<Begun, Error> {
        let mut values = cookies.flat_map(|header| header.split(';')).filter_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            Some((name, value)).filter(|(name, _)| name.ends_with(COOKIE))
        });
        let now_ms = now_ms();
        let open = |(name, value): (&str, &str)| {
            let sealed = BASE64_URL_SAFE_NO_PAD.decode(value).ok()?;
            let begun = sealed::open::<Begun>(&self.0.secret, PURPOSE, COOKIE, sealed)?;
            // Its prefix is what keeps pages of other hosts from setting it.
            let is_named_so = name.strip_suffix(COOKIE) == Some(prefix(&begun.origin));
            (is_named_so && begun.is_open(now_ms)).then_some(begun)
        };
        values.find_map(open).ok_or(Error::NotBegun)
    }

    /// Returns what a page is given for a code of the realm. It is worth something with the cookie of this sign-in alone: the realm takes
    /// back what a code gave when it sees the code again, and so it must not see one that comes from another browser.
    pub(crate) fn login_code(&self, begun: &Begun, code: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(sealed::seal(&self.0.secret, CODE_PURPOSE, &begun.verifier, &code))
    }

    /// Returns the code of the realm that a page was given; `None` for one of another sign-in.
    pub(crate) fn realm_code(&self, begun: &Begun, login_code: &str) -> Option<SecretString> {
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(login_code).ok()?;
        let code: String = sealed::open(&self.0.secret, CODE_PURPOSE, &begun.verifier, sealed)?;
        Some(code.into())
    }

    /// Returns the cookie that ends a sign-in in the browser.
    pub(crate) fn ended(begun: &Begun) -> String {
        cookie(&begun.origin, "", 0)
    }
}

/// Returns where the realm sends the browser back.
pub(crate) fn callback(begun: &Begun) -> String {
    format!("{}{SIGN_IN_CALLBACK_PATH}", begun.origin)
}

/// Returns what the name of the cookie begins with: over TLS what a browser takes from this host alone.
fn prefix(origin: &str) -> &'static str {
    if origin.starts_with("https://") { HOST_PREFIX } else { "" }
}

fn cookie(origin: &str, value: &str, seconds: u64) -> String {
    let prefix = prefix(origin);
    let secure = if prefix.is_empty() { "" } else { "; Secure" };
    // Lax: the realm sends the browser back from another site.
    format!("{prefix}{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}
