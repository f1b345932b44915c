//! `--proxy`, and proxies from environment variables.

use crate::{command, exits_with, parse, reason, run};
use nettrace::NetTrace;
use test_support::{
    check, process,
    proxies::{microsocks, tinyproxy},
    raw::{Refused, Server},
    require::require_tool,
};

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n";

fn trace(output: &process::Output) -> NetTrace {
    let trace = parse(&output.stdout);
    check::finished(&trace);
    trace
}

#[test]
fn every_proxy_scheme_is_supported() {
    require_tool!("tinyproxy", "microsocks");
    let web = Server::answering(HELLO);
    let (http, socks) = (tinyproxy("BasicAuth joe secret"), microsocks(true));
    let url = format!("http://localhost:{}/", web.addr().port());
    let bare = format!("joe:secret@{}", http.addr);
    for proxy in
        [http.url_with_login("http"), bare, socks.url_with_login("socks5"), socks.url_with_login("socks5h")]
    {
        let output = run(["get", &url, "-x", &proxy]);
        exits_with(&output, 0);
        assert_eq!(output.stdout, "hello\n");
        assert!(
            output.stderr.contains("· through") && output.stderr.contains("://***@"),
            "{}",
            output.stderr
        );
        assert!(!output.stderr.contains("secret"), "{}", output.stderr);
        let trace = trace(&run(["get", &url, "--proxy", &proxy, "--json", "-"]));
        assert!(trace.http_requests[0].network_proxy.contains("://***@127.0.0.1:"));
    }
}

#[test]
fn a_refused_connect_fails_the_request() {
    require_tool!("tinyproxy");
    let server = tinyproxy("ConnectPort 443");
    let output = run(["get", "https://localhost:444/", "--proxy", &server.url("http")]);
    exits_with(&output, 1);
    let expected = format!(
        "x_proxy_refused: the proxy {} did not connect to localhost:444: 403 Access violation",
        server.url("http")
    );
    assert_eq!(reason(&output), expected);
    assert!(output.stdout.is_empty());
    let row = output.stderr.lines().find(|line| line.trim_start().starts_with("proxy ")).unwrap();
    assert!(row.contains("CONNECT localhost:444 · 403 Forbidden"), "{row}");
}

#[test]
fn invalid_proxy_urls_are_rejected() {
    for (proxy, expected) in [
        ("ftp://a.test", "its scheme is not http, https, socks5 or socks5h"),
        ("http://joe:secret@a.test:x", "its port is no number up to 65535"),
    ] {
        let output = run(["get", "http://h/", "--proxy", proxy]);
        exits_with(&output, 2);
        assert!(output.stderr.contains(expected) && !output.stderr.contains("secret"), "{}", output.stderr);
    }
}

#[test]
fn noproxy_hosts_are_connected_directly() {
    let (web, refused) = (Server::answering(HELLO), Refused::on("127.0.0.1:0"));
    let (url, proxy) = (format!("http://{}/", web.addr()), refused.addr.to_string());
    exits_with(&run(["get", &url, "--proxy", &proxy]), 1);
    exits_with(&run(["get", &url, "--proxy", &proxy, "--noproxy", "a.test,127.0.0.0/8"]), 0);
}

/// The proxy of the environment is used for names that only it can resolve, and never for loopback addresses.
#[test]
fn proxies_of_the_environment_are_used() {
    let proxy = Server::start(async |mut conn| {
        let head = conn.read_head().await?;
        assert!(head.contains("proxy-authorization: Basic am9lOnNlY3JldA=="), "{head}");
        let is_connect = head.starts_with("CONNECT web.test:443 ");
        assert!(is_connect || head.starts_with("GET http://web.test/ "), "{head}");
        conn.write(if is_connect { b"HTTP/1.1 403 No\r\n\r\n" } else { HELLO }).await
    });
    let url = format!("http://joe:secret@{}", proxy.addr());
    let get_with = |variables: &[(&str, &str)], args: &[&str]| {
        let mut command = command(args);
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command.envs(variables.iter().copied());
        process::run(command, crate::PATIENCE)
    };
    let no_nameserver = ["--nameserver", "127.0.0.1:9"];
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let output =
            get_with(&[(variable, &url)], &["get", "http://web.test/", no_nameserver[0], no_nameserver[1]]);
        exits_with(&output, 0);
        assert_eq!(output.stdout, "hello\n");
    }
    let output =
        get_with(&[("https_proxy", &url)], &["get", "https://web.test/", no_nameserver[0], no_nameserver[1]]);
    exits_with(&output, 1);
    assert!(reason(&output).contains("403 No"), "{}", output.stderr);

    // Without the proxy, the name cannot be resolved.
    for (variables, more) in [
        (&[("HTTPS_PROXY", &*url)][..], &[][..]),
        (&[("HTTP_PROXY", &*url), ("NO_PROXY", "test")], &[]),
        (&[("HTTP_PROXY", &*url), ("REQUEST_METHOD", "GET")], &[]),
        (&[("HTTP_PROXY", &*url)], &["--proxy", ""]),
    ] {
        let args = [&["get", "http://web.test/", no_nameserver[0], no_nameserver[1]], more].concat();
        let output = get_with(variables, &args);
        exits_with(&output, 1);
        assert!(!output.stderr.contains("through"), "{}", output.stderr);
    }
    // An invalid proxy fails the request, instead of being ignored.
    let output = get_with(&[("ALL_PROXY", "ftp://joe:secret@a.test")], &["get", "http://web.test/"]);
    exits_with(&output, 1);
    assert!(reason(&output).contains("its scheme is not http"), "{}", output.stderr);
    assert!(!output.stderr.contains("secret"), "{}", output.stderr);

    let web = Server::answering(HELLO);
    let output = get_with(&[("HTTP_PROXY", &url)], &["get", &format!("http://{}/", web.addr())]);
    exits_with(&output, 0);
    assert!(!output.stderr.contains("through"), "{}", output.stderr);
}
