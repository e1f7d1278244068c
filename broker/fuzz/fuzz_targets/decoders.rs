//! One program for all targets: the environment says which. See `tests/fuzz`.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static ENTRY: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("ROCKET_FUZZ_TARGET").expect("ROCKET_FUZZ_TARGET names a target");
    let mut targets = rocket_protocol::fuzzing::TARGETS
        .iter()
        .chain(rocket_store::fuzzing::TARGETS)
        .chain(rocket_replication::fuzzing::TARGETS)
        .chain(rocket_ha::fuzzing::TARGETS)
        .chain(rocket_link::fuzzing::TARGETS)
        .chain(rocket_broker::config::fuzzing::TARGETS)
        .chain(rocket_broker::metadata::fuzzing::TARGETS);
    targets.find(|(known, _)| *known == name).expect("a target of that name").1
});

fuzz_target!(|data: &[u8]| ENTRY(data));
