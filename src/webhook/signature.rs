//! The signature of a delivery: `CallingBox-Signature: t=<unix seconds>,v1=<hex>[,v1=<hex>]`, the
//! HMAC-SHA256 of `<t>.` and the raw body, keyed with the whole secret, `whsec_` included
//! (CallingBox, guide "Webhook security").

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::hex;

/// The header that holds it.
const HEADER: &str = "callingbox-signature";
/// How far the signer's clock may be from ours, in seconds.
pub const TOLERANCE: i64 = 300;
/// The most signatures that are looked at.
const MOST_SIGNATURES: usize = 8;
/// The most secrets.
const MOST_SECRETS: usize = 16;

/// The secrets that count: several while one is exchanged for another.
#[derive(Debug, Clone)]
pub struct Secrets(Vec<SecretString>);

/// Secrets that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSecrets {
    /// There are none.
    #[error("no webhook signing secret is set")]
    None,
    /// One does not look like one. It is not repeated.
    #[error("a webhook signing secret begins `whsec_` and holds no spaces")]
    Unlike,
    /// There are too many.
    #[error("at most 16 webhook signing secrets can be used at a time")]
    TooMany,
}

/// Why a delivery is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsigned {
    /// There is no signature.
    Missing,
    /// It is not in the form of one.
    Unreadable,
    /// It was made with none of the secrets, or for something else.
    Wrong,
    /// It was made too long ago, or in the future.
    Stale,
}

impl Secrets {
    /// These secrets.
    ///
    /// # Errors
    /// There are none, too many, or one is none.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Result<Self, BadSecrets> {
        let secrets: Vec<String> = secrets
            .into_iter()
            .map(|secret| secret.trim().to_owned())
            .filter(|secret| !secret.is_empty())
            .collect();
        let sound = |secret: &String| {
            secret.len() > "whsec_".len()
                && secret.starts_with("whsec_")
                && secret.bytes().all(|byte| byte.is_ascii_graphic())
        };
        match secrets.len() {
            0 => Err(BadSecrets::None),
            1..=MOST_SECRETS if secrets.iter().all(sound) => {
                Ok(Self(secrets.into_iter().map(SecretString::from).collect()))
            }
            1..=MOST_SECRETS => Err(BadSecrets::Unlike),
            _ => Err(BadSecrets::TooMany),
        }
    }

    /// Checks the signature of a body that is exactly as it came.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), Unsigned> {
        let (time, signatures) = fresh(headers, now)?;
        // All are tried, so that the time it takes says nothing of which one was nearly right.
        let mut signed = false;
        for secret in &self.0 {
            let mac = mac(secret.expose_secret(), time, body).ok_or(Unsigned::Wrong)?;
            for signature in &signatures {
                signed |= mac.clone().verify_slice(signature).is_ok();
            }
        }
        if signed { Ok(()) } else { Err(Unsigned::Wrong) }
    }
}

/// Checks what can be said of a delivery before its body is read: anyone may send one.
///
/// # Errors
/// Why no body with these headers would be believed.
pub fn glance(headers: &HeaderMap, now: Timestamp) -> Result<(), Unsigned> {
    fresh(headers, now).map(drop)
}

/// The time of the signature, which is not far from `now`, and what may be the signature itself.
fn fresh(headers: &HeaderMap, now: Timestamp) -> Result<(&str, Vec<[u8; 32]>), Unsigned> {
    let mut given = headers.get_all(HEADER).iter();
    let (Some(header), None) = (given.next(), given.next()) else {
        return Err(Unsigned::Missing);
    };
    let header = header.to_str().map_err(|_| Unsigned::Unreadable)?;
    let (time, signatures) = read(header).ok_or(Unsigned::Unreadable)?;
    let seconds: i64 = time.parse().map_err(|_| Unsigned::Unreadable)?;
    if now.as_second().abs_diff(seconds) > TOLERANCE.unsigned_abs() {
        return Err(Unsigned::Stale);
    }
    Ok((time, signatures))
}

