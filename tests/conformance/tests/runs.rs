//! One run of each driver, shared by the tests that judge it.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use conformance::facts::Facts;
use conformance::process::scratch;
use conformance::programs::{Programs, java, programs_or_skip};

use crate::cluster::cluster;

const PATIENCE: Duration = Duration::from_secs(150);
/// These wait for deliveries that the broker makes later by itself: a run of their own keeps the others quick.
const LATE: &str = "retry,transaction";
const SOON: &str = "send_ways,batch,selector,large_body,pull,lite_pull,time_offsets,lookup,clustering,broadcasting,tag_filter,orderly";

/// A client of others, with the way it writes headers where it has a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Java4_9_8,
    Java5_4_0,
    Java5_4_0Compact,
    Java4_9_8Late,
    Java5_4_0Late,
    Go2_1_2,
}

impl Client {
    /// What this client saw of the cluster under test; none when its program is missing, which has then been said loudly.
    pub(crate) fn facts(self, not_shown: &str) -> Option<&'static Facts> {
        static RUNS: [OnceLock<Result<Facts, String>>; 6] = [const { OnceLock::new() }; 6];
        let programs = programs_or_skip(&format!("{not_shown} ({self:?})"))?;
        let run = RUNS[self as usize].get_or_init(|| {
            let facts = self.run(programs).map_err(|e| format!("{e:#}"))?;
            // For who looks into a failure, or into what took long.
            let lines = facts
                .all()
                .iter()
                .fold(String::new(), |all, f| all + &f.to_string() + "\n");
            std::fs::write(
                scratch("facts").unwrap().join(format!("{self:?}.jsonl")),
                lines,
            )
            .unwrap();
            Ok(facts)
        });
        Some(
            run.as_ref()
                .unwrap_or_else(|e| panic!("run of {self:?}: {e}")),
        )
    }

    fn run(self, programs: &Programs) -> anyhow::Result<Facts> {
        let ns = format!("ns={}", cluster(programs).namesrv());
        let (class_path, encoding, scenarios) = match self {
            Self::Java4_9_8 => (&programs.client_4_9, "JSON", SOON),
            Self::Java5_4_0 => (&programs.client_5, "JSON", SOON),
            Self::Java5_4_0Compact => (&programs.client_5, "ROCKETMQ", SOON),
            Self::Java4_9_8Late => (&programs.client_4_9, "JSON", LATE),
            Self::Java5_4_0Late => (&programs.client_5, "JSON", LATE),
            Self::Go2_1_2 => {
                return Facts::of(
                    Command::new(&programs.go).args([&ns, "prefix=go"]),
                    "",
                    PATIENCE,
                );
            }
        };
        let mut command = java(
            class_path,
            256,
            &scratch("driver")?,
            &BTreeMap::from([("rocketmq.serialize.type", encoding)]),
        );
        command.args([
            "Driver",
            &ns,
            &format!("prefix={}", self.prefix()),
            &format!("scenarios={scenarios}"),
        ]);
        Facts::of(&mut command, "", PATIENCE)
    }

    /// Names the topics and groups of this client.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Java4_9_8 => "j49",
            Self::Java5_4_0 => "j54",
            Self::Java5_4_0Compact => "j54c",
            Self::Java4_9_8Late => "j49late",
            Self::Java5_4_0Late => "j54late",
            Self::Go2_1_2 => "go",
        }
    }
}
