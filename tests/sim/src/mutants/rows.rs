//! The rows of the table, and the counting.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, bail};
use rocket_replication::mutations::{Mutant, Mutations};

use super::{Wanted, insert};
use crate::campaign::Campaign;
use crate::plan::{Column, Fault, Plan, Weather, Weight};

/// How a rule is broken.
#[derive(Debug, Clone, Copy)]
enum Break {
    /// Switches of the protocol.
    Rules(&'static [Mutant]),
    /// One of the store's, by name, with some of the protocol's.
    Store(&'static str, &'static [Mutant]),
    /// There is no switch.
    None,
}

struct Row {
    name: &'static str,
    what: &'static str,
    how: Break,
    columns: &'static [Column],
    /// Kinds of faults that every schedule of the row has.
    faults: &'static [Fault],
    /// `model::mutants_are_caught` asserts that the walks over the model notice it.
    in_model: bool,
    /// What else there is to say.
    note: &'static str,
}

use Break::{None as NoSwitch, Rules, Store};
use Column::{A, B, C, C1, D};
use Mutant::{
    M1, M2, M3, M4, M5, M6, M7, M8, M9, M10, M11, M12, M14, M15, M16, M17, M18, M19, M24, M25, M26,
    M27, M28, M29, M30, M31, M32, M33, M34, M35, M36, M37, M38, M39, M40, M41, M42, M43, M44, M45,
    M46, M47, M48, M49,
};

const ALL: &[Column] = &[A, B, C1, C, D];
const SYNC: &[Column] = &[C1, C, D];

const fn row(
    name: &'static str,
    what: &'static str,
    how: Break,
    columns: &'static [Column],
    in_model: bool,
) -> Row {
    Row {
        name,
        what,
        how,
        columns,
        faults: &[],
        in_model,
        note: "",
    }
}

impl Row {
    const fn with(mut self, faults: &'static [Fault]) -> Self {
        self.faults = faults;
        self
    }

    const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }
}

