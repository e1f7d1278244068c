//! From all frames that passed, the few that are worth keeping as golden bytes.
//!
//! A kept example is a request with its answer, or a one-way request. Examples of one kind (link, request code, encoding, who asked,
//! answer's code) are alike; the first few of a kind are kept, small ones before large ones.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::frame::{self, Encoding, Header};
use crate::proxy::{Direction, Passed};

/// Frames above this size are kept only when their kind has no smaller one.
const SMALL: usize = 6 * 1024;
/// Frames above this size are never kept.
const LARGE: usize = 48 * 1024;

struct Decoded<'a> {
    passed: &'a Passed,
    header: Header,
}

/// A request and, unless it is one-way, its answer: indexes into the decoded frames.
struct Exchange {
    request: usize,
    answer: Option<usize>,
    size: usize,
}

type Kind = (&'static str, bool, i64, Encoding, bool, Option<i64>);

/// Writes the chosen frames of one scenario to `dir` (emptied first), with an `index.json`; returns how many.
pub fn write(
    dir: &Path,
    scenario: &str,
    client: &str,
    passed: &[Passed],
    per_kind: usize,
) -> Result<usize> {
    let mut frames = Vec::new();
    for p in passed {
        frames.push(Decoded {
            passed: p,
            header: frame::header(&p.bytes).with_context(|| format!("frame in {scenario}"))?,
        });
    }
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)?;
    let mut kept: Vec<(usize, Option<usize>)> = Vec::new();
    for (_, mut exchanges) in kinds(&frames) {
        exchanges.sort_by_key(|e| if e.size > SMALL { e.size } else { 0 }); // stable: the first small ones stay first
        for e in exchanges.iter().filter(|e| e.size <= LARGE).take(per_kind) {
            kept.push((e.request, None));
            kept.extend(e.answer.map(|a| (a, Some(e.request))));
        }
    }
    kept.sort_unstable();
    let mut entries = Vec::new();
    for (number, (frame, request)) in kept.iter().enumerate() {
        let frame = frames.get(*frame).context("index of a frame")?;
        let request = request.and_then(|r| frames.get(r));
        let way = match frame.passed.direction {
            Direction::ClientToServer => "c2s",
            Direction::ServerToClient => "s2c",
        };
        let file = format!("{number:03}-{way}-{}.bin", frame.header.code);
        std::fs::write(dir.join(&file), &frame.passed.bytes)?;
        entries.push(entry(&file, way, frame, request));
    }
    let lines: Vec<String> = entries.iter().map(|e| format!("    {e}")).collect();
    let index = format!(
        "{{\n  \"scenario\": {},\n  \"client\": {},\n  \"frames\": [\n{}\n  ]\n}}\n",
        json!(scenario),
        json!(client),
        lines.join(",\n")
    );
    std::fs::write(dir.join("index.json"), index)?;
    Ok(entries.len())
}

fn entry(file: &str, way: &str, frame: &Decoded<'_>, request: Option<&Decoded<'_>>) -> Value {
    let h = &frame.header;
    let mut entry = json!({
        "file": file, "direction": way, "link": frame.passed.link, "connection": frame.passed.connection, "code": h.code, "opaque": h.opaque,
        "flag": h.flag, "version": h.version, "serialize": match h.encoding { Encoding::Json => "JSON", Encoding::Compact => "ROCKETMQ" },
        "ext": h.ext, "body_len": h.body_len,
    });
    if let Some(fields) = entry.as_object_mut() {
        fields.extend(
            h.remark
                .iter()
                .map(|remark| ("remark".to_owned(), json!(remark))),
        );
        fields.extend(request.map(|r| ("request_code".to_owned(), json!(r.header.code))));
    }
    entry
}

/// Pairs requests with answers and sorts the pairs by kind.
fn kinds(frames: &[Decoded<'_>]) -> BTreeMap<Kind, Vec<Exchange>> {
    let mut open: HashMap<(u32, Direction, i64), usize> = HashMap::new();
    let mut kinds: BTreeMap<Kind, Vec<Exchange>> = BTreeMap::new();
    for (i, frame) in frames.iter().enumerate() {
        let p = frame.passed;
        let h = &frame.header;
        let from_client = p.direction == Direction::ClientToServer;
        if !h.is_response() {
            if h.is_oneway() {
                let kind = (p.link, from_client, h.code, h.encoding, true, None);
                kinds.entry(kind).or_default().push(Exchange {
                    request: i,
                    answer: None,
                    size: p.bytes.len(),
                });
            } else {
                open.insert((p.connection, p.direction, h.opaque), i);
            }
            continue;
        }
        let asked_by = if from_client {
            Direction::ServerToClient
        } else {
            Direction::ClientToServer
        };
        let Some(request) = open.remove(&(p.connection, asked_by, h.opaque)) else {
            continue;
        };
        let Some(asked) = frames.get(request) else {
            continue;
        };
        let kind = (
            p.link,
            !from_client,
            asked.header.code,
            asked.header.encoding,
            false,
            Some(h.code),
        );
        let size = p.bytes.len().max(asked.passed.bytes.len());
        kinds.entry(kind).or_default().push(Exchange {
            request,
            answer: Some(i),
            size,
        });
    }
    kinds
}
