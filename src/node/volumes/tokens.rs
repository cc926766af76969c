//! Tokens are asked for once and again before they end: after 80 % of their life or 24 hours, whichever is first.
//!
//! Ages are told by the monotonic clock: no jump of the wall clock makes a token old or keeps it young.

use std::collections::BTreeMap;
use std::time::Duration;

use env::Clock;
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::objects::{Objects, Token, TokenRequest, TokenSource};

const AGE_MAX: Duration = Duration::from_hours(24);
/// A token that could not be renewed is tried again after this time.
const RETRY: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(crate) struct TokenCache(Mutex<BTreeMap<TokenRequest, Known>>);

#[derive(Clone, Debug)]
struct Known {
    token: Token,
    /// When to ask again, on the monotonic clock.
    renew_at: Duration,
}

impl TokenCache {
    /// A token that still has some of its life. An old one goes on serving while no new one can be had.
    pub(crate) async fn token(
        &self,
        request: &TokenRequest,
        objects: &dyn Objects,
        clock: &dyn Clock,
    ) -> Result<Token> {
        let known = self.0.lock().get(request).cloned();
        let now = clock.monotonic();
        if let Some(known) = known.clone().filter(|known| now < known.renew_at) {
            return Ok(known.token);
        }
        match (objects.token(request).await, known) {
            (Ok(token), _) => {
                let renew_at = now + renew_after(request, &token, clock);
                let known = Known {
                    token: token.clone(),
                    renew_at,
                };
                self.0.lock().insert(request.clone(), known);
                Ok(token)
            }
            (Err(reason), Some(mut old)) if clock.now() < old.token.expires => {
                tracing::warn!(
                    pod = request.pod_name,
                    reason,
                    "a service account token cannot be renewed yet"
                );
                old.renew_at = now + RETRY;
                self.0.lock().insert(request.clone(), old.clone());
                Ok(old.token)
            }
            (Err(reason), Some(_)) => Err(Error::Source(format!(
                "token {} expired and refresh failed: {reason}",
                name_of(request)
            ))),
            (Err(reason), None) => Err(Error::Source(format!("failed to fetch token: {reason}"))),
        }
    }

    /// When the pod's volumes must be set up again for a token's sake, on the monotonic clock.
    pub(crate) fn next_refresh(&self, pod_uid: &str) -> Option<Duration> {
        let tokens = self.0.lock();
        tokens
            .iter()
            .filter(|(request, _)| request.pod_uid == pod_uid)
            .map(|(_, known)| known.renew_at)
            .min()
    }

    /// Dates are others than they were: servers may not believe these any more, and all are asked for again.
    pub(crate) fn outdate(&self) {
        for known in self.0.lock().values_mut() {
            known.renew_at = Duration::ZERO;
        }
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

/// How long a token that came now serves. The API server may have given it a shorter life than was asked for.
fn renew_after(request: &TokenRequest, token: &Token, clock: &dyn Clock) -> Duration {
    if token.source == TokenSource::Remembered {
        return RETRY;
    }
    let asked = Duration::from_secs(u64::try_from(request.expiration_seconds).unwrap_or(0));
    let given = token.expires.saturating_since(clock.now());
    // A clock that is wrong tells nonsense about what was given; what was asked for is the usual answer.
    let life = if given.is_zero() {
        asked
    } else {
        given.min(asked)
    };
    (life * 4 / 5).min(AGE_MAX).max(RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use env::{ManualClock, Timestamp};

    fn renewed_after(asked: i64, given: i64) -> u64 {
        let request = TokenRequest {
            namespace: String::new(),
            service_account: String::new(),
            pod_name: String::new(),
            pod_uid: String::new(),
            audience: None,
            expiration_seconds: asked,
        };
        let clock = ManualClock::at(Timestamp::from_unix_seconds(1_000_000));
        let token = Token {
            token: String::new(),
            expires: Timestamp::from_unix_seconds(1_000_000 + given),
            source: TokenSource::Fresh,
        };
        renew_after(&request, &token, &*clock).as_secs()
    }

    #[test]
    fn a_token_is_renewed_after_four_fifths_of_its_life_or_a_day() {
        assert_eq!(renewed_after(600, 600), 480);
        assert_eq!(renewed_after(3607, 3607), 2885);
        assert_eq!(renewed_after(365 * 86_400, 365 * 86_400), 86_400);
    }

    #[test]
    fn a_wrong_clock_makes_no_token_old_nor_young() {
        let day = 86_400;
        assert_eq!(renewed_after(3607, 3607 + day), 2885);
        assert_eq!(renewed_after(3607, 3607 - 3 * 365 * day), 2885);
    }
}
