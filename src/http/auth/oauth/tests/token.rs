//! Which tokens are accepted, at a time that the test chooses.

use jiff::Timestamp;
use ring::hmac;
use serde_json::{Value, json};

use super::super::token::{LEEWAY, TokenRejection, TokenVerifier, VerifiedToken};
use super::{FakeIssuer, ISSUER, Signer, base64};
use crate::mcp::registry::scope::GrantedScopes;

const RESOURCE: &str = "https://phone.example/mcp";
const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

fn verifier(keys: &[Value]) -> TokenVerifier {
    TokenVerifier::new(ISSUER, RESOURCE, FakeIssuer::with_keys(keys).keys())
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": RESOURCE, "sub": "mia", "client_id": "desk",
        "iat": NOW, "exp": NOW + 300, "jti": "1", "scope": "calls:read openid",
    })
}

fn with_claim(mut object: Value, name: &str, value: Value) -> Value {
    match value {
        Value::Null => object.as_object_mut().unwrap().remove(name),
        value => object.as_object_mut().unwrap().insert(name.to_owned(), value),
    };
    object
}

fn verified() -> VerifiedToken {
    VerifiedToken {
        subject: "mia".to_owned(),
        client: Some("desk".to_owned()),
        scopes: GrantedScopes::parse(["calls:read"]),
        expires_at: at(300) + LEEWAY,
    }
}

#[tokio::test(start_paused = true)]
async fn each_asymmetric_algorithm_is_accepted() {
    for (signer, algorithm) in [
        (Signer::p256(), "ES256"),
        (Signer::p384(), "ES384"),
        (Signer::ed25519(), "EdDSA"),
        (Signer::rsa(), "RS256"),
        (Signer::rsa(), "PS512"),
    ] {
        let verifier = verifier(&[Signer::p256().to_jwk("other"), signer.to_jwk("k")]);
        let header = json!({"typ": "at+jwt", "alg": algorithm, "kid": "k"});
        let token = signer.sign_token(&header, &claims());
        assert_eq!(verifier.verify_token(&token, at(0)).await, Ok(verified()), "{algorithm}");
        // The claims differ in one letter.
        let other = signer.sign_token(&header, &with_claim(claims(), "sub", json!("mio")));
        let (message, _) = other.rsplit_once('.').unwrap();
        let forged = format!("{message}.{}", token.rsplit_once('.').unwrap().1);
        let rejected = Err(TokenRejection::Invalid("the signature of the token is invalid"));
        assert_eq!(verifier.verify_token(&forged, at(0)).await, rejected, "{algorithm}");
    }
}

