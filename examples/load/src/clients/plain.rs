//! hyper-util's client with `HttpConnector` alone, and with hyper-rustls around it for URLs with TLS.

use super::{
    hyper::{HyperClient, Pool, pool, with_settings},
    tls,
};
use crate::{BoxError, args::Args};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;

pub type Plain = HyperClient<Pool<HttpConnector>>;
pub type PlainTls = HyperClient<Pool<HttpsConnector<HttpConnector>>>;

pub fn plain(args: &Args) -> Result<Plain, BoxError> {
    HyperClient::new(args, pool_of_tcp(args))
}

pub fn plain_tls(args: &Args) -> Result<PlainTls, BoxError> {
    HyperClient::new(args, pool_of_tls(args)?)
}

pub fn pool_of_tcp(args: &Args) -> Pool<HttpConnector> {
    pool(args, with_settings(HttpConnector::new()))
}

pub fn pool_of_tls(args: &Args) -> Result<Pool<HttpsConnector<HttpConnector>>, BoxError> {
    let tcp = with_settings(HttpConnector::new());
    Ok(pool(args, HttpsConnector::from((tcp, tls::config(args)?))))
}
