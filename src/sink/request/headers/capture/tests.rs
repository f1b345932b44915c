use super::*;
use crate::sink::request::masking::mask_uri;
use bytes::Bytes;
use http::{Uri, header};

#[test]
fn captured_headers_do_not_keep_the_read_buffer() {
    let head = Bytes::from(String::from("http://joe:secret@example.com/a cookie=1 */*"));
    let url = Uri::from_maybe_shared(head.slice(..31)).unwrap();
    let value = |range: std::ops::Range<usize>| HeaderValue::from_maybe_shared(head.slice(range)).unwrap();
    let headers = HeaderMap::from_iter([(header::COOKIE, value(32..40)), (header::ACCEPT, value(41..44))]);
    let config = SinkConfig { headers: HeaderCapture::Values, ..SinkConfig::default() };
    let masked = mask_uri(&url, false);
    let captured = CapturedHeaders::take(&headers, &config).unwrap();
    drop((url, headers));
    assert!(head.is_unique());
    assert_eq!(masked, "http://***@example.com/a");
    assert_eq!(captured.export().get("accept").map(|field| field.field_val.as_str()), Some("*/*"));
    assert_eq!(format!("{captured:?}"), r#"["cookie", "accept"]"#, "`Debug` does not show values");
}

#[test]
fn urls_in_header_fields_are_masked() {
    for (location, shown, without_query) in [
        ("http://joe:secret@a.test/x?q=1", "http://***@a.test/x?q=1", "http://***@a.test/x?***"),
        ("//joe:sec/ret@a.test", "//***@a.test", "//***@a.test"),
        ("/x?to=http://joe@a.test", "/x?to=http://joe@a.test", "/x?***"),
        (r"\\joe:secret@a.test/x?q=1", r"\\***@a.test/x?q=1", r"\\***@a.test/x?***"),
        (r"http:\\joe:secret@a.test/", r"http:\\***@a.test/", r"http:\\***@a.test/"),
        (r"/\joe:secret@a.test", r"/\***@a.test", r"/\***@a.test"),
        ("http:joe:secret@a.test/", "http:***@a.test/", "http:***@a.test/"),
        ("http:///joe:secret@a.test/", "http:///***@a.test/", "http:///***@a.test/"),
        ("http://joe:se?cret@a.test/?q", "http://***@a.test/?q", "http://***@a.test/?***"),
        ("joe:secret@a.test", "***@a.test", "***@a.test"),
        ("?to=joe@a.test", "?to=joe@a.test", "?***"),
        ("/@joe", "/@joe", "/@joe"),
        ("http://a.test/", "http://a.test/", "http://a.test/"),
    ] {
        for (mask_query, expected) in [(false, shown), (true, without_query)] {
            let config = SinkConfig { headers: HeaderCapture::Values, mask_query, ..SinkConfig::default() };
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, HeaderValue::from_static(location));
            let captured = CapturedHeaders::take(&headers, &config).unwrap().export();
            assert_eq!(captured.get("location").map(|field| field.field_val.as_str()), Some(expected));
        }
    }
}

fn shown(name: &str, value: &str) -> String {
    let config = SinkConfig { headers: HeaderCapture::Values, ..SinkConfig::default() };
    let headers =
        HeaderMap::from_iter([(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())]);
    let captured = CapturedHeaders::take(&headers, &config).unwrap().export();
    captured.get(name).unwrap().field_val.clone()
}

