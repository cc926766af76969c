//! Keys that an operator brings for tokens. The files in `data` were made with openssl and protect nothing.

use pki::{JwtSigner, JwtVerifier, KeyPair, SigningKey, VerifyingKey};
use serde_json::json;

const RSA: &str = include_str!("data/rsa_pkcs1.pem");
const RSA_PKCS8: &str = include_str!("data/rsa_pkcs8.pem");
const RSA_PUBLIC: &str = include_str!("data/rsa_public.pem");
const RSA_PUBLIC_PKCS1: &str = include_str!("data/rsa_public_pkcs1.pem");
const RSA_CERTIFICATE: &str = include_str!("data/rsa_certificate.pem");
const P256: &str = include_str!("data/p256_sec1.pem");
const P256_PUBLIC: &str = include_str!("data/p256_public.pem");
const P384: &str = include_str!("data/p384_sec1.pem");
const P384_PKCS8: &str = include_str!("data/p384_pkcs8.pem");

/// As openssl computes them: the SHA-256 of the public key in DER, in base64url.
const RSA_ID: &str = "Patkf7gzfwDbHNkczuSqFZ7FOkXZgphMztoAM1t10V8";
const P256_ID: &str = "j2mEYohNIpGscSfE_aTGVF0C8d4Bh3AGQTH_ZJNT418";
const P384_ID: &str = "Im3yvzYH7TeqOXGGhjuNMLAN4PSO2c6_d4MuzENvR8I";

fn public(pem: &str) -> Vec<VerifyingKey> {
    VerifyingKey::all_from_pem(pem).expect("keys")
}

fn signed(pem: &str) -> (SigningKey, String) {
    let key = SigningKey::from_pem(pem).expect("a private key");
    let token = JwtSigner::new(key.clone()).sign(&json!({"sub": "a"}));
    (key, token.expect("a token"))
}

#[test]
fn every_form_of_a_key_signs_what_its_public_half_believes() {
    for (private, others, algorithm, id) in [
        (
            RSA,
            &[RSA_PKCS8, RSA_PUBLIC, RSA_PUBLIC_PKCS1, RSA_CERTIFICATE][..],
            "RS256",
            RSA_ID,
        ),
        (RSA_PKCS8, &[RSA_PUBLIC], "RS256", RSA_ID),
        (P256, &[P256_PUBLIC], "ES256", P256_ID),
        (P384, &[P384_PKCS8], "ES384", P384_ID),
        (P384_PKCS8, &[P384], "ES384", P384_ID),
    ] {
        let (key, token) = signed(private);
        assert_eq!(key.verifying_key().id(), id);
        assert_eq!(key.verifying_key().algorithm(), algorithm);
        for other in others {
            let keys = public(other);
            assert_eq!(keys, [key.verifying_key().clone()]);
            let believed = JwtVerifier::new(keys).verify(&token);
            assert_eq!(believed, Ok(json!({"sub": "a"})), "{algorithm}");
        }
    }
}

#[test]
fn a_token_is_good_only_with_its_key_and_unchanged() {
    let (key, token) = signed(RSA);
    let others = [public(P256_PUBLIC), public(P384)].concat();
    assert!(JwtVerifier::new(others).verify(&token).is_err());
    let all = [public(P256_PUBLIC), public(RSA_PUBLIC), public(P384)].concat();
    let verifier = JwtVerifier::new(all);
    assert!(verifier.verify(&token).is_ok());
    let (head, _) = token.rsplit_once('.').expect("three parts");
    assert!(verifier.verify(&format!("{head}.AAAA")).is_err());
    let made = SigningKey::try_from(&KeyPair::generate().expect("a key")).expect("a signing key");
    assert_ne!(made.verifying_key(), key.verifying_key());
    let strange = JwtSigner::new(made).sign(&json!({})).expect("a token");
    assert!(verifier.verify(&strange).is_err());
}

#[test]
fn a_file_may_hold_several_keys_and_keeps_their_order() {
    let several = format!("# kept\n{P384}{RSA_CERTIFICATE}{P256_PUBLIC}");
    let verifier = JwtVerifier::new(public(&several));
    let set = verifier.key_set();
    let ids: Vec<_> = [0, 1, 2].map(|at| set["keys"][at]["kid"].clone()).into();
    assert_eq!(ids, [P384_ID, RSA_ID, P256_ID]);
    assert_eq!(set["keys"][0]["crv"], "P-384");
    let rsa = set["keys"][1].as_object().expect("a key");
    let members: Vec<_> = rsa.keys().map(String::as_str).collect();
    assert_eq!(members, ["alg", "e", "kid", "kty", "n", "use"]);
    assert_eq!(rsa["e"], "AQAB");
}

#[test]
fn what_cannot_be_used_is_refused_with_advice() {
    let refused = [
        (include_str!("data/rsa_1024.pem"), "2048 to 4096 bits"),
        (include_str!("data/p521.pem"), "curve"),
        (include_str!("data/ed25519.pem"), "1.3.101.112"),
        (include_str!("data/rsa_encrypted.pem"), "openssl pkey -in"),
        (
            include_str!("data/rsa_pkcs8_encrypted.pem"),
            "openssl pkey -in",
        ),
        ("", "no private key"),
        (RSA_PUBLIC, "no private key"),
    ];
    for (pem, told) in refused {
        let error = SigningKey::from_pem(pem).expect_err("refused").to_string();
        assert!(error.contains(told), "{error}");
    }
    let half = RSA_PUBLIC.replace("MII", "MI*");
    let refused = [
        (include_str!("data/p521_public.pem"), "1.3.132.0.35"),
        (half.as_str(), "PUBLIC KEY is damaged"),
        ("nothing", "no public or private key"),
    ];
    for (pem, told) in refused {
        let error = VerifyingKey::all_from_pem(pem).expect_err("refused");
        assert!(error.to_string().contains(told), "{error}");
    }
}
