//! How often the keys are fetched, and which keys are valid in between.

use std::time::Duration;

use jsonwebtoken::Algorithm::{self, ES256};
use serde_json::{Value, json};

use super::super::keys::{IssuerKeys, KeyLookupError};
use super::{FakeIssuer, JWKS, Signer};

const OPENID: &str = "https://issuer.example/.well-known/openid-configuration";
const OAUTH: &str = "https://issuer.example/.well-known/oauth-authorization-server";

async fn advance(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn find_key(keys: &std::sync::Arc<IssuerKeys>, id: &str) -> Result<(), KeyLookupError> {
    keys.find_key(id, ES256).await.map(|_| ())
}

#[tokio::test(start_paused = true)]
async fn keys_are_discovered_by_metadata_and_fetched_once() {
    let issuer = FakeIssuer::with_keys(&[Signer::p256().to_jwk("a")]);
    let keys = issuer.keys();
    let concurrent = (0..100).map(|_| find_key(&keys, "a"));
    assert!(futures::future::join_all(concurrent).await.iter().all(Result::is_ok));
    assert_eq!(issuer.take_requests(), [OAUTH, OPENID, JWKS]);
    advance(299).await;
    assert_eq!((find_key(&keys, "a").await, issuer.take_requests()), (Ok(()), vec![]));
}

#[tokio::test(start_paused = true)]
async fn unknown_keys_cause_few_requests() {
    let issuer = FakeIssuer::with_keys(&[Signer::p256().to_jwk("a")]);
    let keys = issuer.keys();
    for second in 0..60 {
        for n in 0..50 {
            assert_eq!(
                find_key(&keys, &format!("{second}-{n}")).await,
                Err(KeyLookupError::Unknown)
            );
        }
        advance(1).await;
    }
    let requests = issuer.take_requests().iter().filter(|url| *url == JWKS).count();
    assert!((2..=7).contains(&requests), "{requests}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_disconnects_does_not_stop_the_refresh() {
    let issuer = FakeIssuer::with_keys(&[Signer::p256().to_jwk("a")]);
    let timeout = Duration::from_millis(20);
    for via_readiness in [false, true] {
        let keys = issuer.keys();
        let disconnected = async {
            if via_readiness {
                keys.are_available().await
            } else {
                find_key(&keys, "unknown").await.is_ok()
            }
        };
        assert!(tokio::time::timeout(timeout, disconnected).await.is_err());
        assert_eq!(find_key(&keys, "a").await, Ok(()), "{via_readiness}");
        assert_eq!(issuer.take_requests(), [OAUTH, OPENID, JWKS]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_key_replaces_the_old_one() {
    let issuer = FakeIssuer::with_keys(&[Signer::p256().to_jwk("old")]);
    let keys = issuer.keys();
    assert_eq!(find_key(&keys, "old").await, Ok(()));
    issuer.publish_keys(&[Signer::p256().to_jwk("new")]);
    assert_eq!(find_key(&keys, "new").await, Err(KeyLookupError::Unknown));
    advance(11).await;
    assert_eq!(find_key(&keys, "new").await, Ok(()));
    assert_eq!(find_key(&keys, "old").await, Err(KeyLookupError::Unknown));
    // A replaced key is dropped at the next refresh even if no token names the new one.
    issuer.publish_keys(&[Signer::p256().to_jwk("newest")]);
    advance(301).await;
    assert_eq!(find_key(&keys, "new").await, Ok(()));
    advance(1).await;
    assert_eq!(find_key(&keys, "new").await, Err(KeyLookupError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn cached_keys_stay_valid_for_an_hour_while_the_issuer_is_down() {
    let issuer = FakeIssuer::with_keys(&[Signer::p256().to_jwk("a")]);
    let keys = issuer.keys();
    assert_eq!(find_key(&keys, "a").await, Ok(()));
    issuer.set_document(JWKS, None);
    for _ in 0..11 {
        advance(300).await;
        assert_eq!(find_key(&keys, "a").await, Ok(()));
    }
    advance(305).await;
    assert_eq!(find_key(&keys, "a").await, Err(KeyLookupError::Unavailable));
    issuer.publish_keys(&[Signer::p256().to_jwk("a")]);
    advance(6).await;
    assert_eq!(find_key(&keys, "a").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_is_retried_after_a_pause() {
    let issuer = FakeIssuer::default();
    let keys = issuer.keys();
    for _ in 0..100 {
        assert_eq!(find_key(&keys, "a").await, Err(KeyLookupError::Unavailable));
    }
    assert_eq!(issuer.take_requests(), [OAUTH, OPENID]);
    issuer
        .set_document(OPENID, Some(json!({"issuer": super::ISSUER, "jwks_uri": JWKS}).to_string()));
    issuer.publish_keys(&[Signer::p256().to_jwk("a")]);
    advance(5).await;
    assert_eq!(find_key(&keys, "a").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn only_signature_keys_are_used_and_only_for_their_algorithms() {
    let with = |mut jwk: Value, more: Value| {
        jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        jwk
    };
    let (ec, rsa) = (Signer::p256(), Signer::rsa());
    let keys = FakeIssuer::with_keys(&[
        json!({"kty": "broken"}),
        json!("no key"),
        json!({"kty": "oct", "kid": "secret", "k": "c2VjcmV0"}),
        with(ec.to_jwk("enc"), json!({"use": "enc"})),
        with(ec.to_jwk("ops"), json!({"key_ops": ["sign"]})),
        with(ec.to_jwk("verify"), json!({"use": "sig", "key_ops": ["verify"]})),
        with(ec.to_jwk("wrong alg"), json!({"alg": "RS256"})),
        with(rsa.to_jwk("rs256"), json!({"alg": "RS256"})),
        rsa.to_jwk("rsa"),
        with(rsa.to_jwk("oaep"), json!({"alg": "RSA-OAEP"})),
        with(ec.to_jwk("p521"), json!({"crv": "P-521"})),
        Signer::ed25519().to_jwk("ed"),
    ])
    .keys();
    for (id, algorithm, expected) in [
        ("secret", Algorithm::HS256, false),
        ("enc", ES256, false),
        ("ops", ES256, false),
        ("verify", ES256, true),
        ("verify", Algorithm::ES384, false),
        ("verify", Algorithm::HS256, false),
        ("wrong alg", ES256, false),
        ("wrong alg", Algorithm::RS256, false),
        ("rs256", Algorithm::RS256, true),
        ("rs256", Algorithm::PS256, false),
        ("rs256", Algorithm::HS256, false),
        ("rsa", Algorithm::PS384, true),
        ("oaep", Algorithm::RS256, false),
        ("p521", ES256, false),
        ("ed", Algorithm::EdDSA, true),
        ("ed", ES256, false),
    ] {
        assert_eq!(keys.find_key(id, algorithm).await.is_ok(), expected, "{id} {algorithm:?}");
    }
}
