//! redis: its multiplexed connection takes any stream of tokio.
//!
//! The trace has names, attempts, and the connection with its operations.

use ::redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisResult, aio::MultiplexedConnection};
use nettrace::{TraceSink, connect::TcpConnector};

/// Connects to the server at `address`, such as `"redis.internal:6379"`. The dial and the connection are recorded into
/// `sink`.
///
/// # Errors
///
/// Returns the error of the dial, as an error of I/O, or that of the first commands.
pub async fn connect(
    sink: &TraceSink,
    address: &str,
    settings: &RedisConnectionInfo,
) -> RedisResult<MultiplexedConnection> {
    let stream = TcpConnector::new(sink).connect(address).await.map_err(std::io::Error::from)?;
    let config = AsyncConnectionConfig::new();
    let (connection, driver) = MultiplexedConnection::new_with_config(settings, stream, config).await?;
    tokio::spawn(driver);
    Ok(connection)
}
