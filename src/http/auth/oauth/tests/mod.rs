//! An issuer for tests: keys of its own, and answers that a test writes.

mod keys;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA512, RsaKeyPair,
};
use serde_json::{Value, json};
use url::Url;

use super::fetch::{Fetch, FetchError, Issuer};
use super::keys::Keys;

pub(super) const ISSUER: &str = "https://issuer.example";
const JWKS: &str = "https://issuer.example/keys";

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key that signs, and what the issuer publishes of it.
pub(super) enum Signer {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl Signer {
    pub(super) fn p256() -> Self {
        Self::P256(ec(&ECDSA_P256_SHA256_FIXED_SIGNING))
    }

    pub(super) fn p384() -> Self {
        Self::P384(ec(&ECDSA_P384_SHA384_FIXED_SIGNING))
    }

    pub(super) fn ed25519() -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
    }

    /// *ring* makes no keys of this kind, so this one is kept beside the test and signs nothing else.
    pub(super) fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::from_pkcs8(include_bytes!("rsa.pk8")).unwrap())
    }

    pub(super) fn jwk(&self, id: &str) -> Value {
        let point = |pair: &EcdsaKeyPair, curve: &str| {
            let (x, y) =
                pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
            json!({"kty": "EC", "crv": curve, "kid": id, "x": base64(x), "y": base64(y)})
        };
        match self {
            Self::P256(pair) => point(pair, "P-256"),
            Self::P384(pair) => point(pair, "P-384"),
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": base64(pair.public_key())})
            }
            Self::Rsa(pair) => {
                let public: ring::rsa::PublicKeyComponents<Vec<u8>> = pair.public().into();
                json!({"kty": "RSA", "kid": id, "n": base64(public.n), "e": base64(public.e)})
            }
        }
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::P256(pair) | Self::P384(pair) => {
                pair.sign(&random, message).unwrap().as_ref().to_vec()
            }
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let by: &dyn ring::signature::RsaEncoding =
                    if algorithm == "PS512" { &RSA_PSS_SHA512 } else { &RSA_PKCS1_SHA256 };
                pair.sign(by, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    pub(super) fn token(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let algorithm = header["alg"].as_str().unwrap_or_default();
        format!("{message}.{}", base64(self.sign(algorithm, message.as_bytes())))
    }
}

fn ec(algorithm: &'static ring::signature::EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).unwrap()
}

/// What the issuer answers, and how often it was asked.
#[derive(Clone, Default)]
pub(super) struct Web(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    there: HashMap<String, String>,
    asked: Vec<String>,
}

impl Web {
    /// An issuer with these keys.
    pub(super) fn with(keys: &[Value]) -> Self {
        let web = Self::default();
        let metadata = json!({"issuer": ISSUER, "jwks_uri": JWKS}).to_string();
        web.set("https://issuer.example/.well-known/openid-configuration", Some(metadata));
        web.publish(keys);
        web
    }

    pub(super) fn publish(&self, keys: &[Value]) {
        self.set(JWKS, Some(json!({"keys": keys}).to_string()));
    }

    pub(super) fn set(&self, url: &str, body: Option<String>) {
        let pages = &mut self.0.lock().unwrap().there;
        match body {
            Some(body) => pages.insert(url.to_owned(), body),
            None => pages.remove(url),
        };
    }

    /// The addresses that were asked for since the last time.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }

    pub(super) fn keys(&self) -> Arc<Keys> {
        Keys::new(Issuer::new(ISSUER, None).unwrap(), Box::new(self.clone()))
    }
}

#[async_trait]
impl Fetch for Web {
    async fn get(&self, url: &Url) -> Result<Bytes, FetchError> {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let mut web = self.0.lock().unwrap();
        web.asked.push(url.to_string());
        let page = web.there.get(url.as_str()).cloned().map(Bytes::from);
        page.ok_or_else(|| FetchError::Failed { url: url.clone(), problem: "down".to_owned() })
    }
}