fn rows() -> Vec<Row> {
    let unit = "`commit::tests` of rocket-replication";
    vec![
        row("M1 + M7", "acknowledgements count by replica id", Rules(&[M1, M7]), &[C], true).with(&[Fault::Power]),
        row("M2", "a restarted master keeps its epoch", Rules(&[M2]), ALL, true).with(&[Fault::Kill]),
        row("M3", "a shrink relieves when sent", Rules(&[M3]), SYNC, true).with(&[Fault::StrangeWrite]),
        row("M4", "a grow binds when applied", Rules(&[M4]), SYNC, true).with(&[Fault::StrangeWrite]),
        row("M5", "`Conflict` taken as not applied", Rules(&[M5]), SYNC, true).with(&[Fault::StrangeWrite]),
        row("M6", "an open write is given up", Rules(&[M6]), SYNC, true)
            .with(&[Fault::StrangeWrite])
            .note("nearly always the master's next write comes before the one that was given up, and kills it"),
        row("M7", "an unclean replica stays in S", Rules(&[M7]), &[C1, C], true).with(&[Fault::Power]),
        row("M8", "E kept when |S| ≥ m", Rules(&[M8]), &[C, D], true),
        row("M9", "E not emptied when m goes down", Rules(&[M9]), &[C, D], true).with(&[Fault::ChangeM]),
        row("M10", "acknowledged before the flush", Rules(&[M10]), &[D], true),
        row("M11", "the epoch's entry after its bytes", Rules(&[M11]), SYNC, true).with(&[Fault::MidStep]),
        row("M12", "`Data` crosses epochs", Rules(&[M12]), SYNC, true),
        row("M13", "a cut leaves old bytes", Store("cut-not-zeroed", &[]), SYNC, false)
            .note("`replica_tests::model` of rocket-store"),
        row("M14", "the intent of a cut is not written", Rules(&[M14]), SYNC, false)
            .with(&[Fault::MidStep])
            .note("masked here: the store has an intent of its own, and a list that names too much is mended at the next handshake"),
        row("M14, the store's", "the intent of a cut is not written", Store("cut-without-intent", &[]), SYNC, false)
            .with(&[Fault::MidStep])
            .note("`replica_tests::steps` of rocket-store"),
        row("M15", "a cut below confirm is allowed", Rules(&[M15]), SYNC, false)
            .note("masked while everything else holds"),
        row("M15 + M7", "with one that loses committed bytes", Rules(&[M15, M7]), &[C1, C], false).with(&[Fault::Power]),
        row("M16", "a fresh link counts as caught up", Rules(&[M16]), SYNC, true),
        row("M17", "a member without a link is skipped", Rules(&[M17]), SYNC, true),
        row("M18", "consumers read to the log's end", Rules(&[M18]), ALL, false),
        row("M19", "no barrier", Rules(&[M19]), SYNC, true),
        row("M20", "queue offsets from visible entries", Store("offsets-of-visible", &[]), SYNC, false)
            .note("masked by the barrier: writes open when everything below is committed, and so visible"),
        row("M21", "consumer offsets not lowered by a cut", NoSwitch, SYNC, false)
            .note("no switch: offsets are records of the log; `metadata::tests::keeping` of rocket-broker"),
        row("M22", "a flush is tried again", Store("flush-retried", &[]), &[B, D], false).with(&[Fault::DiskError, Fault::Power]),
        row("M23", "damage below the floor is forgotten by a start", Store("damage-forgotten", &[]), SYNC, false)
            .with(&[Fault::Rot])
            .note("`damage` of rocket-store"),
        row("M24", "identity by address", Rules(&[M24]), SYNC, false).with(&[Fault::LostDisk]),
        row("M25", "a stale watch is obeyed", Rules(&[M25]), SYNC, true).with(&[Fault::StrangeWrite]),
        row("M26", "the elector goes by replica, not by run", Rules(&[M26]), SYNC, false).with(&[Fault::Kill]),
        row("M27", "elected from outside S ∪ E", Rules(&[M27]), SYNC, true).with(&[Fault::Kill]),
        row("M28", "an object that went back is accepted", Rules(&[M28]), SYNC, false).with(&[Fault::Forgetting]),
        row("M29", "`clean` is not removed", Rules(&[M29]), &[C1, C], false)
            .with(&[Fault::Stop, Fault::Power])
            .note("masked by the run that the mark names"),
        row("M29 + M37", "and its run is not compared", Rules(&[M29, M37]), &[C1, C], false).with(&[Fault::Stop, Fault::Power]),
        row("M30", "an acknowledgement beyond what was sent", Rules(&[M30]), SYNC, false)
            .note("nothing here sends one; its unit test: `commit::tests` of rocket-replication"),
        row("M31", "electors write without a compare", Rules(&[M31]), SYNC, false),
        row("M32", "the old link still counts", Rules(&[M32]), SYNC, false)
            .with(&[Fault::LinkCut])
            .note(unit),
        row("M32 + M1 + M7", "and by replica id", Rules(&[M32, M1, M7]), &[C], false).with(&[Fault::Power]),
        row("M33", "activation without its own write", Rules(&[M33]), SYNC, true),
        row("M34", "unanswered sends told as failed", Rules(&[M34]), SYNC, false),
        row("M35", "durable with unflushed bytes", Rules(&[M35]), &[D], true)
            .with(&[Fault::FlushMode, Fault::Power])
            .note("not seen here, but by the walks over the model"),
        row("M36", "a learner grows before the start", Rules(&[M36]), SYNC, true),
        row("M37", "proof of a run that never registered", Rules(&[M37]), &[C1, C], true).with(&[Fault::Stop, Fault::Power, Fault::Unreachable]),
        row("M38", "`Data` ends within a record", Rules(&[M38]), SYNC, true)
            .note("its switch is in the model's world; stores hand out whole records"),
        row("M39", "flush `SYNC` in force before all are durable", Rules(&[M39]), ALL, true).with(&[Fault::ChangeModes]),
        row("M40", "unflushed acknowledgements before the flag is off", Rules(&[M40]), ALL, true).with(&[Fault::ChangeModes]),
        row("M41", "weaker modes bind when sent", Rules(&[M41]), ALL, true).with(&[Fault::ChangeModes, Fault::StrangeWrite]),
        row("M42", "committed counts as flushed everywhere", Rules(&[M42]), ALL, false)
            .with(&[Fault::ChangeModes, Fault::Power])
            .note("masked by M45's rule: whoever joins has flushed what was promised"),
        row("M42 + M45", "and by who joined unflushed", Rules(&[M42, M45]), ALL, true).with(&[Fault::ChangeModes, Fault::Power]),
        row("M45", "a replica joins by unflushed bytes", Rules(&[M45]), ALL, false).with(&[Fault::ChangeModes, Fault::LostDisk]),
        row("M43", "a damaged replica acknowledges", Rules(&[M43]), SYNC, false).with(&[Fault::Rot]),
        row("M44", "electors do not hear of damage", Rules(&[M44]), &[C1, C], false).with(&[Fault::Rot, Fault::Power]),
        row("M46", "a repair is given bytes of another epoch", Rules(&[M46]), ALL, false)
            .with(&[Fault::Rot])
            .note("masked by what is known of the bytes where the damage is; `repair::tests` of rocket-replication"),
        row("M46, and unchecked", "and they are not compared with what was there", Store("repair-unchecked", &[M46]), ALL, false)
            .with(&[Fault::Rot])
            .note("`repairing` of rocket-store"),
        row("M47", "a residence proof counts although it is busy", Rules(&[M47]), &[C1, C], false)
            .with(&[Fault::DiskError, Fault::MidStep])
            .note("flushes of the light log take no time; `residence::tests` of rocket-ha"),
        row("M48", "a residence proof outlives a failed flush", Rules(&[M48]), &[C1, C], false)
            .with(&[Fault::DiskError])
            .note("a failed flush of the light log takes nothing; `residence::tests` of rocket-ha"),
        row("M49", "a residence proof of another boot counts", Rules(&[M49]), &[C1, C], false).with(&[Fault::Power]),
        row("M52", "a snapshot without ends of queues", Store("ends-untold", &[]), SYNC, false)
            .with(&[Fault::Expiry, Fault::LostDisk])
            .note("`replica_tests::reaching` of rocket-store"),
    ]
}

