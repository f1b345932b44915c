//! Reads a trace over HTTP, such as that of a debug page.

use crate::{client, input::MAX_TRACE_BYTES, output::Problem, user_info::without_user_info};
use http_body_util::BodyExt;
use nettrace::{Client, TraceSink, proxy::ProxySelector};
use std::{path::Path, time::Duration};
use tokio::runtime::Builder;

/// How long reading a trace may take in all.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The maximum length in bytes of what a server says in the body of an error.
const MAX_REASON_BYTES: usize = 200;

/// Returns the text of a path that is a URL.
pub(crate) fn url(path: &Path) -> Option<&str> {
    let text = path.to_str()?;
    let scheme = text.split_once("://")?.0;
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")).then_some(text)
}

/// Reads what a URL has. User info in it is sent as credentials.
pub(crate) fn read(url: &str) -> Result<Vec<u8>, Problem> {
    let read = crate::block_on(&mut Builder::new_current_thread(), fetch(url));
    read.map_err(|problem| Problem {
        text: format!("cannot read {}: {}", without_user_info(url), problem.text),
        ..problem
    })
}

async fn fetch(url: &str) -> Result<Vec<u8>, Problem> {
    let sink = TraceSink::disabled();
    let builder = Client::builder(&sink).proxy(ProxySelector::from_env()).timeout(TIMEOUT);
    let response = client::build(builder)?.get(url).await.map_err(client::failed)?;
    let status = response.status();
    let max_bytes = if status.is_success() { MAX_TRACE_BYTES } else { MAX_REASON_BYTES as u64 };
    let mut body = response.into_body();
    let mut content = Vec::new();
    while let Some(frame) = body.frame().await {
        let data = frame.map_err(client::failed)?.into_data().unwrap_or_default();
        content.extend_from_slice(&data);
        if content.len() as u64 > max_bytes {
            break;
        }
    }
    if !status.is_success() {
        content.truncate(MAX_REASON_BYTES);
        let text = String::from_utf8_lossy(&content);
        let reason = text.lines().next().unwrap_or_default();
        return Err(Problem::failed(format!("the server answered {status}: {reason}")));
    }
    if content.len() as u64 > max_bytes {
        return Err(Problem::failed(format!("it is longer than {} MiB", max_bytes >> 20)));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_scheme_of_http_is_a_url() {
        for (path, expected) in [
            ("http://h.test/trace.json", true),
            ("HTTPS://h.test", true),
            ("ftp://h.test", false),
            ("http.json", false),
            ("a/http://b", false),
            ("-", false),
        ] {
            assert_eq!(url(Path::new(path)).is_some(), expected, "{path}");
        }
    }
}
