//! What a scrape shows.

use std::time::Duration;

use super::*;

fn scrape(metrics: impl FnOnce(&Registry)) -> String {
    let registry = registry("C", "broker", "b-0").unwrap();
    metrics(&registry);
    Scrape::new(registry).text().unwrap()
}

/// The order of labels means nothing.
fn sorted(line: &str) -> String {
    let Some((name, (labels, value))) = line
        .split_once('{')
        .and_then(|(name, rest)| Some((name, rest.split_once('}')?)))
    else {
        return line.to_owned();
    };
    let mut labels: Vec<&str> = labels.split(',').collect();
    labels.sort_unstable();
    format!("{name}{{{}}}{value}", labels.join(","))
}

#[test]
fn a_send_and_a_pull_are_counted_under_rocketmqs_names_and_labels() {
    let text = scrape(|registry| {
        let metrics = Metrics::new(registry).unwrap();
        metrics.sent("T", false, MessageType::Normal).count(100);
        metrics
            .sent("T", false, MessageType::Normal)
            .count_batch(2, 50);
        metrics.given("T", "G", false, 3, 150);
        metrics.answered(
            Some("send_message"),
            Some("success"),
            false,
            Duration::from_millis(2),
        );
    });
    let node = r#"cluster="C",node_id="b-0",node_type="broker""#;
    for (name, labels, value) in [
        (
            "rocketmq_messages_in_total",
            r#"is_system="false",message_type="normal",topic="T""#,
            3,
        ),
        (
            "rocketmq_throughput_in_total",
            r#"is_system="false",message_type="normal",topic="T""#,
            150,
        ),
        (
            "rocketmq_messages_out_total",
            r#"consumer_group="G",is_retry="false",is_system="false",topic="T""#,
            3,
        ),
    ] {
        let wanted = sorted(&format!("{name}{{{node},{labels}}} {value}"));
        assert!(
            text.lines().any(|shown| sorted(shown) == wanted),
            "{wanted} is not in\n{text}"
        );
    }
    assert!(text.contains("rocketmq_rpc_latency_bucket{"));
}

#[test]
fn a_deleted_topic_leaves_no_series() {
    let text = scrape(|registry| {
        let metrics = Metrics::new(registry).unwrap();
        metrics.sent("T", false, MessageType::Normal).count(100);
        metrics.given("T", "G", false, 3, 150);
        metrics.given_up("T", "G", false);
        metrics.forget_topic("T");
    });
    assert!(!text.contains("topic=\"T\""), "{text}");
}

#[test]
fn a_deleted_group_leaves_no_series_and_takes_no_others() {
    let text = scrape(|registry| {
        let metrics = Metrics::new(registry).unwrap();
        for (topic, group) in [("T", "G"), ("%RETRY%G", "G"), ("T", "H")] {
            metrics.given(topic, group, false, 3, 150);
            metrics.unconsumed(topic, group, 1);
            metrics.given_up(topic, group, false);
        }
        metrics.forget_group("G");
    });
    assert!(!text.contains("consumer_group=\"G\""), "{text}");
    assert_eq!(text.matches("consumer_group=\"H\"").count(), 4, "{text}");
}

#[test]
fn what_is_read_at_the_scrape_is_read_before_it_is_printed() {
    let registry = registry("C", "nameserver", "ns").unwrap();
    let series = NamesrvMetrics::register(&registry).unwrap();
    let scrape = Scrape::new(registry);
    scrape.on_scrape(move || series.brokers.set(7));
    let text = scrape.text().unwrap();
    assert!(
        text.lines()
            .any(|line| line.starts_with("rocket_namesrv_brokers{") && line.ends_with("} 7")),
        "{text}"
    );
}

#[test]
fn the_metrics_page_is_what_the_tables_say() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == markdown(),
        "docs/metrics.md is stale; rewrite it with: cargo run -p rocket-broker -- config --metrics > docs/metrics.md"
    );
}
