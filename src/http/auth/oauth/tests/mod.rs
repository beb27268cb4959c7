//! An issuer for tests, with generated keys and with documents that a test sets.

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

use super::fetch::{DocumentFetcher, FetchError, Issuer};
use super::keys::IssuerKeys;

pub(super) const ISSUER: &str = "https://issuer.example";
const JWKS: &str = "https://issuer.example/keys";

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A private key of the issuer.
pub(super) enum Signer {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl Signer {
    pub(super) fn p256() -> Self {
        Self::P256(generate_ec_key(&ECDSA_P256_SHA256_FIXED_SIGNING))
    }

    pub(super) fn p384() -> Self {
        Self::P384(generate_ec_key(&ECDSA_P384_SHA384_FIXED_SIGNING))
    }

    pub(super) fn ed25519() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    /// *ring* cannot generate RSA keys, so this one is a file. It signs nothing but test tokens.
    pub(super) fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::from_pkcs8(include_bytes!("rsa.pk8")).unwrap())
    }

    pub(super) fn to_jwk(&self, id: &str) -> Value {
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

    pub(super) fn sign_token(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let algorithm = header["alg"].as_str().unwrap_or_default();
        format!("{message}.{}", base64(self.sign(algorithm, message.as_bytes())))
    }
}

fn generate_ec_key(algorithm: &'static ring::signature::EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap()
}

/// The documents of the issuer, and the requests for them.
#[derive(Clone, Default)]
pub(super) struct FakeIssuer(Arc<Mutex<Documents>>);

#[derive(Default)]
struct Documents {
    by_url: HashMap<String, String>,
    requests: Vec<String>,
}

impl FakeIssuer {
    /// An issuer with these keys.
    pub(super) fn with_keys(keys: &[Value]) -> Self {
        let web = Self::default();
        let metadata = json!({"issuer": ISSUER, "jwks_uri": JWKS}).to_string();
        web.set_document("https://issuer.example/.well-known/openid-configuration", Some(metadata));
        web.publish_keys(keys);
        web
    }

    pub(super) fn publish_keys(&self, keys: &[Value]) {
        self.set_document(JWKS, Some(json!({"keys": keys}).to_string()));
    }

    pub(super) fn set_document(&self, url: &str, body: Option<String>) {
        let documents = &mut self.0.lock().unwrap().by_url;
        match body {
            Some(body) => documents.insert(url.to_owned(), body),
            None => documents.remove(url),
        };
    }

    /// The URLs that were requested since the last call.
    pub(super) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().requests)
    }

    pub(super) fn keys(&self) -> Arc<IssuerKeys> {
        IssuerKeys::new(Issuer::new(ISSUER, None).unwrap(), Box::new(self.clone()))
    }
}

#[async_trait]
impl DocumentFetcher for FakeIssuer {
    async fn get(&self, url: &Url) -> Result<Bytes, FetchError> {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let mut documents = self.0.lock().unwrap();
        documents.requests.push(url.to_string());
        let document = documents.by_url.get(url.as_str()).cloned().map(Bytes::from);
        document.ok_or_else(|| FetchError::Failed { url: url.clone(), problem: "down".to_owned() })
    }
}
