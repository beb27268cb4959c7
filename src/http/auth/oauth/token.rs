//! Access tokens: JWTs in the profile of RFC 9068, checked against the issuer's keys. What is not clearly
//! right is refused. Knows nothing of HTTP.
//!
//! Looser than the RFC in one point: `typ` may also be `JWT` or be left out, since much-used issuers do
//! not write `at+jwt`. The audience keeps ID tokens out: theirs is the client, never this server.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::keys::{Keys, NoKey};
use super::signatures::explain;
use crate::mcp::scope::Scopes;

/// By how much the clocks of issuer and server may differ.
pub(super) const LEEWAY: SignedDuration = SignedDuration::from_secs(30);

/// What a good token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verified {
    /// Whom it is about.
    pub(super) subject: String,
    /// The client that it was given to, where the issuer says so.
    pub(super) client: Option<String>,
    /// What was granted.
    pub(super) scopes: Scopes,
    /// From when on it no longer counts.
    pub(super) until: Timestamp,
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejected {
    /// It is no good, in words.
    Invalid(&'static str),
    /// Whether it is good cannot be found out now.
    Unavailable,
}

/// What tokens are checked for.
pub(super) struct Verifier {
    issuer: String,
    resource: String,
    keys: Arc<Keys>,
}

#[derive(Deserialize)]
struct Claims {
    /// One name: a list of issuers is no issuer.
    #[serde(rename = "iss")]
    _issuer: String,
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    client_id: Option<String>,
    scope: Option<Names>,
    /// What some issuers write instead of `scope`.
    scp: Option<Names>,
    cnf: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Many(Vec<String>),
}

impl Names {
    fn scopes(&self) -> Scopes {
        match self {
            Self::One(names) => Scopes::parse([names.as_str()]),
            Self::Many(names) => Scopes::parse(names.iter().map(String::as_str)),
        }
    }
}

impl Verifier {
    pub(super) fn new(issuer: &str, resource: &str, keys: Arc<Keys>) -> Self {
        Self { issuer: issuer.to_owned(), resource: resource.to_owned(), keys }
    }

    /// Checks a token at this time.
    pub(super) async fn verify(&self, token: &str, now: Timestamp) -> Result<Verified, Rejected> {
        use Rejected::Invalid;
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| Invalid("the token is not a signed JWT that this server can check"))?;
        if header.crit.is_some() {
            return Err(Invalid("the token demands extensions that this server does not know"));
        }
        if !header.typ.as_deref().is_none_or(is_access_token) {
            return Err(Invalid("the token is not an access token"));
        }
        if matches!(header.alg, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
            return Err(Invalid("the token is signed with a shared secret"));
        }
        let id = header.kid.as_deref().ok_or(Invalid("the token does not name its key (kid)"))?;
        let key = self.keys.find(id, header.alg).await.map_err(|none| match none {
            NoKey::Unknown => {
                Invalid("the token is signed with a key that the issuer does not have")
            }
            NoKey::Unavailable => Rejected::Unavailable,
        })?;
        let mut validation = Validation::new(header.alg);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.resource]);
        // Below, at the time that was asked about.
        validation.validate_exp = false;
        let token = jsonwebtoken::decode::<Claims>(token, &key, &validation)
            .map_err(|error| Invalid(explain(&error)))?;
        let claims = token.claims;
        if claims.cnf.is_some() {
            // Possession of the key it is bound to is not checked here, so it must not count as if it were.
            return Err(Invalid(
                "the token is bound to a key (cnf), which this server does not check",
            ));
        }
        if claims.sub.is_empty() {
            return Err(Invalid("the token is about nobody (sub)"));
        }
        let until =
            later(claims.exp, LEEWAY).ok_or(Invalid("the token has no expiry that is a time"))?;
        if now >= until {
            return Err(Invalid("the token has expired"));
        }
        if let Some(nbf) = claims.nbf {
            let from = later(nbf, -LEEWAY).ok_or(Invalid("the token's nbf is not a time"))?;
            if now < from {
                return Err(Invalid("the token is not valid yet"));
            }
        }
        let scopes = claims.scope.or(claims.scp);
        Ok(Verified {
            subject: claims.sub,
            client: claims.client_id,
            scopes: scopes.as_ref().map(Names::scopes).unwrap_or_default(),
            until,
        })
    }
}

/// RFC 9068, section 2.1, and the looser forms above; media types are compared without regard to case.
fn is_access_token(typ: &str) -> bool {
    ["at+jwt", "application/at+jwt", "jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known))
}

/// The time so much after these seconds since 1970 (NumericDate of RFC 7519).
#[expect(clippy::cast_possible_truncation, reason = "what is too large is no time, and refused")]
fn later(seconds: f64, by: SignedDuration) -> Option<Timestamp> {
    let at = seconds.is_finite().then(|| Timestamp::from_second(seconds as i64).ok())??;
    at.checked_add(by).ok()
}
