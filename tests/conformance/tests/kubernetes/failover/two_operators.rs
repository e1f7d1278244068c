//! Two operators that both lead: no lease stands between them, and messages do not depend on one (docs/replication.md P6).

use std::process::Command;

use serde_json::{Value, json};

use super::column::Fault;
use super::load::Load;
use super::stage::{CLUSTER, Lead, Mastership, Stage, rounds};
use crate::kubernetes::alone::leader;
use crate::kubernetes::objects::{pod_is_ready, text};
use crate::kubernetes::space::{Space, program, run};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/rocket-operator");
const RELEASE: &str = "second";
const NAMESPACE: &str = "rocket-second";

/// A second release of the chart, in a namespace of its own; its operator asks nobody before it acts.
struct Second {
    helm: String,
    space: Space,
}

impl Second {
    /// None after a loud skip.
    fn install(shows: &str) -> Option<Self> {
        let second = Self {
            helm: program("HELM", shows)?,
            space: Space::lasting(NAMESPACE, shows)?,
        };
        let install = [
            "upgrade",
            "--install",
            RELEASE,
            CHART,
            "--namespace",
            NAMESPACE,
            "--create-namespace",
            "--wait",
            "--timeout",
            "120s",
            // The kinds belong to the first release.
            "--set",
            "crds.create=false",
            "--set",
            "replicas=1",
            "--set",
            "leaderElection.enabled=false",
        ];
        run(Command::new(&second.helm).args(install), "")
            .unwrap_or_else(|error| panic!("helm upgrade --install: {error}"));
        Some(second)
    }

    fn pod(&self) -> String {
        let pods = self.space.list("pods");
        let mut ready = pods.iter().filter(|pod| pod_is_ready(pod));
        text(ready.next().unwrap(), "/metadata/name").to_owned()
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let uninstall = ["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"];
        let _ = run(Command::new(&self.helm).args(uninstall), "");
        let delete = ["delete", "namespace", NAMESPACE, "--wait=false"];
        let _ = self.space.ask(&delete, "");
    }
}

/// Whether an operator says that it leads.
fn leads(space: &Space, pod: &str) -> bool {
    let path = format!(
        "/api/v1/namespaces/{}/pods/{pod}:8080/proxy/metrics",
        space.name
    );
    let page = space.kubectl(&["get", "--raw", &path]);
    page.lines().any(|line| line == "rocket_operator_leader 1")
}

#[test]
fn two_operators_that_both_lead_lose_nothing() {
    let shows =
        "two operators that both lead: container of the master killed, then every pod replaced";
    let (Some(first), Some(mut stage)) = (Space::operator(shows), Stage::new("two", shows)) else {
        return;
    };
    let Some(second) = Second::install(shows) else {
        return;
    };
    assert!(leads(&first, &leader(&first)));
    assert!(leads(&second.space, &second.pod()));
    for round in rounds() {
        let befallen = |stage: &Stage, master: &Lead, load: &Load| {
            stage.site.kill(&stage.space.get("pod", &master.pod));
            stage.elected_after(master);
            load.goes_on();
            stage.whole();
            let edit: Value = json!({"retention": {"hours": 48 + round}});
            stage.space.edit(CLUSTER, &edit);
            stage.whole();
            // Whatever each of them thought: they agree, and elect no further.
            let lead = stage.lead();
            load.goes_on();
            assert_eq!(stage.lead(), lead);
            Vec::new()
        };
        stage.round_of(Fault::Killed, round, Mastership::Changes, befallen);
    }
}