/// What breaking a rule came to.
struct Count {
    caught: u64,
    of: u64,
    first: Option<String>,
}

pub(super) fn named(names: &[String]) -> anyhow::Result<Mutations> {
    let all = [
        M1, M2, M3, M4, M5, M6, M7, M8, M9, M10, M11, M12, M14, M15, M16, M17, M18, M19, M24, M25,
        M26, M27, M28, M29, M30, M31, M32, M33, M34, M35, M36, M37, M38, M39, M40, M41, M42, M43,
        M44, M45, M46, M47, M48, M49,
    ];
    let mut mutations = Mutations::default();
    for name in names {
        let found = all.into_iter().find(|m| format!("{m:?}") == *name);
        mutations = mutations.with(found.with_context(|| format!("no rule is called {name}"))?);
    }
    Ok(mutations)
}

fn campaign(row: &Row, wanted: &Wanted, weight: Weight) -> Campaign {
    Campaign {
        first: 0,
        schedules: wanted.schedules,
        columns: row.columns.to_vec(),
        weight,
        jobs: wanted.jobs,
    }
}

fn count(row: &Row, wanted: &Wanted, weight: Weight, rules: &[Mutant]) -> Count {
    let mutations = rules
        .iter()
        .fold(Mutations::default(), |all, m| all.with(*m));
    let change = |plan: &mut Plan| {
        plan.mutations = mutations;
        plan.weather = row
            .faults
            .iter()
            .fold(plan.weather, |w: Weather, f| w.with(*f));
    };
    let mut count = Count {
        caught: 0,
        of: 0,
        first: None,
    };
    campaign(row, wanted, weight).run(change, |verdict| {
        count.of += 1;
        if let Some(what) = verdict.broken {
            count.caught += 1;
            count.first.get_or_insert(what);
        }
        true
    });
    count
}