#[test]
fn urls_in_other_text_are_masked() {
    for (name, value, expected) in [
        ("link", r"<\\joe:secret@b.test>; rel=next", r"<\\***@b.test>; rel=next"),
        ("link", "<http://joe:p>w@h/>; rel=next, </x>", "<http://***@h/>; rel=next, </x>"),
        (
            "link",
            "<http://joe:p>w@h/?q>; rel=next, <//joe:secret@b.test>",
            "<http://***@h/?q>; rel=next, <//***@b.test>",
        ),
        ("link", "<http://joe:p>;w@h/>; rel=next", "<http://***@h/>; rel=next"),
        ("link", "<http://joe:p<w@h/>; rel=next", "<http://***@h/>; rel=next"),
        ("link", r#"</x>; anchor="\\joe:secret@b.test""#, r#"</x>; anchor="\\***@b.test""#),
        ("link", r#"</x>; anchor="http:joe:secret@b.test""#, r#"</x>; anchor="http:***@b.test""#),
        ("link", r"see http:\joe:secret@b.test <x>", r"see http:\***@b.test <x>"),
        ("link", "</x>; rel=author; title=\"joe@b.test\"", "</x>; rel=author; title=\"joe@b.test\""),
        ("link", r#"</x>; anchor="//joe:p<w@b.test""#, r#"</x>; anchor="//***@b.test""#),
        ("refresh", r"5; URL='\\joe:secret@b.test/'", r"5; URL='\\***@b.test/'"),
        ("refresh", "0;http:joe:secret@b.test/", "0;http:***@b.test/"),
        ("refresh", "5; url=/@joe", "5; url=/@joe"),
        ("referer", r"http:\\joe:secret@b.test/", r"http:\\***@b.test/"),
        ("origin", r"http:\joe:secret@b.test", r"http:\***@b.test"),
        ("x-text", "to http://joe:se/cret@h/ and on", "to http://***@h/ and on"),
        ("x-text", "to http://joe:se cret@h/", "to http://***@h/"),
        ("x-text", r"to HTTP:\joe:secret@h/", r"to HTTP:\***@h/"),
        ("x-text", "\"http://h:80\", http://[::1]:81/@joe", "\"http://h:80\", http://[::1]:81/@joe"),
        ("from", "joe@example.com", "joe@example.com"),
        ("from", "Joe: joe@example.com (http://h/@joe)", "Joe: joe@example.com (http://h/@joe)"),
    ] {
        assert_eq!(shown(name, value), expected, "{name}: {value}");
    }
}

/// Compares with the URL parser that clients use to follow redirects.
#[cfg(feature = "client")]
mod passwords {
    use super::*;
    use crate::user_info;
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;
    use url::Url;

    /// Generates authorities with a user and a password that match these patterns.
    fn authority(user: &'static str, password: &'static str) -> impl Strategy<Value = String> {
        (user, password, prop_oneof!["h", "b\\.test(:81)?", "\\[::1\\]"])
            .prop_map(|(user, password, host)| format!("{user}:{password}@{host}"))
    }

    fn prefix() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(String::new()),
            "(http|HTTPS|ws|ftp|foo):[/\\\\]{0,4}",
            "[ \t]{0,2}[/\\\\][\t]?[/\\\\]{1,3}",
        ]
    }

    /// Returns the texts that the recorded value must not contain: the password as in the URL, and percent-decoded.
    fn passwords(reference: &str) -> Vec<String> {
        ["http://a.test/x", "https://a.test/x"]
            .into_iter()
            .filter_map(|base| Url::parse(base).unwrap().join(reference).ok())
            .filter_map(|url| url.password().map(String::from))
            .flat_map(|password| {
                let decoded = percent_decode_str(&password).decode_utf8_lossy().into_owned();
                [password, decoded]
            })
            .filter(|password| password.len() >= 4)
            .collect()
    }

    fn check(value: &str, reference: &str, names: &[&str]) -> Result<(), TestCaseError> {
        for password in passwords(reference) {
            for name in names {
                let shown = shown(name, value);
                prop_assert!(!shown.contains(&password), "{name}: {shown} of {value}");
            }
        }
        Ok(())
    }

    proptest! {
        /// The value of the field is a URL.
        #[test]
        fn passwords_of_urls_are_masked(prefix in prefix(), authority in authority("[!-~]{0,4}", "[\t -~]{0,9}q1q1[ -~]{0,3}"), path in "(/[!-~]{0,6})?") {
            let url = format!("{prefix}{authority}{path}");
            check(&url, &url, &["location", "content-location", "referer", "origin", "destination"])?;
            check(&format!("5; url={url}"), url.trim(), &["refresh"])?;
            for password in passwords(&url) {
                prop_assert!(!user_info::without_user_info(&url).contains(&password), "{url}");
            }
        }

        /// The value of the field is a text or a list of links. White space and angle brackets then end a user name,
        /// and a number after the colon may be a port.
        #[test]
        fn passwords_in_other_text_are_masked(prefix in prefix(), authority in authority("[a-z!-.]{0,4}", "[!-/:-~]{0,9}q1q1[!-~]{0,3}"), path in "(/[a-z]{0,6})?") {
            let url = format!("{}{authority}{path}", prefix.trim());
            check(&format!("see {url} there"), &url, &["x-text"])?;
            if !url.contains('<') {
                // `<` would begin the next reference.
                check(&format!("<{url}>; rel=next"), &url, &["link"])?;
            }
            check(&format!("</x>; anchor=\"{url}\""), &url, &["link"])?;
        }
    }
}

#[test]
fn secret_fields_are_recorded_only_if_named() {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer 123"));
    headers.insert(header::COOKIE, HeaderValue::from_static("a=b"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    let mut config = SinkConfig { headers: HeaderCapture::Values, ..SinkConfig::default() };
    config.reveal_headers.push(header::COOKIE);
    let captured = CapturedHeaders::take(&headers, &config).unwrap().export();
    assert_eq!(captured.get("Authorization").map(|field| field.field_val.as_str()), Some(""));
    assert_eq!(captured.get("authorization").map(|field| field.field_val_len), Some(10));
    assert_eq!(captured.get("cookie").map(|field| field.field_val.as_str()), Some("a=b"));
    assert_eq!(captured.get("accept").map(|field| field.field_val.as_str()), Some("*/*"));
}
