//! Chooses the request with which each dial is drawn. A dial is drawn once, whatever the links are.

use serde_json::json;

use crate::fixture::{block, dial, drawn, get, line};

#[test]
fn a_dial_that_no_request_caused_is_drawn_with_the_first_that_used_it() {
    let drawing = drawn([dial("10.0.0.1", "", 1)], [get("r2", "10.0.0.1", 80), get("r1", "10.0.0.1", 30)]);
    let first = block(&drawing, "GET http://h/r1");
    line(&first, &["  dialled 28.5 ms before this request to 10.0.0.1.test:80 · dial-10.0.0.1 · 1.50 ms"]);
    line(&first, &["  dns", "500 µs"]);
    line(&first, &["  tcp", "1.00 ms  10.0.0.1:80"]);
    assert!(
        first.iter().position(|line| line.starts_with("  wait"))
            < first.iter().position(|line| line.starts_with("  dialled"))
    );
    assert!(first[0].ends_with("6.00 ms"), "the time of the request is its own: {}", first[0]);
    line(&first, &[" · connection 10.0.0.1 (27.0 ms old)"]);
    let second = block(&drawing, "GET http://h/r2");
    assert!(!second.iter().any(|line| line.contains("dialled") || line.starts_with("  tcp")), "{drawing}");
}

#[test]
fn every_dial_is_drawn_once() {
    let connect = json!({"traceID": "connect", "tcpConn": "10.0.0.5", "reqMethod": "CONNECT", "reqURL": "web.test:443",
        "networkProxy": "http://proxy.test", "triggeredBy": "own", "reqSentAt": "+300ms", "respStatusCode": 200});
    let mut accepted = get("accepted", "10.0.0.6", 400);
    accepted["accepted"] = json!(true);
    let mut forward = get("forward", "10.0.0.4", 90);
    forward["prevHop"] = json!("connect");
    let dials = [
        dial("10.0.0.1", "own", 1),
        dial("10.0.0.2", "", 20),
        dial("10.0.0.3", "gone", 40),
        dial("10.0.0.4", "accepted", 60),
        dial("10.0.0.5", "connect", 80),
        dial("10.0.0.6", "", 100),
        dial("10.0.0.7", "", 120),
        // The request that caused it got another connection.
        dial("10.0.0.8", "own", 2),
    ];
    let requests = [
        get("own", "10.0.0.1", 0),
        get("later", "10.0.0.2", 30),
        get("again", "10.0.0.2", 60),
        get("other", "10.0.0.3", 70),
        forward,
        connect,
        accepted,
    ];
    let drawing = drawn(dials, requests);
    for at in 1..=8 {
        let row = format!("1.00 ms  10.0.0.{at}:80");
        assert_eq!(drawing.matches(&row).count(), 1, "{row} in\n{drawing}");
    }
    for (request, dials) in
        [("own", &[1, 8][..]), ("later", &[2]), ("again", &[]), ("other", &[3]), ("forward", &[4])]
    {
        let block = block(&drawing, &format!("GET http://h/{request}"));
        let rows = block.iter().filter(|line| line.starts_with("  tcp")).count();
        assert_eq!(rows, dials.len(), "{request} in\n{drawing}");
        for at in dials {
            line(&block, &["  tcp", &format!("10.0.0.{at}:80")]);
        }
    }
    for (at, dial) in ["5", "6", "7"].iter().enumerate() {
        let block = block(&drawing, &format!("dial 10.0.0.{dial}.test:80 · connected"));
        assert_eq!(
            block.iter().filter(|line| line.contains("CONNECT web.test:443")).count(),
            usize::from(at == 0)
        );
    }
    assert_eq!(
        drawing.matches("dialled 29.5 ms before this request to 10.0.0.3.test:80 for gone · ").count(),
        1
    );
    assert_eq!(drawing.matches("CONNECT").count(), 1, "{drawing}");
}

#[test]
fn requests_that_cause_each_other_are_drawn() {
    let connect = |id: &str, cause: &str, conn: &str| {
        json!({"traceID": id, "tcpConn": conn, "reqMethod": "CONNECT", "reqURL": format!("{id}:443"), "networkProxy":
               "http://proxy.test", "triggeredBy": cause, "prevHop": cause, "reqSentAt": "+300ms"})
    };
    let (a, b) = (connect("a", "b", "10.0.0.1"), connect("b", "a", "10.0.0.2"));
    for dials in
        [vec![], vec![dial("10.0.0.1", "a", 1)], vec![dial("10.0.0.1", "b", 1), dial("10.0.0.2", "a", 2)]]
    {
        let conns = dials.len();
        let drawing = drawn(dials, [a.clone(), b.clone(), connect("self", "self", "")]);
        for id in ["a", "b", "self"] {
            assert_eq!(drawing.matches(&format!("CONNECT {id}:443")).count(), 1, "{id} in\n{drawing}");
        }
        assert_eq!(drawing.matches("1.00 ms  10.0.0.").count(), conns, "{drawing}");
    }
    // Several records with one identifier are several records.
    let drawing = drawn(
        [dial("10.0.0.1", "", 1)],
        [connect("x", "x", "10.0.0.1"), get("x", "10.0.0.1", 4), get("x", "", 9)],
    );
    assert_eq!(
        (drawing.matches("GET http://h/x").count(), drawing.matches("CONNECT x:443").count()),
        (2, 1),
        "{drawing}"
    );
}
