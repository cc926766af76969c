//! JSON Web Tokens (RFC 7519), signed and read with RS256, ES256 or ES384.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::{Error, SigningKey, VerifyingKey};

/// A longer token is refused unread.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// Signs tokens with one key.
#[derive(Clone, Debug)]
pub struct JwtSigner {
    key: SigningKey,
}

/// Checks tokens against the public halves of some keys.
#[derive(Clone, Debug, Default)]
pub struct JwtVerifier {
    keys: Vec<VerifyingKey>,
}

impl JwtSigner {
    pub fn new(key: SigningKey) -> Self {
        Self { key }
    }

    pub fn sign(&self, claims: &Value) -> Result<String, Error> {
        let public = self.key.verifying_key();
        let header = json!({"alg": public.algorithm(), "kid": public.id()});
        let signed = format!(
            "{}.{}",
            encode(header.to_string()),
            encode(claims.to_string())
        );
        let signature = self.key.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", encode(signature)))
    }
}

impl JwtVerifier {
    pub fn new(keys: Vec<VerifyingKey>) -> Self {
        Self { keys }
    }

    pub fn keys(&self) -> &[VerifyingKey] {
        &self.keys
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
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_error| Error::Token("its signature is no base64"))?;
        let key_id = header["kid"].as_str();
        // A key is used with its own algorithm only, whatever the token says.
        let good = self
            .keys
            .iter()
            .filter(|key| key_id.is_none_or(|key_id| key_id == key.id()))
            .filter(|key| header["alg"] == key.algorithm())
            .any(|key| key.verifies(signed.as_bytes(), &signature));
        if good {
            decode(claims)
        } else {
            Err(Error::TokenSignature)
        }
    }

    /// The keys as a JSON Web Key Set (RFC 7517).
    pub fn key_set(&self) -> Value {
        let keys: Vec<Value> = self.keys.iter().map(VerifyingKey::to_json).collect();
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

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(part: &str) -> Result<Value, Error> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_error| Error::Token("a part is no base64"))?;
    serde_json::from_slice(&bytes).map_err(|_error| Error::Token("a part is no JSON"))
}
