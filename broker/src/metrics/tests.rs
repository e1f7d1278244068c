//! What a scrape shows.

use std::time::Duration;

use super::*;

fn scrape(metrics: impl FnOnce(&Registry)) -> String {
    let registry = registry("C", "broker", "b-0").unwrap();
    metrics(&registry);
    Scrape::new(registry).text().unwrap()
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
    for line in [
        r#"rocketmq_messages_in_total{cluster="C",is_system="false",message_type="normal",node_id="b-0",node_type="broker",topic="T"} 3"#,
        r#"rocketmq_throughput_in_total{cluster="C",is_system="false",message_type="normal",node_id="b-0",node_type="broker",topic="T"} 150"#,
        r#"rocketmq_messages_out_total{cluster="C",consumer_group="G",is_retry="false",is_system="false",node_id="b-0",node_type="broker",topic="T"} 3"#,
    ] {
        assert!(
            text.lines().any(|shown| shown == line),
            "{line} is not in\n{text}"
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
        metrics.forget_topic("T");
    });
    assert!(!text.contains("topic=\"T\""), "{text}");
}

#[test]
fn what_is_read_at_the_scrape_is_read_before_it_is_printed() {
    let registry = registry("C", "nameserver", "ns").unwrap();
    let series = NamesrvMetrics::register(&registry).unwrap();
    let scrape = Scrape::new(registry);
    scrape.on_scrape(move || series.brokers.set(7));
    assert!(scrape.text().unwrap().contains(
        "rocket_namesrv_brokers{cluster=\"C\",node_id=\"ns\",node_type=\"nameserver\"} 7"
    ));
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
