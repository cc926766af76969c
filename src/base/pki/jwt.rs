//! JSON Web Tokens (RFC 7519), signed and read with ES256.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::{Error, KeyPair};

/// A longer token is refused unread.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// Signs tokens with one key.
#[derive(Clone, Debug)]
pub struct JwtSigner {
    key: KeyPair,
    key_id: String,
}

/// Checks tokens against the public halves of some keys.
#[derive(Clone, Debug, Default)]
pub struct JwtVerifier {
    keys: Vec<(String, Vec<u8>)>,
}

impl JwtSigner {
    pub fn new(key: KeyPair) -> Self {
        let key_id = key_id(&key);
        Self { key, key_id }
    }

    pub fn sign(&self, claims: &Value) -> Result<String, Error> {
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let signed = format!(
            "{}.{}",
            encode(header.to_string()),
            encode(claims.to_string())
        );
        let signature = self.key.sign_fixed(signed.as_bytes())?;
        Ok(format!("{signed}.{}", encode(signature)))
    }
}

impl JwtVerifier {
    #[must_use]
    pub fn with_key(mut self, key: &KeyPair) -> Self {
        self.keys.push((key_id(key), key.public_point().to_vec()));
        self
    }

    /// The claims of a token whose signature is good. Times, issuer and audience are the caller's to check.
    pub fn verify(&self, token: &str) -> Result<Value, Error> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Error::Token("it is too long"));
        }
        let (signed, signature) = token
            .rsplit_once('.')
            .ok_or(Error::Token("it has no three parts"))?;
        let (header, claims) = signed
            .split_once('.')
            .ok_or(Error::Token("it has no three parts"))?;
        let header: Value = decode(header)?;
        if header["alg"] != "ES256" {
            return Err(Error::Token("its algorithm is not supported"));
        }
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_error| Error::Token("its signature is no base64"))?;
        let key_id = header["kid"].as_str();
        let good = self
            .keys
            .iter()
            .filter(|(id, _)| key_id.is_none_or(|key_id| key_id == id))
            .any(|(_, point)| {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .verify(signed.as_bytes(), &signature)
                    .is_ok()
            });
        if good {
            decode(claims)
        } else {
            Err(Error::TokenSignature)
        }
    }

    /// The keys as a JSON Web Key Set (RFC 7517).
    pub fn key_set(&self) -> Value {
        let keys: Vec<Value> = self
            .keys
            .iter()
            .map(|(id, point)| {
                json!({"use": "sig", "kty": "EC", "kid": id, "crv": "P-256", "alg": "ES256",
                       "x": encode(&point[1..33]), "y": encode(&point[33..65])})
            })
            .collect();
        json!({"keys": keys})
    }
}

/// The claims of a token, believing nothing of them: only to tell whose token it claims to be.
pub fn decode_unverified_claims(token: &str) -> Option<Value> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    decode(token.split('.').nth(1)?).ok()
}

fn key_id(key: &KeyPair) -> String {
    encode(digest(&SHA256, &key.public_key_info()))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(part: &str) -> Result<Value, Error> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_error| Error::Token("a part is no base64"))?;
    serde_json::from_slice(&bytes).map_err(|_error| Error::Token("a part is no JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_only_with_its_key_and_unchanged() {
        let key = KeyPair::generate().expect("a key");
        let token = JwtSigner::new(key.clone())
            .sign(&json!({"sub": "a"}))
            .expect("a token");
        let verifier = JwtVerifier::default().with_key(&key);
        assert_eq!(verifier.verify(&token), Ok(json!({"sub": "a"})));
        let other = JwtVerifier::default().with_key(&KeyPair::generate().expect("a key"));
        assert_eq!(other.verify(&token), Err(Error::TokenSignature));
        let (head, _) = token.rsplit_once('.').expect("three parts");
        assert!(verifier.verify(&format!("{head}.AAAA")).is_err());
    }
}
