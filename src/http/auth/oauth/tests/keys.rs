//! How often the issuer is asked, and which keys count meanwhile.

use std::time::Duration;

use jsonwebtoken::Algorithm::{self, ES256};
use serde_json::{Value, json};

use super::super::keys::{Keys, NoKey};
use super::{JWKS, Signer, Web};

const OPENID: &str = "https://issuer.example/.well-known/openid-configuration";
const OAUTH: &str = "https://issuer.example/.well-known/oauth-authorization-server";

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn find(keys: &std::sync::Arc<Keys>, id: &str) -> Result<(), NoKey> {
    keys.find(id, ES256).await.map(|_| ())
}

#[tokio::test(start_paused = true)]
async fn keys_are_found_by_the_issuers_metadata_and_asked_for_once() {
    let web = Web::with(&[Signer::p256().jwk("a")]);
    let keys = web.keys();
    let many = (0..100).map(|_| find(&keys, "a"));
    assert!(futures::future::join_all(many).await.iter().all(Result::is_ok));
    assert_eq!(web.asked(), [OAUTH, OPENID, JWKS]);
    pass(299).await;
    assert_eq!((find(&keys, "a").await, web.asked()), (Ok(()), vec![]));
}

#[tokio::test(start_paused = true)]
async fn made_up_keys_cause_a_request_only_now_and_then() {
    let web = Web::with(&[Signer::p256().jwk("a")]);
    let keys = web.keys();
    for second in 0..60 {
        for n in 0..50 {
            assert_eq!(find(&keys, &format!("{second}-{n}")).await, Err(NoKey::Unknown));
        }
        pass(1).await;
    }
    let asked = web.asked().iter().filter(|url| *url == JWKS).count();
    assert!((2..=7).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_the_issuer_is_asked_takes_nothing_from_those_who_stay() {
    let web = Web::with(&[Signer::p256().jwk("a")]);
    let soon = Duration::from_millis(20);
    for probed in [false, true] {
        let keys = web.keys();
        let left = async {
            if probed { keys.are_known().await } else { find(&keys, "made up").await.is_ok() }
        };
        assert!(tokio::time::timeout(soon, left).await.is_err());
        assert_eq!(find(&keys, "a").await, Ok(()), "{probed}");
        assert_eq!(web.asked(), [OAUTH, OPENID, JWKS]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_and_the_one_it_replaces_is_forgotten() {
    let web = Web::with(&[Signer::p256().jwk("old")]);
    let keys = web.keys();
    assert_eq!(find(&keys, "old").await, Ok(()));
    web.publish(&[Signer::p256().jwk("new")]);
    assert_eq!(find(&keys, "new").await, Err(NoKey::Unknown));
    pass(11).await;
    assert_eq!(find(&keys, "new").await, Ok(()));
    assert_eq!(find(&keys, "old").await, Err(NoKey::Unknown));
    // Without a token that names it, a key is forgotten when its time is up.
    web.publish(&[Signer::p256().jwk("newest")]);
    pass(301).await;
    assert_eq!(find(&keys, "new").await, Ok(()));
    pass(1).await;
    assert_eq!(find(&keys, "new").await, Err(NoKey::Unknown));
}

#[tokio::test(start_paused = true)]
async fn keys_count_for_an_hour_while_the_issuer_is_away() {
    let web = Web::with(&[Signer::p256().jwk("a")]);
    let keys = web.keys();
    assert_eq!(find(&keys, "a").await, Ok(()));
    web.set(JWKS, None);
    for _ in 0..11 {
        pass(300).await;
        assert_eq!(find(&keys, "a").await, Ok(()));
    }
    pass(305).await;
    assert_eq!(find(&keys, "a").await, Err(NoKey::Unavailable));
    web.publish(&[Signer::p256().jwk("a")]);
    pass(6).await;
    assert_eq!(find(&keys, "a").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_was_never_reached_is_asked_again_soon_but_not_at_once() {
    let web = Web::default();
    let keys = web.keys();
    for _ in 0..100 {
        assert_eq!(find(&keys, "a").await, Err(NoKey::Unavailable));
    }
    assert_eq!(web.asked(), [OAUTH, OPENID]);
    web.set(OPENID, Some(json!({"issuer": super::ISSUER, "jwks_uri": JWKS}).to_string()));
    web.publish(&[Signer::p256().jwk("a")]);
    pass(5).await;
    assert_eq!(find(&keys, "a").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn only_keys_for_signatures_count_and_each_for_its_own_way_alone() {
    let with = |mut jwk: Value, more: Value| {
        jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        jwk
    };
    let (ec, rsa) = (Signer::p256(), Signer::rsa());
    let keys = Web::with(&[
        json!({"kty": "broken"}),
        json!("no key"),
        json!({"kty": "oct", "kid": "secret", "k": "c2VjcmV0"}),
        with(ec.jwk("enc"), json!({"use": "enc"})),
        with(ec.jwk("ops"), json!({"key_ops": ["sign"]})),
        with(ec.jwk("verify"), json!({"use": "sig", "key_ops": ["verify"]})),
        with(ec.jwk("wrong alg"), json!({"alg": "RS256"})),
        with(rsa.jwk("rs256"), json!({"alg": "RS256"})),
        rsa.jwk("rsa"),
        with(rsa.jwk("oaep"), json!({"alg": "RSA-OAEP"})),
        with(ec.jwk("p521"), json!({"crv": "P-521"})),
        Signer::ed25519().jwk("ed"),
    ])
    .keys();
    for (id, algorithm, found) in [
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
        assert_eq!(keys.find(id, algorithm).await.is_ok(), found, "{id} {algorithm:?}");
    }
}
