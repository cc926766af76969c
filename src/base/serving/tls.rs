//! The first bytes of a connection with TLS.

use std::sync::Arc;
use std::time::Duration;

use streams::Transport;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A client has this long to finish its handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Shakes hands with a client; the error says why it failed.
pub async fn handshake<S: Transport>(
    config: Arc<rustls::ServerConfig>,
    stream: S,
) -> Result<TlsStream<S>, String> {
    let accepted = TlsAcceptor::from(config).accept(stream);
    match env::timeout(HANDSHAKE_TIME_MAX, accepted).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("the TLS handshake failed: {error}")),
        Err(elapsed) => Err(format!("the TLS handshake {elapsed}")),
    }
}
