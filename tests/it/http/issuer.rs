//! A small authorization server on loopback for tests: metadata, keys and tokens.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::support::{Server, program};

/// The audience of tokens for the server, wherever it listens.
pub(crate) const RESOURCE: &str = "https://phone.example/mcp";
/// The tolerated difference between the clocks of issuer and server, in seconds.
pub(crate) const LEEWAY: i64 = 30;

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The published keys; `None` while the issuer is down.
type PublishedKeys = Arc<Mutex<Option<Vec<Value>>>>;

pub(crate) struct Issuer {
    pub(crate) url: String,
    published: PublishedKeys,
    key: EcdsaKeyPair,
}

impl Issuer {
    /// Starts an issuer that publishes its key as `first`.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let published = PublishedKeys::default();
        let metadata = json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string();
        let keys = async |State(published): State<PublishedKeys>| {
            let published = published.lock().unwrap();
            let keys = published.as_ref().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
            Ok::<_, StatusCode>(json!({"keys": keys}).to_string())
        };
        let routes = Router::new()
            .route("/.well-known/oauth-authorization-server", get(async || metadata))
            .route("/keys", get(keys))
            .with_state(Arc::clone(&published));
        tokio::spawn(async { axum::serve(listener, routes).await });
        let issuer = Self { url, published, key: generate_key() };
        issuer.publish_key(&["first"]);
        issuer
    }

    /// Publishes the key under these ids.
    pub(crate) fn publish_key(&self, ids: &[&str]) {
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        let jwk = |id: &&str| json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id, "x": base64(x), "y": base64(y)});
        *self.published.lock().unwrap() = Some(ids.iter().map(jwk).collect());
    }

    /// Answers all requests for keys with 503 from now on.
    pub(crate) fn go_down(&self) {
        *self.published.lock().unwrap() = None;
    }

    /// The claims of a token for this subject, valid for a minute.
    pub(crate) fn claims(&self, subject: &str, scopes: &str) -> Value {
        let now = Timestamp::now().as_second();
        json!({
            "iss": self.url, "aud": RESOURCE, "sub": subject, "client_id": "desk",
            "iat": now, "exp": now + 60, "scope": scopes,
        })
    }

    /// A token with these claims, signed by the key `first`.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&json!({"typ": "at+jwt", "alg": "ES256", "kid": "first"}), claims)
    }

    pub(crate) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let message = signing_input(header, claims);
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", base64(signature))
    }

    /// A token with these claims, signed with the public key as shared secret.
    pub(crate) fn sign_with_public_key(&self, claims: &Value) -> String {
        let message =
            signing_input(&json!({"typ": "at+jwt", "alg": "HS256", "kid": "first"}), claims);
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.key.public_key().as_ref());
        format!("{message}.{}", base64(ring::hmac::sign(&secret, message.as_bytes())))
    }

    /// A token with these claims and without a signature.
    pub(crate) fn unsigned(claims: &Value) -> String {
        format!(
            "{}.",
            signing_input(&json!({"typ": "at+jwt", "alg": "none", "kid": "first"}), claims)
        )
    }

    /// A token for this subject, valid for a minute.
    pub(crate) fn token(&self, subject: &str, scopes: &str) -> String {
        self.sign(&self.claims(subject, scopes))
    }

    /// A token that is accepted for this many more seconds.
    pub(crate) fn short_token(&self, subject: &str, seconds: i64) -> String {
        let mut claims = self.claims(subject, "calls:read");
        claims["exp"] = json!(Timestamp::now().as_second() + seconds - LEEWAY);
        self.sign(&claims)
    }

    /// A server on the simulator that accepts the tokens of this issuer.
    pub(crate) async fn start_server(&self) -> Server {
        self.start_server_in(tempfile::tempdir().unwrap(), &[]).await
    }

    pub(crate) async fn start_server_in(&self, home: TempDir, more: &[&str]) -> Server {
        let mut program = program(home.path());
        program.args(["--sandbox", "--sandbox-speed=1", "--toolsets"]);
        program.arg("calls,account,agents,numbers,webhooks,sandbox");
        program.env("CALLINGBOX_MCP_OAUTH_ISSUER", &self.url);
        let oauth = ["--auth", "oauth", "--oauth-resource", RESOURCE];
        Server::run(home, program, &[&oauth, more].concat()).await
    }
}

fn generate_key() -> EcdsaKeyPair {
    let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &random).unwrap()
}

fn signing_input(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64(header.to_string()), base64(claims.to_string()))
}
