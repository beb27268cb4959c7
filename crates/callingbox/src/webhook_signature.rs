//! The signature of a webhook delivery: the header `CallingBox-Signature: t=<unix seconds>,v1=<hex>[,v1=<hex>]`. A
//! signature is the HMAC-SHA256 of `<t>.` and the raw body; its key is the whole secret, `whsec_` included (CallingBox's
//! guide "Webhook security").
//!
//! ```
//! use callingbox::webhook_signature::{SIGNATURE_HEADER, SigningSecrets, sign};
//! use http::HeaderMap;
//! use jiff::Timestamp;
//!
//! let secrets = SigningSecrets::new(["whsec_0123456789abcdef".to_owned()])?;
//! let (body, now) = (br#"{"type": "call.completed"}"#, Timestamp::now());
//! # let mut headers = HeaderMap::new();
//! # headers.insert(SIGNATURE_HEADER, sign("whsec_0123456789abcdef", now.as_second(), body).parse()?);
//! // `headers` and `body` are those of the request; the body must not have been parsed and written again.
//! assert!(secrets.verify(&headers, body, now).is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// The header with the signature.
pub const SIGNATURE_HEADER: &str = "callingbox-signature";
/// How far the time of a signature may be from the receiver's, in seconds.
pub const TOLERANCE: i64 = 300;
/// The largest number of signatures in a header.
const MAX_SIGNATURES: usize = 8;
/// The largest number of secrets.
const MAX_SECRETS: usize = 16;

/// The secrets that a delivery may be signed with: more than one while a secret is replaced.
#[derive(Debug, Clone)]
pub struct SigningSecrets(Vec<SecretString>);

/// Why secrets cannot be used. Its messages do not repeat a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSigningSecrets {
    /// There is none.
    #[error("no webhook signing secret is set")]
    Missing,
    /// One is not in the form of a secret.
    #[error("a webhook signing secret begins with `whsec_` and has no spaces")]
    Malformed,
    /// There are too many.
    #[error("at most 16 webhook signing secrets can be used at the same time")]
    TooMany,
}

/// Why a delivery is not authentic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It has no signature header, or more than one.
    #[error("the delivery has no signature")]
    Missing,
    /// The header is not in the form of a signature.
    #[error("the signature of the delivery is malformed")]
    Malformed,
    /// The signature was made with another secret, or for another body or time.
    #[error("the signature does not match the delivery")]
    Mismatch,
    /// The signature was made too long ago, or in the future.
    #[error("the time of the signature is too far from the time of this machine")]
    Stale,
}

impl SigningSecrets {
    /// Checks the secrets and removes the white space around them. Empty ones are left out.
    ///
    /// # Errors
    /// [`InvalidSigningSecrets`] if there are none or too many, or one is malformed.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Result<Self, InvalidSigningSecrets> {
        let secrets: Vec<String> = secrets
            .into_iter()
            .map(|secret| secret.trim_matches(is_around_text).to_owned())
            .filter(|secret| !secret.is_empty())
            .collect();
        let is_well_formed = |secret: &String| {
            secret.len() > "whsec_".len()
                && secret.starts_with("whsec_")
                && secret.bytes().all(|byte| byte.is_ascii_graphic())
        };
        match secrets.len() {
            0 => Err(InvalidSigningSecrets::Missing),
            1..=MAX_SECRETS if secrets.iter().all(is_well_formed) => {
                Ok(Self(secrets.into_iter().map(SecretString::from).collect()))
            }
            1..=MAX_SECRETS => Err(InvalidSigningSecrets::Malformed),
            _ => Err(InvalidSigningSecrets::TooMany),
        }
    }

    /// Verifies a delivery. `body` must be exactly the bytes that arrived.
    ///
    /// # Errors
    /// [`SignatureError`] if the delivery is not authentic.
    pub fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), SignatureError> {
        let (time, signatures) = parse_fresh(headers, now)?;
        // All combinations are tried, so that the duration does not reveal which one was nearly right.
        let mut is_signed = false;
        for secret in &self.0 {
            let mac = compute_mac(secret.expose_secret(), time, body);
            let mac = mac.ok_or(SignatureError::Mismatch)?;
            for signature in &signatures {
                is_signed |= mac.clone().verify_slice(signature).is_ok();
            }
        }
        if is_signed { Ok(()) } else { Err(SignatureError::Mismatch) }
    }
}

