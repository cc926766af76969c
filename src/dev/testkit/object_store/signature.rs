//! Signature version 4 of a request whose signature stands in its URL, from what Amazon writes about it.

use ring::digest::{SHA256, digest};
use ring::hmac;

use super::ObjectStore;
use super::request::{Request, encoded};

const SIGNATURE: &str = "X-Amz-Signature";
const REGION: &str = "us-east-1";

/// The code of S3's error, if it is not signed as it must be.
pub(super) fn check(request: &Request) -> Result<(), &'static str> {
    let said = |name: &str| request.query.get(name).map_or("", String::as_str);
    let credential: Vec<&str> = said("X-Amz-Credential").split('/').collect();
    let [key, day, region, "s3", "aws4_request"] = credential[..] else {
        return Err("AccessDenied");
    };
    if key != ObjectStore::ACCESS_KEY {
        return Err("InvalidAccessKeyId");
    }
    let token = said("X-Amz-Security-Token");
    if !token.is_empty() && token != ObjectStore::SESSION_TOKEN {
        return Err("InvalidToken");
    }
    let time = said("X-Amz-Date");
    let is_sane = said("X-Amz-Algorithm") == "AWS4-HMAC-SHA256"
        && time.starts_with(day)
        && region == REGION
        && said("X-Amz-Expires")
            .parse()
            .is_ok_and(|life: u32| (1..=604_800).contains(&life));
    if !is_sane {
        return Err("AuthorizationQueryParametersError");
    }
    let scope = format!("{day}/{region}/s3/aws4_request");
    let hash = hex(digest(&SHA256, canonical(request).as_bytes()).as_ref());
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}");
    let first = format!("AWS4{}", ObjectStore::SECRET_KEY);
    let words = [day, region, "s3", "aws4_request", &to_sign];
    let signature = words.iter().fold(first.into_bytes(), |key, word| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        hmac::sign(&key, word.as_bytes()).as_ref().to_vec()
    });
    if said(SIGNATURE) == hex(&signature) {
        Ok(())
    } else {
        Err("SignatureDoesNotMatch")
    }
}

/// The request in the one form that both sides sign.
fn canonical(request: &Request) -> String {
    let pairs = request.query.iter().filter(|(name, _)| *name != SIGNATURE);
    let mut pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
        .collect();
    pairs.sort();
    let signed = request.query.get("X-Amz-SignedHeaders");
    let signed = signed.map_or("", String::as_str);
    let headers: String = signed
        .split(';')
        .map(|name| {
            let value = request.headers.get(name).map_or("", String::as_str);
            format!("{name}:{value}\n")
        })
        .collect();
    let (method, path, query) = (&request.method, &request.raw_path, pairs.join("&"));
    format!("{method}\n{path}\n{query}\n{headers}\n{signed}\nUNSIGNED-PAYLOAD")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
