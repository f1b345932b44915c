//! A unary call over a channel of tonic over the loopback interface, traced or not. The cost of tracing is the difference
//! to the channel that is not traced; the server is part of all of them.

use super::{Again, Scene, loopback};
use bytes::Bytes;
use http::Uri;
use http_body::Body as HttpBody;
use nettrace::TraceSink;
use tokio::net::TcpListener;
use tonic::{
    body::Body,
    client::GrpcService,
    codegen::StdError,
    transport::{Endpoint, Server, server::TcpIncoming},
};
use tonic_health::{pb::HealthCheckRequest, pb::health_client::HealthClient, server::health_reporter};

pub(super) fn scenes() -> Vec<Scene> {
    let traced = |sink: fn() -> TraceSink| {
        move || calls(move |endpoint| nettrace::tonic::connect_lazy(&sink(), endpoint))
    };
    let scenes = vec![
        Scene::new("tonic/untraced", || calls(|endpoint| endpoint.connect_lazy())).unguarded(),
        Scene::new("tonic/off", traced(TraceSink::disabled)),
        Scene::new("tonic/traced", traced(loopback::sink)),
    ];
    scenes.into_iter().map(Scene::long).collect()
}

/// Returns work that makes one call after the other over a channel, which needs a runtime to be created.
fn calls<C>(channel: impl FnOnce(Endpoint) -> C) -> Again<impl FnMut()>
where
    C: GrpcService<Body, Error: Into<StdError>> + Clone,
    C::ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
{
    loopback::requests_to(serve, |uri: Uri| {
        let client = HealthClient::new(channel(Endpoint::from(uri)));
        async move || {
            let reply = client.clone().check(HealthCheckRequest::default()).await;
            assert!(reply.is_ok(), "{reply:?}");
        }
    })
}

async fn serve(listener: TcpListener) {
    let (_reporter, health) = health_reporter();
    let served = Server::builder().add_service(health).serve_with_incoming(TcpIncoming::from(listener));
    served.await.expect("an address that stays open");
}
