//! Brokers of two builds in one group: a rolling update from a former build to this one and back, under load. What one of them wrote the
//! other one reads, copies and leads on with. `tests/conformance/on-cluster --upgrade-from REV` builds the former one.

use serde_json::{Value, json};

use super::column::Column;
use super::stage::{CLUSTER, Mastership, Stage, rounds};
use crate::kubernetes::objects::text;
use crate::kubernetes::space::program;

impl Stage {
    /// Lets every broker run an image, one after the other.
    #[track_caller]
    fn roll_to(&self, image: &str) {
        self.space.edit(CLUSTER, &json!({"image": image}));
        self.whole();
        for pod in self.pods() {
            let pod: Value = self.space.get("pod", &pod);
            assert_eq!(text(&pod, "/spec/containers/0/image"), image, "{pod}");
        }
    }
}

#[test]
fn a_rolling_update_between_two_builds_loses_nothing() {
    let shows = "rolling update from a former build of the broker to this one and back";
    let (Some(former), Some(present)) = (
        program("ROCKET_FORMER_BROKER_IMAGE", shows),
        program("ROCKET_BROKER_IMAGE", shows),
    ) else {
        return;
    };
    let begun = json!({"image": former});
    let Some(mut stage) = Stage::with("built", shows, Column::chosen(), &begun) else {
        return;
    };
    for round in rounds() {
        stage.round(round, Mastership::Changes, |stage, _, load| {
            stage.roll_to(&present);
            load.goes_on();
            stage.roll_to(&former);
            load.goes_on();
            Vec::new()
        });
    }
}