/// The time as it stands, and the signatures.
fn read(header: &str) -> Option<(&str, Vec<[u8; 32]>)> {
    let (mut time, mut signatures) = (None, Vec::new());
    for part in header.split(',') {
        let (name, value) = part.trim().split_once('=')?;
        match name {
            "t" if time.is_none() => time = Some(value),
            "t" => return None,
            "v1" if signatures.len() < MOST_SIGNATURES => signatures.push(hex::decode(value)?),
            "v1" => return None,
            // Other kinds of signature may come one day.
            _ => {}
        }
    }
    let time = time.filter(|time| !time.is_empty() && time.bytes().all(|b| b.is_ascii_digit()))?;
    (!signatures.is_empty()).then_some((time, signatures))
}

fn mac(secret: &str, time: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    Some(mac)
}

/// Signs, for tests.
#[cfg(test)]
pub(super) fn sign(secret: &str, time: i64, body: &[u8]) -> String {
    let mac = mac(secret, &time.to_string(), body).unwrap().finalize().into_bytes();
    format!("t={time},v1={}", hex::encode(&mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_body_its_secret_and_its_time() {
        let secrets = Secrets::new(["whsec_a".to_owned(), "whsec_b".to_owned()]).unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let at = now.as_second();
        let check = |header: &str, body: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, header.parse().unwrap());
            secrets.verify(&headers, body, now)
        };
        let good = sign("whsec_b", at, b"body");
        let digits = good.split_once("v1=").unwrap().1;
        let zeros = "0".repeat(64);
        for (header, expected) in [
            (good.clone(), Ok(())),
            (format!("t={at},v1={zeros},v1={digits}"), Ok(())),
            (format!(" t={at} , v1={digits}").replace(" ,", ","), Ok(())),
            (format!("v0=x,{good}"), Ok(())),
            (sign("whsec_a", at - 300, b"body"), Ok(())),
            (sign("whsec_a", at + 300, b"body"), Ok(())),
            (sign("whsec_a", at - 301, b"body"), Err(Unsigned::Stale)),
            (sign("whsec_a", at + 301, b"body"), Err(Unsigned::Stale)),
            (sign("whsec_c", at, b"body"), Err(Unsigned::Wrong)),
            (sign("b", at, b"body"), Err(Unsigned::Wrong)),
            (sign("whsec_a", at, b"Body"), Err(Unsigned::Wrong)),
            (format!("t={},v1={digits}", at + 1), Err(Unsigned::Wrong)),
            (format!("t={at},v1={zeros}"), Err(Unsigned::Wrong)),
            (format!("t={},v1={zeros}", at - 301), Err(Unsigned::Stale)),
            (format!("t=0{at},v1={digits}"), Err(Unsigned::Wrong)),
            (format!("t={at}"), Err(Unsigned::Unreadable)),
            (format!("v1={digits}"), Err(Unsigned::Unreadable)),
            (format!("t={at},t={at},v1={digits}"), Err(Unsigned::Unreadable)),
            (format!("t=+{at},v1={digits}"), Err(Unsigned::Unreadable)),
            (format!("t={at},v1={digits}0"), Err(Unsigned::Unreadable)),
            (format!("t={at},v1"), Err(Unsigned::Unreadable)),
            (format!("t={at}{}", format!(",v1={zeros}").repeat(9)), Err(Unsigned::Unreadable)),
            (String::new(), Err(Unsigned::Unreadable)),
        ] {
            assert_eq!(check(&header, b"body"), expected, "{header}");
        }
        assert_eq!(secrets.verify(&HeaderMap::new(), b"body", now), Err(Unsigned::Missing));
    }

    #[test]
    fn secrets_are_checked_and_never_shown() {
        let new = |secrets: &[&str]| Secrets::new(secrets.iter().map(|s| (*s).to_owned()));
        assert!(!format!("{:?}", new(&["whsec_abc"]).unwrap()).contains("abc"));
        for (secrets, problem) in [
            (&[][..], BadSecrets::None),
            (&["", " "], BadSecrets::None),
            (&["abc"], BadSecrets::Unlike),
            (&["whsec_"], BadSecrets::Unlike),
            (&["whsec_a b"], BadSecrets::Unlike),
            (&["whsec_a"; 17], BadSecrets::TooMany),
        ] {
            assert_eq!(new(secrets).unwrap_err(), problem);
        }
    }
}
