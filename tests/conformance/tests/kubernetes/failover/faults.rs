//! What befalls a group: each fault is one command of the test cluster or of kubectl, and one that lasts is mended when its test
//! ends, however that ends.

use std::process::Command;

use serde_json::Value;

use crate::kubernetes::alone::leader;
use crate::kubernetes::objects::text;
use crate::kubernetes::space::{Space, program, run};

/// The test cluster and its operator.
pub(super) struct Site {
    cluster: String,
    operator: Space,
}

/// A fault that lasts until it is mended.
pub(super) struct Lasting<'a> {
    mend: Option<Box<dyn FnOnce() -> Result<String, String> + 'a>>,
}

impl<'a> Lasting<'a> {
    fn until(mend: impl FnOnce() -> Result<String, String> + 'a) -> Self {
        Self {
            mend: Some(Box::new(mend)),
        }
    }

    #[track_caller]
    pub(super) fn mend(mut self) {
        if let Some(mend) = self.mend.take()
            && let Err(error) = mend()
        {
            panic!("{error}");
        }
    }
}

impl Drop for Lasting<'_> {
    fn drop(&mut self) {
        if let Some(mend) = self.mend.take() {
            let _ = mend();
        }
    }
}

impl Site {
    /// The way to nodes and cables, or none after a loud skip.
    pub(super) fn new(shows: &str) -> Option<Self> {
        Some(Self {
            cluster: program("CLUSTER_CTL", shows)?,
            operator: Space::operator(shows)?,
        })
    }

    fn ask(&self, args: &[&str]) -> Result<String, String> {
        let said = run(Command::new(&self.cluster).args(args), "");
        said.map_err(|error| format!("cluster {}: {error}", args.join(" ")))
    }

    #[track_caller]
    fn cluster(&self, args: &[&str]) {
        if let Err(error) = self.ask(args) {
            panic!("{error}");
        }
    }

    /// Makes each node a zone of its own, so that replicas can be asked to stand apart.
    pub(super) fn make_zones(&self) {
        for node in ["n1", "n2", "n3"] {
            let zone = format!("topology.kubernetes.io/zone={node}");
            self.operator
                .kubectl(&["label", "node", node, &zone, "--overwrite"]);
        }
    }

    fn signal_container(&self, pod: &Value, signal: &str) -> Result<String, String> {
        let id = text(pod, "/status/containerStatuses/0/containerID");
        let id = id.strip_prefix("containerd://").unwrap_or(id);
        let kill = ["ctr", "-n", "k8s.io", "tasks", "kill", "--signal", signal];
        let node = node_of(pod);
        let args = [&["inside", node.as_str()][..], &kill[..], &[id][..]];
        self.ask(&args.concat())
    }

    /// The process of a pod ends at once.
    #[track_caller]
    pub(super) fn kill(&self, pod: &Value) {
        if let Err(error) = self.signal_container(pod, "SIGKILL") {
            panic!("{error}");
        }
    }

    /// The pod of the operator that leads.
    pub(super) fn leading_operator(&self) -> Value {
        self.operator.get("pod", &leader(&self.operator))
    }

    /// The process of a pod stands still.
    #[track_caller]
    pub(super) fn freeze(&self, space: &Space, pod: &str) -> Lasting<'_> {
        let pod = space.get("pod", pod);
        if let Err(error) = self.signal_container(&pod, "SIGSTOP") {
            panic!("{error}");
        }
        Lasting::until(move || self.signal_container(&pod, "SIGCONT"))
    }

    /// All processes of a node are gone at once, and its network with them.
    #[track_caller]
    pub(super) fn power_off(&self, node: &str) -> Lasting<'_> {
        self.lasting("power-off", "power-on", node)
    }

    /// A node is alone; its processes go on.
    #[track_caller]
    pub(super) fn cut(&self, node: &str) -> Lasting<'_> {
        self.lasting("cut", "heal", node)
    }

    #[track_caller]
    fn lasting(&self, begin: &str, end: &'static str, node: &str) -> Lasting<'_> {
        self.cluster(&[begin, node]);
        let node = node.to_owned();
        Lasting::until(move || self.ask(&[end, &node]))
    }

    /// Nobody answers at the API server.
    #[track_caller]
    pub(super) fn api_off(&self) -> Lasting<'_> {
        self.cluster(&["api-off"]);
        Lasting::until(move || self.ask(&["api-on"]))
    }

    /// Everything that may be moved leaves a node, in order, and nothing comes to it.
    #[track_caller]
    pub(super) fn drain(&self, node: &str) -> Lasting<'_> {
        let name = format!("n{node}");
        let kubectl = &self.operator;
        let node = name.clone();
        let cordoned = Lasting::until(move || kubectl.ask(&["uncordon", &node], ""));
        let drain = [
            "drain",
            &name,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--timeout=140s",
        ];
        kubectl.kubectl(&drain);
        cordoned
    }
}

/// Number of the node that a pod is on: the test cluster's nodes are n1, n2, n3.
pub(super) fn node_of(pod: &Value) -> String {
    let name = text(pod, "/spec/nodeName");
    name.strip_prefix('n').unwrap_or(name).to_owned()
}
