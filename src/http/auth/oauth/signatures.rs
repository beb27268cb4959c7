//! The signatures of access tokens, verified by *ring*, which rustls needs in any case. `jsonwebtoken` offers two
//! providers of its own: one builds AWS-LC, and the other uses `rsa` 0.9 (RUSTSEC-2023-0071, without a fix) and second
//! versions of `sha2`, `hmac` and `rand`, and accepts RSA keys of any length. Only asymmetric algorithms are accepted:
//! a server that verifies with a shared secret could forge tokens. Knows nothing about claims.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::signature as by;

/// Installs *ring* as the provider of `jsonwebtoken`. Later calls have no effect.
pub(super) fn install_provider() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        verifier_factory: |algorithm, key| {
            Ok(Box::new(RingVerifier { algorithm: *algorithm, key: key.clone() }))
        },
        // Only needed to create keys and thumbprints.
        key_utils: KeyUtils::new_unimplemented(),
    };
    // An error means that this provider is installed already.
    let _ = PROVIDER.install_default();
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let invalid = |_| signature::Error::new();
        let rsa = |parameters: &'static by::RsaParameters| match self.key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => by::RsaPublicKeyComponents { n, e }
                .verify(parameters, message, signature)
                .map_err(invalid),
            DecodingKeyKind::SecretOrDer(_) => Err(signature::Error::new()),
        };
        let fixed = |by: &'static dyn by::VerificationAlgorithm| match self.key.kind() {
            DecodingKeyKind::SecretOrDer(key) => {
                by::UnparsedPublicKey::new(by, key).verify(message, signature).map_err(invalid)
            }
            DecodingKeyKind::RsaModulusExponent { .. } => Err(signature::Error::new()),
        };
        if self.algorithm.family() != self.key.family() {
            return Err(signature::Error::new());
        }
        match self.algorithm {
            Algorithm::RS256 => rsa(&by::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => rsa(&by::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => rsa(&by::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => rsa(&by::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => rsa(&by::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => rsa(&by::RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => fixed(&by::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => fixed(&by::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => fixed(&by::ED25519),
            // Shared secrets and future additions.
            _ => Err(signature::Error::new()),
        }
    }
}

/// A public key of the issuer, with the only algorithms for which it is used.
#[derive(Debug, Clone)]
pub(super) struct VerificationKey {
    id: String,
    algorithms: &'static [Algorithm],
    key: DecodingKey,
}

impl VerificationKey {
    /// A key that has an id and is for signatures; `None` for other keys.
    pub(super) fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        let is_signature_key =
            common.public_key_use.as_ref().is_none_or(|r#use| *r#use == PublicKeyUse::Signature)
                && common
                    .key_operations
                    .as_ref()
                    .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        let id = common.key_id.clone().filter(|_| is_signature_key)?;
        let possible: &'static [Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
                EllipticCurve::P256 => &[Algorithm::ES256],
                EllipticCurve::P384 => &[Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
                &[Algorithm::EdDSA]
            }
            _ => return None,
        };
        // A key with an `alg` is only for that algorithm (RFC 7517, section 4.4).
        let algorithms = match common.key_algorithm {
            None => possible,
            Some(named) => {
                let named = Algorithm::try_from(named).ok()?;
                let index = possible.iter().position(|algorithm| *algorithm == named)?;
                possible.get(index..=index)?
            }
        };
        Some(Self { id, algorithms, key: DecodingKey::from_jwk(jwk).ok()? })
    }

    /// The key, if it has this id and is for this algorithm.
    pub(super) fn decoding_key(&self, id: &str, algorithm: Algorithm) -> Option<&DecodingKey> {
        (self.id == id && self.algorithms.contains(&algorithm)).then_some(&self.key)
    }
}

/// The error text for the client that sent the token.
pub(super) fn describe_error(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::InvalidSignature => "the signature of the token is invalid",
        ErrorKind::InvalidIssuer => "the token was issued by another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks iss, aud, sub or exp",
        _ => "the token cannot be read",
    }
}
