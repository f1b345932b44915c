//! Outputs for events and spans of `tracing`: the same formatters and exporters as in a program, which write nowhere.

use crate::{BoxError, args::Args, mode::Mode};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tracing::{
    dispatcher::{self, DefaultGuard, Dispatch},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Registry,
    fmt::{MakeWriter, format::FmtSpan},
    layer::SubscriberExt,
};

/// The subscriber of a client's requests.
#[derive(Clone)]
pub struct Output {
    dispatch: Dispatch,
    written: Count,
    exporting: Option<SdkTracerProvider>,
}

impl Output {
    /// Returns the output of the mode, if it has one.
    pub fn new(args: &Args) -> Option<Self> {
        match args.mode {
            Mode::TowerHttp | Mode::Events => Some(Self::lines(FmtSpan::NONE)),
            // Its spans have no events: the line is written when the span ends.
            Mode::ReqwestTracing => Some(Self::lines(FmtSpan::CLOSE)),
            Mode::TowerHttpOtel | Mode::ReqwestTracingOtel => Some(Self::spans()),
            Mode::Bare
            | Mode::Untraced
            | Mode::Off
            | Mode::Traced
            | Mode::Full
            | Mode::Stamped
            | Mode::Captured
            | Mode::Recorder => None,
            Mode::Plain | Mode::Layers | Mode::LayersUncaptured | Mode::LayersOff => None,
            Mode::Wire | Mode::WireOff => None,
            Mode::Reqwest | Mode::ReqwestObserved | Mode::ReqwestOff => None,
            Mode::Tonic | Mode::TonicTraced | Mode::TonicOff => None,
        }
    }

    /// Lines of text, as they would go to standard output.
    fn lines(span_events: FmtSpan) -> Self {
        let written = Count::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::INFO)
            .with_ansi(false)
            .with_span_events(span_events)
            .with_writer(written.clone())
            .finish();
        Output { dispatch: Dispatch::new(subscriber), written, exporting: None }
    }

    /// Spans of OpenTelemetry, in batches of the default size.
    fn spans() -> Self {
        let written = Count::default();
        let provider = SdkTracerProvider::builder().with_batch_exporter(Discard(written.clone())).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("load"));
        let subscriber = Registry::default().with(LevelFilter::INFO).with(layer);
        Output { dispatch: Dispatch::new(subscriber), written, exporting: Some(provider) }
    }

    /// Makes it the subscriber of this thread until the guard is dropped, as a program would make it the subscriber of
    /// the process: then the clients of other modes do not write to it.
    pub fn make_default(&self) -> DefaultGuard {
        dispatcher::set_default(&self.dispatch)
    }

    /// Waits until everything is exported.
    pub fn flush(&self) -> Result<(), BoxError> {
        Ok(self.exporting.as_ref().map_or(Ok(()), SdkTracerProvider::force_flush)?)
    }

    /// Returns how many lines or spans were written.
    pub fn written(&self) -> u64 {
        self.written.0.load(Relaxed)
    }

    /// Ends the threads.
    pub fn close(self) -> Result<(), BoxError> {
        Ok(self.exporting.map_or(Ok(()), |provider| provider.shutdown())?)
    }
}

/// Like `io::sink()`, and counts what is written. An event is one call.
#[derive(Clone, Debug, Default)]
struct Count(Arc<AtomicU64>);

impl io::Write for &Count {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(1, Relaxed);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Count {
    type Writer = &'a Count;

    fn make_writer(&'a self) -> &'a Count {
        self
    }
}

/// An exporter that drops the spans.
#[derive(Debug)]
struct Discard(Count);

impl SpanExporter for Discard {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.0.fetch_add(batch.len() as u64, Relaxed);
        Ok(())
    }
}