/// In a process of its own: the store's switches are for a whole process.
fn count_in_child(row: &Row, wanted: &Wanted) -> anyhow::Result<Count> {
    let schedules = wanted.schedules.to_string();
    let jobs = wanted.jobs.to_string();
    let output = Command::new(std::env::current_exe()?)
        .args(["mutants", "--count", row.name])
        .args(["--schedules", &schedules, "--jobs", &jobs])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut lines = text.lines();
    let mut number = || -> anyhow::Result<u64> {
        let line = lines.next().context("a count that was not printed")?;
        Ok(line.parse()?)
    };
    let (caught, of) = (number()?, number()?);
    Ok(Count {
        caught,
        of,
        first: lines.next().map(str::to_owned),
    })
}

/// Counts a row of the store's and prints that. For the parent.
fn count_here(row: &Row, wanted: &Wanted) -> anyhow::Result<String> {
    let Store(name, rules) = row.how else {
        bail!("{} is not one of the store's", row.name);
    };
    rocket_store::choose_mutant(name).map_err(anyhow::Error::msg)?;
    let count = count(row, wanted, Weight::Heavy, rules);
    let first = count.first.unwrap_or_default();
    let first = first.lines().next().unwrap_or_default();
    Ok(format!("{}\n{}\n{first}", count.caught, count.of))
}

#[expect(clippy::print_stdout, reason = "the answer of a command")]
pub(super) fn table(wanted: &Wanted) -> anyhow::Result<()> {
    // A panic breaks a schedule and is counted with it.
    std::panic::set_hook(Box::new(|_| {}));
    let rows = rows();
    if let Some(name) = &wanted.count {
        let row = rows.iter().find(|row| row.name == name);
        println!("{}", count_here(row.context("no such row")?, wanted)?);
        return Ok(());
    }
    let mut table = String::from(
        "\n| mutant | broken rule | simulation notices it in | first seen as | model |\n|---|---|---|---|---|\n",
    );
    let is_wanted = |row: &&Row| {
        let only = wanted.only.as_ref();
        only.is_none_or(|only| row.name.split([' ', ',']).any(|name| name == only))
    };
    for row in rows.iter().filter(is_wanted) {
        let count = match row.how {
            Rules(rules) => Some(count(row, wanted, Weight::Light, rules)),
            Store(..) => Some(count_in_child(row, wanted)?),
            NoSwitch => None,
        };
        let line = line_of(row, count.as_ref());
        println!("{}", line.trim_end());
        table.push_str(&line);
    }
    if let Some(path) = &wanted.write {
        let page = std::fs::read_to_string(path)?;
        std::fs::write(path, insert(&page, &format!("{table}\n"))?)?;
    }
    Ok(())
}

fn line_of(row: &Row, count: Option<&Count>) -> String {
    let (noticed, first) = match count {
        None => ("–".to_owned(), String::new()),
        Some(count) if count.caught == 0 => (format!("**none** of {}", count.of), String::new()),
        Some(count) => {
            let first = count.first.clone().unwrap_or_default();
            let first: String = first.chars().take(90).collect();
            (
                format!("{} of {}", count.caught, count.of),
                first.replace('|', "/").replace('\n', " "),
            )
        }
    };
    let model = if row.in_model { "yes" } else { "" };
    let seen = match (first.is_empty(), row.note.is_empty()) {
        (true, _) => row.note.to_owned(),
        (false, true) => first,
        (false, false) => format!("{first} ({})", row.note),
    };
    let mut line = String::new();
    // Writing to a String cannot fail.
    let _infallible = writeln!(
        line,
        "| {} | {} | {noticed} | {seen} | {model} |",
        row.name, row.what
    );
    line
}
