//! The parsers, the choice of the fastest, the limit.

use serde_json::json;

use super::*;

fn row(name: &str, pair: &[f64]) -> Row {
    Row { name: name.into(), times: [(Pattern::Pair, pair.to_vec())].into(), ..Row::default() }
}

#[test]
fn samples_are_times_of_one_repetition() {
    let benchmark = json!({ "throughput": { "Elements": 32 }, "full_id": "burst/x" });
    let sample = json!({ "iters": [1.0, 2.0], "times": [320.0, 320.0] });
    assert_eq!(samples(&benchmark, &sample).unwrap(), [10.0, 5.0]);
    for (benchmark, sample) in [
        (json!({}), sample.clone()),
        (benchmark.clone(), json!({ "iters": [], "times": [] })),
        (benchmark.clone(), json!({ "iters": [1.0], "times": [320.0, 320.0] })),
        (benchmark.clone(), json!({ "iters": [0.0], "times": [320.0] })),
    ] {
        assert!(samples(&benchmark, &sample).is_err(), "{benchmark} {sample}");
    }
}

#[test]
fn the_count_is_found_in_callgrinds_messages() {
    assert_eq!(collected("==7== Events    : Ir\n==7== Collected : 581372\n==7==\n"), Some(581_372));
    assert_eq!(collected("valgrind: no such file"), None);
}

#[test]
fn the_ring_is_held_against_the_fastest_of_the_others() {
    let others = [row("(the loop alone)", &[1.0]), row("shmqueue dual IN", &[1.0]), row("slow", &[9.0])];
    let with_ring = |ring: &[f64]| -> Vec<Row> {
        let mut rows = others.to_vec();
        rows.extend([row("shmqueue ring", ring), row("fast", &[7.0, 2.0])]);
        rows
    };
    let rows = with_ring(&[5.0, 2.1]);
    let (ratio, fastest) = ring_to_fastest(&rows).unwrap();
    assert_eq!((ratio, fastest.name.as_str()), (1.05, "fast"));
    assert!(verdict(&rows, false).is_ok());
    let rows = with_ring(&[2.3]);
    assert!(verdict(&rows, false).is_err());
    assert!(verdict(&rows, true).is_ok());
    assert!(verdict(&others, true).is_err(), "a run without the ring shows nothing");
}

#[test]
fn the_names_of_the_json_stay() {
    let mut rows = [row("shmqueue ring", &[2.0, 3.0, 4.0]), row("(the loop alone)", &[1.0])];
    rows[0].instructions.insert(Pattern::Pair, 42.0);
    rows[0].times.insert(Pattern::PingPong, vec![250.0]);
    assert_eq!(
        table::to_json(&rows),
        [
            json!({
                "contestant": "shmqueue ring", "pair_ns": 2.0, "pair_median_ns": 3.0, "pair_ratio": 1.0, "pair_insns": 42.0,
                "ping_pong_ns": 250.0, "ping_pong_median_ns": 250.0, "ping_pong_ratio": 1.0,
            }),
            json!({ "contestant": "(the loop alone)", "pair_ns": 1.0, "pair_median_ns": 1.0 }),
        ]
    );
}
