//! Where a list goes on: at a key, and pinned to the revision of the first page.

use apimachinery::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

const VERSION: &str = "meta.k8s.io/v1";

/// The position of a list, as clients carry it around.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContinueToken {
    /// `None`: whatever is newest when the list goes on; the pages are then inconsistent with each other.
    pub revision: Option<i64>,
    /// The first key of the next page, without the collection's prefix.
    pub start: String,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: String,
    #[serde(default)]
    rv: i64,
    #[serde(default)]
    start: String,
}

impl ContinueToken {
    pub fn encode(&self) -> String {
        let wire = Wire {
            v: VERSION.to_owned(),
            rv: self.revision.unwrap_or(-1),
            start: self.start.clone(),
        };
        let text = serde_json::to_vec(&wire).expect("a struct of texts and numbers is always JSON");
        URL_SAFE_NO_PAD.encode(text)
    }

    pub fn decode(token: &str) -> Result<Self, ApiError> {
        let bytes = URL_SAFE_NO_PAD
            .decode(token.trim_end_matches('='))
            .map_err(|error| match error {
                base64::DecodeError::InvalidByte(at, _) => {
                    invalid(&format!("illegal base64 data at input byte {at}"))
                }
                _ => invalid(&format!(
                    "illegal base64 data at input byte {}",
                    token.len()
                )),
            })?;
        // The words of Go's scanner, which clients see.
        schema::Document::parse(&bytes).map_err(|error| invalid(&error.to_string()))?;
        let wire: Wire =
            serde_json::from_slice(&bytes).map_err(|error| invalid(&error.to_string()))?;
        if wire.v != VERSION {
            return Err(invalid(&format!(
                "server does not recognize this encoded version {:?}",
                wire.v
            )));
        }
        if wire.rv == 0 {
            return Err(invalid(
                "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ));
        }
        if wire.start.is_empty() {
            return Err(invalid("encoded start key empty (version meta.k8s.io/v1)"));
        }
        // A token never leads out of the collection: the start is below its prefix whatever it holds.
        Ok(Self {
            revision: (wire.rv > 0).then_some(wire.rv),
            start: wire.start,
        })
    }
}

fn invalid(why: &str) -> ApiError {
    ApiError::bad_request(format!(
        "invalid continue token: continue key is not valid: {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_went_out() {
        for revision in [Some(7), None] {
            let token = ContinueToken {
                revision,
                start: "default/a\0".to_owned(),
            };
            assert_eq!(ContinueToken::decode(&token.encode()), Ok(token));
        }
        assert!(ContinueToken::decode("~").is_err());
    }
}
