//! Access tokens: JWTs in the profile of RFC 9068, verified with the issuer's keys. A token in doubt is rejected. Knows
//! nothing about HTTP.
//!
//! More lenient than the RFC in one point: `typ` may also be `JWT` or missing, since popular issuers do not write
//! `at+jwt`. The audience excludes ID tokens: theirs is the client, never this server.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::keys::{IssuerKeys, KeyLookupError};
use super::signatures::describe_error;
use crate::mcp::registry::scope::GrantedScopes;

/// The tolerated difference between the clocks of issuer and server.
pub(super) const LEEWAY: SignedDuration = SignedDuration::from_secs(30);

/// The claims of a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VerifiedToken {
    pub(super) subject: String,
    /// The client that the token was issued to, if the issuer names it.
    pub(super) client: Option<String>,
    pub(super) scopes: GrantedScopes,
    /// When this server stops accepting the token.
    pub(super) expires_at: Timestamp,
}

/// Why a token is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenRejection {
    /// The token is invalid; the text says why.
    Invalid(&'static str),
    /// The issuer's keys are not available.
    Unavailable,
}

pub(super) struct TokenVerifier {
    issuer: String,
    resource: String,
    keys: Arc<IssuerKeys>,
}

#[derive(Deserialize)]
struct Claims {
    /// Must be one name: a list of issuers is rejected.
    #[serde(rename = "iss")]
    _issuer: String,
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    client_id: Option<String>,
    scope: Option<ScopeClaim>,
    /// The name of `scope` at some issuers.
    scp: Option<ScopeClaim>,
    cnf: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ScopeClaim {
    Text(String),
    List(Vec<String>),
}

impl ScopeClaim {
    fn to_scopes(&self) -> GrantedScopes {
        match self {
            Self::Text(names) => GrantedScopes::parse([names.as_str()]),
            Self::List(names) => GrantedScopes::parse(names.iter().map(String::as_str)),
        }
    }
}

impl TokenVerifier {
    pub(super) fn new(issuer: &str, resource: &str, keys: Arc<IssuerKeys>) -> Self {
        Self { issuer: issuer.to_owned(), resource: resource.to_owned(), keys }
    }

    /// Verifies a token at this time.
    pub(super) async fn verify_token(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<VerifiedToken, TokenRejection> {
        use TokenRejection::Invalid;
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| Invalid("the token is not a signed JWT that this server can check"))?;
        if header.crit.is_some() {
            return Err(Invalid("the token requires extensions that this server does not support"));
        }
        if !header.typ.as_deref().is_none_or(is_access_token) {
            return Err(Invalid("the token is not an access token"));
        }
        if matches!(header.alg, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
            return Err(Invalid("the token is signed with a shared secret"));
        }
        let id = header.kid.as_deref().ok_or(Invalid("the token does not name its key (kid)"))?;
        let key = self.keys.find_key(id, header.alg).await.map_err(|error| match error {
            KeyLookupError::Unknown => {
                Invalid("the token is signed with a key that the issuer does not publish")
            }
            KeyLookupError::Unavailable => TokenRejection::Unavailable,
        })?;
        let mut validation = Validation::new(header.alg);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.resource]);
        // Checked below, at `now`.
        validation.validate_exp = false;
        let token = jsonwebtoken::decode::<Claims>(token, &key, &validation)
            .map_err(|error| Invalid(describe_error(&error)))?;
        let claims = token.claims;
        if claims.cnf.is_some() {
            // This server does not check possession of the key, so it must not accept the token.
            return Err(Invalid(
                "the token is bound to a key (cnf), which this server does not check",
            ));
        }
        if claims.sub.is_empty() {
            return Err(Invalid("the subject of the token is empty (sub)"));
        }
        let expires_at = numeric_date(claims.exp, LEEWAY)
            .ok_or(Invalid("the expiry of the token is not a time"))?;
        if now >= expires_at {
            return Err(Invalid("the token has expired"));
        }
        if let Some(nbf) = claims.nbf {
            let from =
                numeric_date(nbf, -LEEWAY).ok_or(Invalid("the token's nbf is not a time"))?;
            if now < from {
                return Err(Invalid("the token is not valid yet"));
            }
        }
        let scopes = claims.scope.or(claims.scp);
        Ok(VerifiedToken {
            subject: claims.sub,
            client: claims.client_id,
            scopes: scopes.as_ref().map(ScopeClaim::to_scopes).unwrap_or_default(),
            expires_at,
        })
    }
}

/// RFC 9068, section 2.1, and the more lenient forms above. Media types are case-insensitive.
fn is_access_token(typ: &str) -> bool {
    ["at+jwt", "application/at+jwt", "jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known))
}

/// A NumericDate of RFC 7519, moved by `offset`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a value out of range is not a timestamp and is rejected"
)]
fn numeric_date(seconds: f64, offset: SignedDuration) -> Option<Timestamp> {
    let time = seconds.is_finite().then(|| Timestamp::from_second(seconds as i64).ok())??;
    time.checked_add(offset).ok()
}
