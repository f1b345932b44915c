//! Writes traces in formats that other programs read.
//!
//! ```
//! use nettrace::export::otlp_json::OtlpJson;
//!
//! # let json = r#"{"traceBeginAt": "2026-01-01T00:00:00Z", "httpRequests": [{"traceID": "tid-1", "reqMethod": "GET",
//! #   "reqURL": "http://shop.test/", "reqSentAt": "+1ms", "endAt": "+9ms", "respRecvAt": "+8ms",
//! #   "respStatusCode": 200, "endReason": "closed"}]}"#;
//! let trace: nettrace::NetTrace = serde_json::from_str(json)?;
//!
//! let mut lines = Vec::new(); // or a file, which an OpenTelemetry Collector reads
//! OtlpJson::new().service_name("shop").write(&trace, &mut lines)?;
//! # let line: serde_json::Value = serde_json::from_slice(&lines)?;
//! # let span = &line["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
//! # assert_eq!((&span["name"], &span["startTimeUnixNano"]), (&"GET".into(), &"1767225600001000000".into()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An export reads records alone, so that it works for a snapshot, for a slice, and for a trace from a file.

pub mod otlp_json;
