//! Pods: their role labels follow the record, and those of an older specification are replaced.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use rocket_api::Reason;

use super::{Apply, Error, only};
use crate::roles;
use crate::roll::{self, Step};

impl Apply<'_> {
    /// Lets the role labels follow the record: first nobody is master wrongly, then the master is.
    pub(super) async fn roles(&mut self) -> Result<(), Error> {
        let names = &self.cluster.names;
        let changes = roles::of_groups(self.cluster.spec.groups.count, names, self.observed);
        let api: Api<Pod> = Api::namespaced(self.client(), &names.namespace);
        for change in changes {
            let result = roles::write(&api, &change).await;
            self.gone_is_fine("label", &change.pod, result)?;
        }
        Ok(())
    }

    /// Replaces pods that run an older specification, as far as that may be done now.
    pub(super) async fn restarts(&mut self) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.client(), &self.cluster.names.namespace);
        for step in roll::next(self.cluster, self.observed) {
            let restart = match step {
                Step::Restart(restart) => restart,
                Step::HandOver { index, to } => {
                    self.hand_over(index, to);
                    continue;
                }
            };
            let result = api.delete(&restart.pod, &only(restart.uid)).await;
            self.gone_is_fine("restart", &restart.pod, result)?;
            self.tell(
                ("Pod", &restart.pod),
                Reason::RollingOut,
                "Restart",
                format!("restarting {} with the present specification", restart.pod),
            );
        }
        Ok(())
    }
}
