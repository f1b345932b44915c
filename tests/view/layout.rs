//! Columns, bars, colours and headings.

use nettrace::{NetTrace, view};
use serde_json::json;

use crate::fixture::{PEER, all, block, line, of, read};

#[test]
fn columns_are_aligned_and_lines_no_longer_than_asked_for() {
    for trace in all() {
        for width in [60, 80, 100, 133, 200] {
            let bar = ((width - 21) * 2 / 5usize).clamp(12, 72);
            let drawing = view::waterfall(&trace).width(width).to_string();
            for line in drawing.lines() {
                let chars: Vec<char> = line.chars().collect();
                let is_title = !line.starts_with(' ');
                assert!(is_title || chars.len() <= width, "{width}: {line}");
                let is_row = line.starts_with("  ")
                    && ["dns", "tcp", "tls", "wait"].contains(&line[2..].split(' ').next().unwrap());
                if is_row {
                    assert_eq!(chars[9], ' ', "{line}");
                    let after_bar: String = chars[10 + bar..].iter().take(9).collect();
                    assert!(after_bar.ends_with('s') && after_bar.starts_with(' '), "{width}: {line}");
                    assert!(chars[19 + bar..].iter().take(2).all(|c| *c == ' '), "{width}: {line}");
                }
            }
        }
    }
}

#[test]
fn bars_are_to_scale() {
    let ms = |at: u64| format!("+{at}ms");
    let trace = of(json!({
        "traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": ms(400),
        "httpRequests": [{
            "traceID": "r", "reqMethod": "PUT", "reqURL": "http://h/", "reqContentLen": 1, "respStatusCode": 200,
            "reqSentAt": ms(100), "connAcquiredAt": ms(180), "reqBodyEndAt": ms(220), "respRecvAt": ms(300),
            "respBodyEndAt": ms(420), "endAt": ms(420), "endReason": "closed",
        }],
    }));
    // 320 ms on 64 columns.
    let drawing = view::waterfall(&trace).width(181).to_string();
    let block = block(&drawing, "PUT http://h/");
    for (label, begin, length) in [("blocked", 0, 16), ("send", 16, 8), ("wait", 24, 16), ("receive", 40, 24)]
    {
        let row: Vec<char> = line(&block, &[&format!("  {label} ")]).chars().skip(10).take(64).collect();
        let drawn: String = row.iter().map(|c| if *c == '█' { '█' } else { ' ' }).collect();
        assert_eq!(
            drawn,
            format!("{:begin$}{}{:rest$}", "", "█".repeat(length), "", rest = 64 - begin - length)
        );
    }
}

#[test]
fn colours_and_ascii_when_asked_for() {
    for trace in all() {
        let lines = view::waterfall(&trace).to_string().lines().count();
        for (color, ascii) in [(false, false), (true, false), (false, true), (true, true)] {
            let drawing = view::waterfall(&trace).color(color).ascii(ascii).to_string();
            assert_eq!(drawing.contains("\x1b["), color);
            assert_eq!(drawing.is_ascii(), ascii);
            assert_eq!(drawing.lines().count(), lines);
            assert!(drawing.ends_with('\n'));
        }
    }
    let red = view::waterfall(&read(PEER[5])).color(true).to_string();
    assert!(red.contains("\x1b[1;31m✗ failed\x1b[0m\x1b[31m: dial tcp"), "{red}");
}

#[test]
fn headings_and_header_fields() {
    let trace = read(PEER[9]);
    assert!(
        view::waterfall(&trace).to_string().starts_with("POST with a body · 2026-11-23T13:27:09.879696733Z")
    );
    assert!(view::waterfall(&trace).heading(false).to_string().starts_with("POST http://web.test/post"));
    assert!(!view::waterfall(&trace).to_string().contains("Content-Type"));
    let drawing = view::waterfall(&trace).headers(true).to_string();
    let block = block(&drawing, "POST http://web.test/post");
    line(&block, &["  > Content-Type: text/plain"]);
    line(&block, &["  < Content-Length: 626"]);
}

#[test]
fn nothing_is_something_to_say_too() {
    assert_eq!(view::waterfall(&NetTrace::default()).heading(false).to_string(), "Nothing was traced.\n");
    assert_eq!(
        view::waterfall(&NetTrace::default()).to_string(),
        "0 requests · 0 connections\n\nNothing was traced.\n"
    );
}
