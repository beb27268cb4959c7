//! The signatures of access tokens, checked by *ring*, which this program has for TLS already.
//! `jsonwebtoken` brings no cryptography of its own. Only signatures that need no shared secret: what a
//! server can check with a secret, it could forge. Knows nothing of claims.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::signature as by;

/// Lets `jsonwebtoken` check signatures. More often than once does no harm.
pub(super) fn install() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        verifier_factory: |algorithm, key| {
            Ok(Box::new(Checker { algorithm: *algorithm, key: key.clone() }))
        },
        // For making keys and for their thumbprints, which are not done here.
        key_utils: KeyUtils::new_unimplemented(),
    };
    // Whoever was first installed this one.
    let _ = PROVIDER.install_default();
}

struct Checker {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for Checker {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for Checker {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let no = |_| signature::Error::new();
        let rsa = |parameters: &'static by::RsaParameters| match self.key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => by::RsaPublicKeyComponents { n, e }
                .verify(parameters, message, signature)
                .map_err(no),
            DecodingKeyKind::SecretOrDer(_) => Err(signature::Error::new()),
        };
        let plain = |by: &'static dyn by::VerificationAlgorithm| match self.key.kind() {
            DecodingKeyKind::SecretOrDer(key) => {
                by::UnparsedPublicKey::new(by, key).verify(message, signature).map_err(no)
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
            Algorithm::ES256 => plain(&by::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => plain(&by::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => plain(&by::ED25519),
            // Shared secrets, and whatever is added to the list one day.
            _ => Err(signature::Error::new()),
        }
    }
}

/// A key of the issuer, and the only ways of signing that are believed of it.
#[derive(Debug, Clone)]
pub(super) struct Key {
    id: String,
    algorithms: &'static [Algorithm],
    key: DecodingKey,
}

impl Key {
    /// Takes a key that is for signatures and has a name; none for any other.
    pub(super) fn of(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        let signs =
            common.public_key_use.as_ref().is_none_or(|r#use| *r#use == PublicKeyUse::Signature)
                && common
                    .key_operations
                    .as_ref()
                    .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        let id = common.key_id.clone().filter(|_| signs)?;
        let fitting: &'static [Algorithm] = match &jwk.algorithm {
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
        // A key that says what it is for is for nothing else (RFC 7517, section 4.4).
        let algorithms = match common.key_algorithm {
            None => fitting,
            Some(named) => {
                let named = Algorithm::try_from(named).ok()?;
                let at = fitting.iter().position(|fits| *fits == named)?;
                fitting.get(at..=at)?
            }
        };
        Some(Self { id, algorithms, key: DecodingKey::from_jwk(jwk).ok()? })
    }

    /// The key, if it has this name and signs in this way.
    pub(super) fn fitting(&self, id: &str, algorithm: Algorithm) -> Option<&DecodingKey> {
        (self.id == id && self.algorithms.contains(&algorithm)).then_some(&self.key)
    }
}

/// The family of an error of `jsonwebtoken`, in words for whoever shows the token.
pub(super) fn explain(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::InvalidSignature => "the signature of the token is not right",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks iss, aud, sub or exp",
        _ => "the token cannot be read",
    }
}
