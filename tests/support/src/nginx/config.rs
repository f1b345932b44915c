//! The configuration file.

use std::net::IpAddr;
use std::path::Path;

use super::{Builder, Port};
use crate::sys;

pub(super) const PORTS: [&str; 7] = ["http", "h2c", "https", "https_h1", "tls12", "tls13", "mtls"];

const STATUS: [u16; 9] = [200, 204, 400, 401, 403, 404, 500, 502, 503];
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

/// The fields of [`Request`](super::Request) and nginx's variables for them; numbers are not quoted.
const LOG: [(&str, &str); 23] = [
    ("connection", "$connection"),
    ("connection_requests", "$connection_requests"),
    ("remote_port", "$remote_port"),
    ("server_port", "$server_port"),
    ("status", "$status"),
    ("request_length", "$request_length"),
    ("bytes_sent", "$bytes_sent"),
    ("body_bytes_sent", "$body_bytes_sent"),
    ("content_length", "\"$content_length\""),
    ("sent_content_length", "\"$sent_http_content_length\""),
    ("remote_addr", "\"$remote_addr\""),
    ("method", "\"$request_method\""),
    ("uri", "\"$request_uri\""),
    ("protocol", "\"$server_protocol\""),
    ("completion", "\"$request_completion\""),
    ("ssl_protocol", "\"$ssl_protocol\""),
    ("ssl_cipher", "\"$ssl_cipher\""),
    ("ssl_curve", "\"$ssl_curve\""),
    ("ssl_alpn_protocol", "\"$ssl_alpn_protocol\""),
    ("ssl_session_reused", "\"$ssl_session_reused\""),
    ("ssl_server_name", "\"$ssl_server_name\""),
    ("ssl_client_verify", "\"$ssl_client_verify\""),
    ("user_agent", "\"$http_user_agent\""),
];

impl Builder {
    pub(super) fn config(&self, directory: &Path, ports: &[Port]) -> String {
        let directory = directory.display().to_string();
        let fields = LOG.map(|(name, value)| format!("\"{name}\":{value}")).join(",");
        let locations = self.locations(&directory);
        let server = |port: &Port| {
            let listen: String = self.ips.iter().map(|ip| listen(*ip, port)).collect();
            format!(
                "server {{\n{listen}{}{locations}{}\n}}\n",
                self.tls_settings(port.name, &directory),
                self.extra
            )
        };
        let servers: String = ports.iter().map(server).collect();
        // The worker runs as the user of the test, because other users cannot read the test's files.
        let user = if sys::is_root() { "user root;" } else { "" };
        format!(
            r#"
daemon off;
worker_processes 1;
{user}
pid {directory}/pid;
error_log stderr notice;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    log_format json escape=json '{{{fields}}}';
    access_log {directory}/access.log json;
    root {directory}/files;
    default_type text/plain;
    absolute_redirect off;
    client_max_body_size 0;
    keepalive_timeout {timeout};
    keepalive_requests {requests};
    map $http_upgrade $backend_connection {{ default upgrade; '' close; }}
    server {{
        listen unix:{directory}/upload.sock;
        access_log off;
        location / {{ return 200 "received $content_length\n"; }}
    }}
{servers}
}}
"#,
            timeout = self.keepalive_timeout,
            requests = self.keepalive_requests,
        )
    }

    fn locations(&self, directory: &str) -> String {
        let mut text = format!(
            r#"
location = /hello {{ return 200 "hello\n"; }}
location = /whoami {{
    return 200 "$remote_addr $remote_port $server_protocol $ssl_protocol $ssl_cipher $ssl_session_reused $connection_requests\n";
}}
location = /close {{ keepalive_timeout 0; return 200 "bye\n"; }}
location = /redirect/loop {{ return 302 /redirect/loop; }}
location /chunked/ {{ alias {directory}/files/; {UNKNOWN_LENGTH} }}
location /trailers/ {{ alias {directory}/files/; {UNKNOWN_LENGTH} add_trailer x-trailer last; }}
location /gzip/ {{ alias {directory}/files/; gzip on; gzip_types *; gzip_min_length 1; }}
location /slow/ {{ alias {directory}/files/; limit_rate 64k; }}
location = /upload {{ proxy_pass http://unix:{directory}/upload.sock:; }}
"#
        );
        for code in STATUS {
            text += &format!("location = /status/{code} {{ return {code}; }}\n");
        }
        for code in REDIRECTS {
            text += &format!("location = /redirect/{code} {{ return {code} /hello; }}\n");
        }
        if let Some(backend) = self.backend {
            text += &format!(
                "location /backend/ {{
                    proxy_pass http://{backend};
                    proxy_http_version 1.1;
                    proxy_set_header Upgrade $http_upgrade;
                    proxy_set_header Connection $backend_connection;
                    proxy_buffering off;
                    proxy_request_buffering off;
                }}\n"
            );
        }
        text
    }

    fn tls_settings(&self, port: &str, directory: &str) -> String {
        let mut text = match port {
            "http" | "h2c" => return String::new(),
            "tls12" => "ssl_protocols TLSv1.2;\n".to_owned(),
            "tls13" => "ssl_protocols TLSv1.3;\n".to_owned(),
            _ => "ssl_protocols TLSv1.2 TLSv1.3;\n".to_owned(),
        };
        text += &format!("ssl_certificate {directory}/cert.pem; ssl_certificate_key {directory}/key.pem;\n");
        if port == "mtls" {
            text += &format!("ssl_client_certificate {directory}/client-ca.pem; ssl_verify_client on;\n");
        }
        text
    }
}

/// A filter that changes nothing, but for which nginx omits the content length.
const UNKNOWN_LENGTH: &str = "sub_filter_types *; sub_filter 'what no test has in its files' '';";

fn listen(ip: IpAddr, port: &Port) -> String {
    let options = match port.name {
        "http" => "",
        "h2c" => "http2",
        "https_h1" => "ssl",
        _ => "ssl http2",
    };
    format!("listen {} {options};\n", std::net::SocketAddr::new(ip, port.number))
}
