//! Serves the debug page of a program that makes and answers requests, some of which fail.
//!
//! ```text
//! cargo run --example debug_page --features axum,client,debug-page -- [PORT]
//! ```
//!
//! It listens on loopback alone, and prints where the page is. The traffic goes on until Ctrl-C.

use axum::{Router, body::Body, extract::State, http::StatusCode, routing::get};
use nettrace::{
    Client, TraceSink,
    debug_page::{DebugPage, Metrics},
    server::{ConnInfo, TraceListener, TraceServerLayer},
};
use std::{error::Error, net::Ipv4Addr, time::Duration};
use tokio::{net::TcpListener, signal, time};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().nth(1).map_or(Ok(0), |port| port.parse())?;
    let metrics = Metrics::new();
    let sink = TraceSink::builder().subscriber(metrics.clone()).build();
    let client = Client::builder(&sink).build()?;

    let listener = TraceListener::new(&sink, TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?);
    let addr = listener.local_addr()?;
    let page = DebugPage::new(&sink).metrics(&metrics).title("shop");
    let app = Router::new()
        .route("/order", get(order))
        .route("/stock", get(|| async { "12 pieces\n" }))
        .route("/slow", get(slow))
        .route("/broken", get(|| async { (StatusCode::SERVICE_UNAVAILABLE, "maintenance\n") }))
        .with_state(Shop { client: client.clone(), stock: format!("http://{addr}/stock") })
        .layer(TraceServerLayer::new(&sink).boxed(Body::new))
        .nest_service("/debug/nettrace", page); // <- below the layer: its own requests are not recorded
    let site = format!("http://{addr}");
    println!("{site}/debug/nettrace");

    let serving = axum::serve(listener, app.into_make_service_with_connect_info::<ConnInfo>());
    tokio::select! {
        served = serving => served?,
        () = traffic(&client, &site) => {}
        _ = signal::ctrl_c() => {}
    }
    Ok(())
}

/// Makes requests, some of which fail.
async fn traffic(client: &Client, site: &str) {
    for round in 0_u64.. {
        let url = match round % 7 {
            0 => format!("{site}/slow"),
            3 => format!("{site}/broken"),
            5 => "http://127.0.0.1:1/nobody-listens".to_owned(),
            _ => format!("{site}/order?number={round}"),
        };
        if let Ok(response) = client.get(url).await {
            // What the body says is of no interest here, and a failure is in the trace.
            let _ = response.into_body().bytes().await;
        }
        time::sleep(Duration::from_millis(300)).await;
    }
}

#[derive(Clone)]
struct Shop {
    client: Client,
    stock: String,
}

/// Asks another service before it answers.
async fn order(State(shop): State<Shop>) -> Result<String, StatusCode> {
    let response = shop.client.get(shop.stock).await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    let stock = response.into_body().bytes().await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    Ok(format!("ordered, in stock: {}", String::from_utf8_lossy(&stock)))
}

async fn slow() -> &'static str {
    time::sleep(Duration::from_millis(700)).await;
    "at last\n"
}
