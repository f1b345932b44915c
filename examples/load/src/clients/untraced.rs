//! hyper-util's client with everything that this crate's client does, too: names, TCP and TLS.

use super::{
    hyper::{HyperClient, Pool, pool, with_settings},
    names::Names,
    tls,
};
use crate::{BoxError, args::Args};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;

pub type Untraced = HyperClient<Pool<HttpsConnector<HttpConnector<Names>>>>;

pub fn untraced(args: &Args) -> Result<Untraced, BoxError> {
    let tcp = with_settings(HttpConnector::new_with_resolver(Names::new(args.nameserver)?));
    HyperClient::new(args, pool(args, HttpsConnector::from((tcp, tls::config(args)?))))
}
