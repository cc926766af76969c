//! What controllers make of workloads, seen by a client.

use crate::Test;
use crate::support::Space;
use crate::support::images::WEB;

pub(crate) const TESTS: &[Test] = &[("a_deployment_of_three_runs", deployment)];

fn deployment() {
    let space = Space::new("deployment");
    space.kubectl.ok(&["create", "deployment", "web", "--image", WEB, "--replicas=3"]);
    space.kubectl.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
}
