//! Tokens are asked for once and again before they end: after 80 % of their life or 24 hours, whichever is first.

use std::collections::BTreeMap;
use std::time::Duration;

use env::{Clock, Timestamp};
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::objects::{Objects, Token, TokenRequest};

const AGE_MAX: Duration = Duration::from_hours(24);

#[derive(Debug, Default)]
pub(crate) struct TokenCache(Mutex<BTreeMap<TokenRequest, Token>>);

impl TokenCache {
    /// A token that still has some of its life. An old one goes on serving while no new one can be had.
    pub(crate) async fn token(
        &self,
        request: &TokenRequest,
        objects: &dyn Objects,
        clock: &dyn Clock,
    ) -> Result<Token> {
        let known = self.0.lock().get(request).cloned();
        if let Some(known) = known
            .clone()
            .filter(|token| clock.now() < refresh_time(request, token))
        {
            return Ok(known);
        }
        match (objects.token(request).await, known) {
            (Ok(fresh), _) => {
                self.0.lock().insert(request.clone(), fresh.clone());
                Ok(fresh)
            }
            (Err(reason), Some(old)) if clock.now() < old.expires => {
                tracing::warn!(
                    pod = request.pod_name,
                    reason,
                    "a service account token cannot be renewed yet"
                );
                Ok(old)
            }
            (Err(reason), Some(_)) => Err(Error::Source(format!(
                "token {} expired and refresh failed: {reason}",
                name_of(request)
            ))),
            (Err(reason), None) => Err(Error::Source(format!("failed to fetch token: {reason}"))),
        }
    }

    /// When the pod's volumes must be set up again for a token's sake.
    pub(crate) fn next_refresh(&self, pod_uid: &str) -> Option<Timestamp> {
        let tokens = self.0.lock();
        tokens
            .iter()
            .filter(|(request, _)| request.pod_uid == pod_uid)
            .map(|(request, token)| refresh_time(request, token))
            .min()
    }

    pub(crate) fn forget(&self, pod_uid: &str) {
        self.0
            .lock()
            .retain(|request, _| request.pod_uid != pod_uid);
    }
}

fn name_of(request: &TokenRequest) -> String {
    format!("{:?}/{:?}", request.service_account, request.namespace)
}

/// When a token is old. Its beginning is reckoned from its end, because the API server may have given it another length.
fn refresh_time(request: &TokenRequest, token: &Token) -> Timestamp {
    let life = Duration::from_secs(u64::try_from(request.expiration_seconds).unwrap_or(0));
    let issued = token.expires.saturating_sub(life);
    issued.saturating_add((life * 4 / 5).min(AGE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refresh_after(life: i64) -> i64 {
        let request = TokenRequest {
            namespace: String::new(),
            service_account: String::new(),
            pod_name: String::new(),
            pod_uid: String::new(),
            audience: None,
            expiration_seconds: life,
        };
        let token = Token {
            token: String::new(),
            expires: Timestamp::from_unix_seconds(1_000_000 + life),
        };
        refresh_time(&request, &token).unix_seconds() - 1_000_000
    }

    #[test]
    fn a_token_is_renewed_after_four_fifths_of_its_life_or_a_day() {
        assert_eq!(refresh_after(600), 480);
        assert_eq!(refresh_after(3607), 2885);
        assert_eq!(refresh_after(365 * 86_400), 86_400);
    }
}
