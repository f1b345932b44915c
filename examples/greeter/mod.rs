//! A gRPC service, its generated client, and an implementation. See `greeter.proto`.

#[allow(clippy::all, unreachable_pub, missing_docs)] // generated code
mod generated {
    include!("generated.rs");
}

pub use generated::{Greeting, Name, greeter_client::GreeterClient, greeter_server::GreeterServer};

use futures_util::{Stream, StreamExt};
use generated::greeter_server::Greeter;
use std::{future::pending, pin::Pin};
use tonic::{Request, Response, Status, Streaming};

/// The implementation of the service. Each greeting has the port of the client.
#[derive(Clone, Copy)]
pub struct Greetings;

impl Name {
    pub fn of(name: &str) -> Self {
        Name { name: name.into(), times: 1 }
    }
}

type ManyGreetings = Pin<Box<dyn Stream<Item = Result<Greeting, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for Greetings {
    async fn greet(&self, request: Request<Name>) -> Result<Response<Greeting>, Status> {
        let port = port(&request);
        greet(request.into_inner().name, port).await.map(Response::new)
    }

    async fn greet_all(&self, request: Request<Streaming<Name>>) -> Result<Response<Greeting>, Status> {
        let port = port(&request);
        let (mut names, mut all) = (request.into_inner(), Vec::new());
        while let Some(name) = names.message().await? {
            all.push(name.name);
        }
        greet(all.join(", "), port).await.map(Response::new)
    }

    type RepeatStream = ManyGreetings;

    async fn repeat(&self, request: Request<Name>) -> Result<Response<ManyGreetings>, Status> {
        let port = port(&request);
        let Name { name, times } = request.into_inner();
        let greeting = move |time| Ok(Greeting { text: format!("hello for time {time}"), port });
        let greetings = futures_util::stream::iter(1..=times).map(greeting);
        // If the name is rejected, the error follows the greetings.
        let last =
            futures_util::stream::once(greet(name, port)).filter(|last| std::future::ready(last.is_err()));
        Ok(Response::new(Box::pin(greetings.chain(last))))
    }

    type ChatStream = ManyGreetings;

    async fn chat(&self, request: Request<Streaming<Name>>) -> Result<Response<ManyGreetings>, Status> {
        let port = port(&request);
        let greetings = request.into_inner().then(move |name| async move { greet(name?.name, port).await });
        Ok(Response::new(Box::pin(greetings)))
    }
}

async fn greet(name: String, port: u32) -> Result<Greeting, Status> {
    match &*name {
        "" => Err(Status::invalid_argument("a name is needed")),
        "nobody" => Err(Status::not_found("nobody is here, 100% sure: ☹")),
        "never" => pending().await,
        name => Ok(Greeting { text: format!("hello {name}"), port }),
    }
}

fn port<T>(request: &Request<T>) -> u32 {
    request.remote_addr().map_or(0, |addr| addr.port().into())
}
