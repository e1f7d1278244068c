use super::super::record::latest;
use super::*;

/// Outcomes as a short run recorded them, with figures changed so that each verdict occurs.
const RECORDED: &str = include_str!("recorded.json");

fn recorded() -> Vec<Outcome> {
    RECORDED
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_page_is_made_from_a_recorded_run() {
    let dir = tempfile::tempdir().unwrap();
    let docs = dir.path().join("docs");
    write(&recorded(), "## Where the time goes\n\nIn waiting.", &docs).unwrap();
    let page = fs::read_to_string(docs.join("benchmarks.md")).unwrap();
    let row = |id: &str| {
        let begin = format!("| {id} |");
        page.lines()
            .find(|line| line.starts_with(&begin))
            .unwrap()
            .to_owned()
    };
    // Ratios 4, 2 and 6 of the recorded pairs.
    assert!(
        row("P1").contains("| ≥ 3.00× | ≥ 6.00× | 4.00× | 2.00× | met, aim missed |"),
        "{}",
        row("P1")
    );
    assert!(row("P3").contains("| missed"), "{}", row("P3"));
    assert!(row("P4").contains("does not count"), "{}", row("P4"));
    assert!(row("P8").contains("not measured"), "{}", row("P8"));
    assert!(page.contains("- P8 was not measured."));
    assert!(page.contains("- P4 does not count: the machine changed meanwhile"));
    assert!(page.contains("## Where the time goes\n\nIn waiting."));
    for plot in page.split("](benchmarks/").skip(1) {
        let name = plot.split(')').next().unwrap();
        let svg = fs::read_to_string(docs.join("benchmarks").join(name)).unwrap();
        assert!(svg.contains("<polyline"), "{name}");
    }
    assert!(page.contains("latency-sync.svg") && page.contains("throughput-sync.svg"));
}

#[test]
fn the_latest_full_run_of_a_row_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str, change: fn(&mut Outcome)| {
        let mut outcome = recorded().remove(0);
        change(&mut outcome);
        super::super::record::append(&dir.path().join(name), &outcome).unwrap();
    };
    of("1.json", |outcome| outcome.parameters = "first".into());
    of("2.json", |outcome| outcome.parameters = "second".into());
    of("3.json", |outcome| {
        outcome.parameters = "quick".into();
        outcome.quick = true;
    });
    of("4.json", |outcome| {
        outcome.parameters = "refused".into();
        outcome.pairs.clear();
    });
    let latest = latest(dir.path()).unwrap();
    assert_eq!(latest.len(), 1);
    assert_eq!(latest[0].parameters, "second");
}

#[test]
fn a_row_between_limits_that_drifted_does_not_count() {
    let mut outcome = recorded().remove(0);
    assert_eq!(outcome.refusal(), None);
    outcome.limits_after.pwrite_mb_per_s *= 1.49;
    assert_eq!(outcome.refusal(), None);
    outcome.limits_after.pwrite_mb_per_s *= 1.1;
    assert!(outcome.refusal().unwrap().contains("pwrite differs by"));
}

#[test]
fn a_page_without_any_run_says_so() {
    let page = page(&[], "");
    assert!(page.contains("Nothing has been measured yet."));
    assert!(page.contains("- P1 was not measured."));
}
