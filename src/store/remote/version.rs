//! Which etcd can be relied on.

use etcd::proto::etcdserverpb::StatusRequest;
use kv::{Error, Result};

use crate::client::{Client, Repeat};
use crate::status;

/// In older ones progress can be told before the events that it stands for.
const OLDEST: [u64; 3] = [3, 5, 13];

/// Errors if the member that answers is too old.
pub(crate) async fn check(client: &Client) -> Result<()> {
    let answer = client
        .call(
            Repeat::Allowed,
            StatusRequest::default(),
            |client, request| async move { client.maintenance().status(request).await },
        )
        .await
        .map_err(status::error)?;
    if numbers(&answer.version) < OLDEST {
        tracing::error!(version = answer.version, "this etcd is too old");
        return Err(Error::Unsupported(
            "the datastore is an etcd older than 3.5.13, whose watches do not say reliably how far they are: use etcd 3.5.13 or newer",
        ));
    }
    Ok(())
}

fn numbers(version: &str) -> [u64; 3] {
    let mut numbers = [0; 3];
    for (number, text) in numbers.iter_mut().zip(version.split('.')) {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        *number = digits.parse().unwrap_or(0);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(numbers("3.6.4") > OLDEST && numbers("3.5.13") >= OLDEST);
        assert!(numbers("3.5.9") < OLDEST && numbers("3.4.31") < OLDEST && numbers("") < OLDEST);
        assert!(numbers("3.7.0-rc.1") > OLDEST && numbers("3.10.0") > OLDEST);
    }
}
