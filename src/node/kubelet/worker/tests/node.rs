//! The Node object.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_node_registers_with_labels_addresses_and_a_lease_and_keeps_foreign_capacity() {
    let world = World::new();
    let nodes = GroupVersionResource::new("", "v1", "nodes");
    let leases = GroupVersionResource::new("coordination.k8s.io", "v1", "leases");
    let ready = |api: &FakeApi| {
        api.object(&nodes, &ObjectKey::cluster("n"))
            .is_some_and(|node| node.text_at(&["status", "capacity", "cpu"]) == "4")
    };
    world.api.until(ready).await;
    world
        .api
        .until(|api| {
            api.object(&leases, &ObjectKey::namespaced("kube-node-lease", "n"))
                .is_some()
        })
        .await;
    let node = world.api.object(&nodes, &ObjectKey::cluster("n")).unwrap();
    assert_eq!(node.label("kubernetes.io/hostname"), Some("n"));
    assert_eq!(
        node.at(&["status", "addresses"]).unwrap()[0],
        json!({"type": "InternalIP", "address": "192.168.0.1"})
    );
    let foreign = Patch::Merge(json!({"status": {"capacity": {"example.com/foo": "3"}}}));
    world
        .api
        .client()
        .api::<k8s_openapi::api::core::v1::Node>("")
        .patch_status("n", &foreign)
        .await
        .unwrap();
    env::sleep(Duration::from_secs(700)).await;
    let node = world.api.object(&nodes, &ObjectKey::cluster("n")).unwrap();
    assert_eq!(
        node.text_at(&["status", "capacity", "example.com/foo"]),
        "3"
    );
    let lease = world
        .api
        .object(&leases, &ObjectKey::namespaced("kube-node-lease", "n"))
        .unwrap();
    assert!(
        lease
            .text_at(&["spec", "renewTime"])
            .starts_with("2027-01-15T08:11:")
    );
}
