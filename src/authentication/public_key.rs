//! A public key as it is asked again and again: taken apart once, when it is fetched, and not at each signature. Called by
//! jwks and jwt; pure.

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm};
use jsonwebtoken::{Algorithm, DecodingKey};
use jsonwebtoken::{AlgorithmFamily, DecodingKeyKind};

/// The key, for each algorithm that it can be used with.
#[derive(Debug)]
pub struct PublicKey(Vec<(Algorithm, ParsedPublicKey)>);

impl PublicKey {
    /// None: it is of no kind that verifies tokens here.
    pub fn new(key: &DecodingKey) -> Option<PublicKey> {
        let parsed: Vec<_> = match key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                let components = RsaPublicKeyComponents { n, e };
                let parsed = |rsa| components.to_parsed_public_key(rsa).ok();
                RSA.into_iter().filter_map(|(algorithm, rsa)| Some((algorithm, parsed(rsa)?))).collect()
            }
            DecodingKeyKind::SecretOrDer(bytes) => {
                let parsed = |how| ParsedPublicKey::new(how, bytes).ok();
                let of_family = curves().into_iter().filter(|(algorithm, _)| algorithm.family() == key.family());
                of_family.filter_map(|(algorithm, how)| Some((algorithm, parsed(how)?))).collect()
            }
        };
        (!parsed.is_empty() && key.family() != AlgorithmFamily::Hmac).then_some(PublicKey(parsed))
    }

    pub fn is_for(&self, algorithm: Algorithm) -> bool {
        self.0.iter().any(|(known, _)| *known == algorithm)
    }

    /// Whether the message bears this signature.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let key = self.0.iter().find(|(known, _)| *known == algorithm);
        key.is_some_and(|(_, key)| key.verify_sig(message, signature).is_ok())
    }
}

/// RFC 7518 §3.3 and §3.5; keys below 2048 bits verify nothing.
static RSA: [(Algorithm, &RsaParameters); 6] = [
    (Algorithm::RS256, &signature::RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::RS384, &signature::RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::RS512, &signature::RSA_PKCS1_2048_8192_SHA512),
    (Algorithm::PS256, &signature::RSA_PSS_2048_8192_SHA256),
    (Algorithm::PS384, &signature::RSA_PSS_2048_8192_SHA384),
    (Algorithm::PS512, &signature::RSA_PSS_2048_8192_SHA512),
];

/// RFC 7518 §3.4, where a signature has a fixed length, and RFC 8037.
fn curves() -> [(Algorithm, &'static dyn VerificationAlgorithm); 3] {
    [
        (Algorithm::ES256, &signature::ECDSA_P256_SHA256_FIXED),
        (Algorithm::ES384, &signature::ECDSA_P384_SHA384_FIXED),
        (Algorithm::EdDSA, &signature::ED25519),
    ]
}
