//! Reads the settings of a reqwest builder from its `Debug` output, since reqwest has no getters.

use ::reqwest::ClientBuilder;

/// Returns the name of a setting that would have no effect any more once a resolver, a TLS configuration and a redirect
/// policy are installed.
pub(super) fn lost_setting(builder: &ClientBuilder) -> Option<&'static str> {
    lost_setting_in(&format!("{builder:?}"))
}

/// Returns the path of the Unix socket that the client connects to.
pub(super) fn unix_socket(builder: &ClientBuilder) -> Option<Box<str>> {
    unix_socket_in(&format!("{builder:?}"))
}

fn lost_setting_in(shown: &str) -> Option<&'static str> {
    const SETTINGS: [(&str, &str); 9] = [
        ("redirect_policy: ", "redirect"),
        ("tls_danger_accept_invalid_certs: ", "tls_danger_accept_invalid_certs"),
        ("tls_danger_accept_invalid_hostnames: ", "tls_danger_accept_invalid_hostnames"),
        ("tls_version_min: ", "tls_version_min"),
        ("tls_version_max: ", "tls_version_max"),
        ("tls_sni: false", "tls_sni"),
        ("tls_sslkeylogfile: true", "tls_sslkeylogfile"),
        // Only shown with reqwest's feature `default-tls`.
        ("tls_backend: Built", "tls_backend_preconfigured"),
        ("tls_backend: UnknownPreconfigured", "tls_backend_preconfigured"),
    ];
    let shown = without_texts(shown);
    SETTINGS.iter().find(|(pattern, _)| shown.contains(pattern)).map(|(_, setting)| *setting)
}

fn unix_socket_in(shown: &str) -> Option<Box<str>> {
    // Inside another string the quotation mark would be escaped.
    let (_, rest) = shown.split_once("unix_socket: \"")?;
    unescaped(rest)
}

/// Removes the contents of strings, which may read like settings.
fn without_texts(shown: &str) -> String {
    let mut chars = shown.chars();
    let mut rest = String::new();
    while let Some(char) = chars.next() {
        rest.push(char);
        if char == '"' {
            // An escaped character does not end the string.
            while let Some(char) = chars.next().filter(|char| *char != '"') {
                if char == '\\' {
                    chars.next();
                }
            }
        }
    }
    rest
}

/// Returns the text up to the next quotation mark with its `Debug` escapes undone. Returns `None` for an escape that
/// `Debug` does not write for UTF-8.
fn unescaped(escaped: &str) -> Option<Box<str>> {
    let mut chars = escaped.chars();
    let mut text = String::new();
    loop {
        text.push(match chars.next()? {
            '"' => return Some(text.into()),
            '\\' => match chars.next()? {
                't' => '\t',
                'r' => '\r',
                'n' => '\n',
                '0' => '\0',
                'u' => {
                    let code: String = chars.by_ref().skip(1).take_while(|char| *char != '}').collect();
                    char::from_u32(u32::from_str_radix(&code, 16).ok()?)?
                }
                char @ ('"' | '\'' | '\\') => char,
                _ => return None,
            },
            char => char,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_preconfigured_tls_backend_is_detected() {
        let shown = |backend| format!("ClientBuilder {{ tls_sni: true, tls_backend: {backend} }}");
        for backend in ["BuiltRustls", "BuiltNativeTls", "UnknownPreconfigured"] {
            assert_eq!(lost_setting_in(&shown(backend)), Some("tls_backend_preconfigured"));
        }
        for backend in ["Rustls", "NativeTls"] {
            assert_eq!(lost_setting_in(&shown(backend)), None);
        }
    }

    #[test]
    fn unix_socket_paths_are_unescaped() {
        for path in ["/run/docker.sock", "/a \"b\"\\c\n\u{7f}\u{e9}\u{200b}", ""] {
            let shown = format!(
                "ClientBuilder {{ a: \"unix_socket: \\\"x\\\"\", unix_socket: {:?} }}",
                Path::new(path)
            );
            assert_eq!(unix_socket_in(&shown).as_deref(), Some(path), "{shown}");
        }
        assert_eq!(unix_socket_in("ClientBuilder { unix_socket: \"\\xFF\" }"), None);
        assert_eq!(unix_socket_in("ClientBuilder { accepts: Accepts }"), None);
    }
}
