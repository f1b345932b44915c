//! This crate's client.

use super::{Get, hyper::read_to_end, request};
use crate::{BoxError, args::Args};
use http::Request;
use nettrace::{
    Client, TraceSink,
    client::{Body, HttpVersion},
    tls::Roots,
};

#[derive(Clone)]
pub struct Preset {
    client: Client,
    request: Request<()>,
}

impl Preset {
    pub fn new(args: &Args, sink: &TraceSink) -> Result<Self, BoxError> {
        // So that it sends the same bytes as the untraced client.
        let mut builder = Client::builder(sink).user_agent(None).compression(false);
        let version = if args.http2 { HttpVersion::Http2Only } else { HttpVersion::Http1Only };
        builder = builder.http_version(version);
        if args.fresh_connections {
            builder = builder.max_idle_conns_per_host(0);
        }
        if let Some(nameserver) = args.nameserver {
            builder = builder.nameservers([nameserver]);
        }
        if let Some(cacert) = &args.cacert {
            builder = builder.roots(Roots::from_pem_file(cacert)?);
        }
        Ok(Preset { client: builder.build()?, request: request(args)? })
    }

    pub async fn close(self) {
        self.client.close().await;
    }
}

impl Get for Preset {
    async fn get(&mut self) -> Result<(), BoxError> {
        let request = self.request.clone().map(|()| Body::empty());
        read_to_end(self.client.request(request).await?).await
    }
}
