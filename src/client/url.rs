//! Parses URLs, and turns user info in them into credentials.

use super::{body::Body, error::Kind};
use crate::user_info::without_user_info;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, Request, Uri, header, uri::Authority};
use percent_encoding::percent_decode_str;
use url::Url;

/// Parses a URL that a request can be made to.
///
/// # Errors
///
/// Returns [`Kind::Url`], in which the URL is masked as in the trace.
pub(super) fn parse(text: &str, mask_query: bool) -> Result<Uri, Kind> {
    let wrong = |why: String| {
        let mut url = without_user_info(text);
        if mask_query && let Some(at) = url.find('?') {
            url.replace_range(at + 1.., "***");
        }
        Kind::Url { url, why }
    };
    let mut url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    url.set_fragment(None);
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(format!("the scheme is {}, not http or https", url.scheme())));
    }
    url.as_str().parse::<Uri>().map_err(|error| wrong(error.to_string()))
}

/// Moves user name and password from the URL to an `Authorization` field (RFC 7617), like Go's client.
pub(super) fn move_user_info(request: &mut Request<Body>) {
    let Some((user_info, host)) = request.uri().authority().and_then(|all| all.as_str().rsplit_once('@'))
    else {
        return;
    };
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let credentials = STANDARD.encode(format!("{}:{}", decode(user), decode(password)));
    let Ok(authority) = host.parse::<Authority>() else { return };
    let mut parts = request.uri().clone().into_parts();
    parts.authority = Some(authority);
    let Ok(uri) = Uri::from_parts(parts) else { return };
    *request.uri_mut() = uri;
    if !request.headers().contains_key(header::AUTHORIZATION)
        && let Ok(mut value) = HeaderValue::try_from(format!("Basic {credentials}"))
    {
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_normalized() {
        assert_eq!(
            parse("http://Example.com/ä b?q=ü#top", false).ok().unwrap(),
            "http://example.com/%C3%A4%20b?q=%C3%BC"
        );
        assert_eq!(parse("https://bücher.example/", false).ok().unwrap(), "https://xn--bcher-kva.example/");
        for bad in ["example.com", "ftp://example.com/", "http://", "http://[::1", ""] {
            assert!(matches!(parse(bad, false), Err(Kind::Url { .. })), "{bad}");
        }
    }

    #[test]
    fn possible_passwords_are_not_in_the_message() {
        for (text, shown) in [
            ("ftp://joe:secret@example.com/", "ftp://***@example.com/"),
            ("joe:secret@example.com", "***@example.com"),
            ("http://joe:sec#ret@example.com/", "http://***@example.com/"),
            ("http://joe:sec/ret@example.com/", "http://***@example.com/"),
            ("http:/joe:secret@[/", "http:/***@[/"),
            (r"https:\\joe:secret@[/", r"https:\\***@[/"),
            (r"/\joe:secret@a.test", r"/\***@a.test"),
            ("example.com", "example.com"),
        ] {
            let Err(Kind::Url { url, .. }) = parse(text, false) else { panic!("{text}") };
            assert_eq!(url, shown);
        }
    }

    #[test]
    fn user_info_becomes_a_header() {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = "http://joe:p%40ss@example.com:81/x".parse().unwrap();
        move_user_info(&mut request);
        assert_eq!(request.uri(), "http://example.com:81/x");
        assert_eq!(request.headers()[header::AUTHORIZATION], "Basic am9lOnBAc3M=");
    }
}