/// White space, or the byte order mark of a file.
fn is_around_text(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

/// Checks the headers of a delivery before its body is read, because anyone may send one.
///
/// # Errors
/// [`SignatureError`] if no body with these headers would be authentic.
pub fn check_headers(headers: &HeaderMap, now: Timestamp) -> Result<(), SignatureError> {
    parse_fresh(headers, now).map(drop)
}

/// The value of the signature header for a delivery, for tests of a receiver.
#[must_use]
pub fn sign(secret: &str, unix_seconds: i64, body: &[u8]) -> String {
    let mac = compute_mac(secret, &unix_seconds.to_string(), body);
    let digest = mac.map(|mac| mac.finalize().into_bytes()).unwrap_or_default();
    format!("t={unix_seconds},v1={}", base16ct::lower::encode_string(&digest))
}

/// The time of the signature, which is close to `now`, and the candidates for the signature itself.
fn parse_fresh(
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<(&str, Vec<[u8; 32]>), SignatureError> {
    let mut values = headers.get_all(SIGNATURE_HEADER).iter();
    let (Some(header), None) = (values.next(), values.next()) else {
        return Err(SignatureError::Missing);
    };
    let header = header.to_str().map_err(|_| SignatureError::Malformed)?;
    let (time, signatures) = parse_header(header).ok_or(SignatureError::Malformed)?;
    let seconds: i64 = time.parse().map_err(|_| SignatureError::Malformed)?;
    if now.as_second().abs_diff(seconds) > TOLERANCE.unsigned_abs() {
        return Err(SignatureError::Stale);
    }
    Ok((time, signatures))
}

/// The time as it is written, and the signatures.
fn parse_header(header: &str) -> Option<(&str, Vec<[u8; 32]>)> {
    let (mut time, mut signatures) = (None, Vec::new());
    for part in header.split(',') {
        let (name, value) = part.trim().split_once('=')?;
        match name {
            "t" if time.is_none() => time = Some(value),
            "t" => return None,
            "v1" if signatures.len() < MAX_SIGNATURES => signatures.push(parse_digest(value)?),
            "v1" => return None,
            // There may be other schemes later.
            _ => {}
        }
    }
    let time = time.filter(|time| !time.is_empty() && time.bytes().all(|b| b.is_ascii_digit()))?;
    (!signatures.is_empty()).then_some((time, signatures))
}

fn parse_digest(digits: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let length = base16ct::mixed::decode(digits, &mut digest).ok()?.len();
    (length == digest.len()).then_some(digest)
}

fn compute_mac(secret: &str, time: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_valid_for_its_body_secret_and_time() {
        let secrets = SigningSecrets::new(["whsec_a".to_owned(), "whsec_b".to_owned()]).unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let second = now.as_second();
        let check = |header: &str, body: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(SIGNATURE_HEADER, header.parse().unwrap());
            secrets.verify(&headers, body, now)
        };
        let good = sign("whsec_b", second, b"body");
        let digits = good.split_once("v1=").unwrap().1;
        let zeros = "0".repeat(64);
        for (header, expected) in [
            (good.clone(), Ok(())),
            (format!("t={second},v1={zeros},v1={digits}"), Ok(())),
            (format!(" t={second} , v1={digits}").replace(" ,", ","), Ok(())),
            (format!("v0=x,{good}"), Ok(())),
            (sign("whsec_a", second - 300, b"body"), Ok(())),
            (sign("whsec_a", second + 300, b"body"), Ok(())),
            (sign("whsec_a", second - 301, b"body"), Err(SignatureError::Stale)),
            (sign("whsec_a", second + 301, b"body"), Err(SignatureError::Stale)),
            (sign("whsec_c", second, b"body"), Err(SignatureError::Mismatch)),
            (sign("b", second, b"body"), Err(SignatureError::Mismatch)),
            (sign("whsec_a", second, b"Body"), Err(SignatureError::Mismatch)),
            (format!("t={},v1={digits}", second + 1), Err(SignatureError::Mismatch)),
            (format!("t={second},v1={zeros}"), Err(SignatureError::Mismatch)),
            (format!("t={},v1={zeros}", second - 301), Err(SignatureError::Stale)),
            (format!("t=0{second},v1={digits}"), Err(SignatureError::Mismatch)),
            (format!("t={second}"), Err(SignatureError::Malformed)),
            (format!("v1={digits}"), Err(SignatureError::Malformed)),
            (format!("t={second},t={second},v1={digits}"), Err(SignatureError::Malformed)),
            (format!("t=+{second},v1={digits}"), Err(SignatureError::Malformed)),
            (format!("t={second},v1={digits}0"), Err(SignatureError::Malformed)),
            (format!("t={second},v1"), Err(SignatureError::Malformed)),
            (
                format!("t={second}{}", format!(",v1={zeros}").repeat(9)),
                Err(SignatureError::Malformed),
            ),
            (String::new(), Err(SignatureError::Malformed)),
        ] {
            assert_eq!(check(&header, b"body"), expected, "{header}");
        }
        assert_eq!(secrets.verify(&HeaderMap::new(), b"body", now), Err(SignatureError::Missing));
    }

    #[test]
    fn secrets_are_checked_and_not_printed() {
        let new = |secrets: &[&str]| SigningSecrets::new(secrets.iter().map(|s| (*s).to_owned()));
        assert!(!format!("{:?}", new(&["\u{feff}whsec_abc\r"]).unwrap()).contains("abc"));
        for (secrets, problem) in [
            (&[][..], InvalidSigningSecrets::Missing),
            (&["", " "], InvalidSigningSecrets::Missing),
            (&["abc"], InvalidSigningSecrets::Malformed),
            (&["\u{feff}"], InvalidSigningSecrets::Missing),
            (&["whsec_"], InvalidSigningSecrets::Malformed),
            (&["whsec_a b"], InvalidSigningSecrets::Malformed),
            (&["whsec_a"; 17], InvalidSigningSecrets::TooMany),
        ] {
            assert_eq!(new(secrets).unwrap_err(), problem);
        }
    }
}