#[tokio::test(start_paused = true)]
async fn claims_are_checked_one_by_one() {
    let signer = Signer::p256();
    let verifier = verifier(&[signer.to_jwk("k")]);
    let header = json!({"typ": "at+jwt", "alg": "ES256", "kid": "k"});
    let audience = "the token is for another audience";
    let issuer = "the token was issued by another issuer";
    let lacks = "the token lacks iss, aud, sub or exp";
    let unreadable = "the token cannot be read";
    for (name, value, problem) in [
        ("aud", json!([RESOURCE, "https://other.example"]), None),
        ("aud", json!("https://phone.example/mcp/"), Some(audience)),
        ("aud", json!("https://phone.example"), Some(audience)),
        ("aud", json!([]), Some(audience)),
        ("aud", json!(null), Some(lacks)),
        ("iss", json!("https://issuer.example/"), Some(issuer)),
        ("iss", json!([ISSUER]), Some(unreadable)),
        ("iss", json!(null), Some(unreadable)),
        ("sub", json!(null), Some(unreadable)),
        ("sub", json!(""), Some("the subject of the token is empty (sub)")),
        ("sub", json!(7), Some(unreadable)),
        ("exp", json!(null), Some(unreadable)),
        ("exp", json!("soon"), Some(unreadable)),
        ("exp", json!(1e300), Some(lacks)),
        ("exp", json!(1e18), Some("the expiry of the token is not a time")),
        ("exp", json!(-1), Some(lacks)),
        ("exp", json!(1), Some("the token has expired")),
        ("exp", json!(NOW - 30), Some("the token has expired")),
        ("nbf", json!(NOW + 30), None),
        ("nbf", json!(NOW + 31), Some("the token is not valid yet")),
        ("nbf", json!("x"), Some(unreadable)),
        ("nbf", json!(1e300), Some("the token's nbf is not a time")),
        (
            "cnf",
            json!({"jkt": "x"}),
            Some("the token is bound to a key (cnf), which this server does not check"),
        ),
    ] {
        let token = signer.sign_token(&header, &with_claim(claims(), name, value.clone()));
        let found = verifier.verify_token(&token, at(0)).await;
        let expected = problem.map_or(Ok(verified()), |text| Err(TokenRejection::Invalid(text)));
        assert_eq!(found, expected, "{name}: {value}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_valid_until_shortly_after_its_expiry() {
    let signer = Signer::p256();
    let verifier = verifier(&[signer.to_jwk("k")]);
    let token = signer.sign_token(&json!({"alg": "ES256", "kid": "k"}), &claims());
    assert_eq!(verifier.verify_token(&token, at(329)).await, Ok(verified()));
    let expired = Err(TokenRejection::Invalid("the token has expired"));
    assert_eq!(verifier.verify_token(&token, at(330)).await, expired);
}

#[tokio::test(start_paused = true)]
async fn the_header_must_match_the_key() {
    let signer = Signer::p256();
    let public = signer.to_jwk("k");
    let verifier = verifier(&[public.clone(), Signer::p384().to_jwk("p384")]);
    let no_key = "the token is signed with a key that the issuer does not publish";
    let unsigned = "the token is not a signed JWT that this server can check";
    for (header, problem) in [
        (json!({"alg": "ES256", "kid": "k"}), None),
        (json!({"typ": "JWT", "alg": "ES256", "kid": "k"}), None),
        (json!({"typ": "application/at+jwt", "alg": "ES256", "kid": "k"}), None),
        (
            json!({"typ": "logout+jwt", "alg": "ES256", "kid": "k"}),
            Some("the token is not an access token"),
        ),
        (
            json!({"typ": "dpop+jwt", "alg": "ES256", "kid": "k"}),
            Some("the token is not an access token"),
        ),
        (json!({"alg": "ES256", "kid": "K"}), Some(no_key)),
        (json!({"alg": "ES256", "kid": "p384"}), Some(no_key)),
        (json!({"alg": "ES384", "kid": "k"}), Some(no_key)),
        (json!({"alg": "RS256", "kid": "k"}), Some(no_key)),
        (json!({"alg": "ES256"}), Some("the token does not name its key (kid)")),
        (json!({"alg": "none", "kid": "k"}), Some(unsigned)),
        (json!({"alg": "None", "kid": "k"}), Some(unsigned)),
        (json!({"kid": "k"}), Some(unsigned)),
        (
            json!({"alg": "ES256", "kid": "k", "crit": ["b64"], "b64": false}),
            Some("the token requires extensions that this server does not support"),
        ),
        // A key in the token itself is ignored.
        (json!({"alg": "ES256", "kid": "mine", "jwk": public}), Some(no_key)),
    ] {
        let token = signer.sign_token(&header, &claims());
        let expected = problem.map_or(Ok(verified()), |text| Err(TokenRejection::Invalid(text)));
        assert_eq!(verifier.verify_token(&token, at(0)).await, expected, "{header}");
    }
    // Tokens without a signature.
    let header = base64(json!({"alg": "none", "kid": "k"}).to_string());
    for token in [
        format!("{header}.{}.", base64(claims().to_string())),
        format!("{header}.{}", base64(claims().to_string())),
        "..".to_owned(),
        "x".to_owned(),
        "cbmcp_00".to_owned(),
    ] {
        assert_eq!(
            verifier.verify_token(&token, at(0)).await,
            Err(TokenRejection::Invalid(unsigned)),
            "{token}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_public_key_is_never_used_as_a_shared_secret() {
    let rsa = Signer::rsa();
    let verifier = verifier(&[rsa.to_jwk("k")]);
    let jwk = rsa.to_jwk("k");
    let message = format!(
        "{}.{}",
        base64(json!({"alg": "HS256", "kid": "k"}).to_string()),
        base64(claims().to_string())
    );
    for secret in [jwk["n"].as_str().unwrap().to_owned(), jwk.to_string()] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let token = format!("{message}.{}", base64(hmac::sign(&key, message.as_bytes())));
        let rejected = Err(TokenRejection::Invalid("the token is signed with a shared secret"));
        assert_eq!(verifier.verify_token(&token, at(0)).await, rejected);
    }
}

#[tokio::test(start_paused = true)]
async fn scopes_are_read_in_all_common_forms() {
    let signer = Signer::p256();
    let verifier = verifier(&[signer.to_jwk("k")]);
    let all = ["calls:read", "calls:place"];
    for (name, value, scopes) in [
        ("scope", json!("calls:read calls:place"), &all[..]),
        ("scp", json!(["calls:read", "calls:place"]), &all),
        ("scp", json!("calls:place calls:read"), &all),
        ("scope", json!(""), &[]),
        ("permissions", json!(["calls:place"]), &[]),
    ] {
        let claims = with_claim(with_claim(claims(), "scope", Value::Null), name, value.clone());
        let token = signer.sign_token(&json!({"alg": "ES256", "kid": "k"}), &claims);
        let found = verifier.verify_token(&token, at(0)).await.unwrap().scopes;
        assert_eq!(found, GrantedScopes::parse(scopes.iter().copied()), "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_issuers_keys_no_token_can_be_verified() {
    let signer = Signer::p256();
    let verifier = TokenVerifier::new(ISSUER, RESOURCE, FakeIssuer::default().keys());
    let token = signer.sign_token(&json!({"alg": "ES256", "kid": "k"}), &claims());
    assert_eq!(verifier.verify_token(&token, at(0)).await, Err(TokenRejection::Unavailable));
}
