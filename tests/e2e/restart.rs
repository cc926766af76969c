//! Kills of the server: no container ends with it, no exit is missed, no acknowledged write is lost.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Test;
use crate::support::host::pids_of_pod;
use crate::support::images::WEB_2;
use crate::support::objects::{config_map, deployment, idle, script, with};
use crate::support::server::combo;
use crate::support::{Kubectl, Options, Server, Space, eventually};

pub(crate) const TESTS: &[Test] = &[
    ("a_killed_server_takes_no_container_with_it", kill),
    ("an_exit_while_no_server_runs_is_told_truly", exit_meanwhile),
    ("a_roll_out_goes_on_after_a_kill", kill_during_roll_out),
    (
        "no_acknowledged_write_is_lost_over_random_kills",
        random_kills,
    ),
    ("sigterm_stops_cleanly_and_pods_stay", stop),
    (
        "killall_leaves_nothing_and_refuses_while_the_server_runs",
        killall,
    ),
];

/// How many kills `no_acknowledged_write_is_lost_over_random_kills` makes.
const KILLS: &str = "COMBO_E2E_KILLS";
const KILLS_DEFAULT: u32 = 10;
/// The longest that a server lives before a random kill.
const LIFE_MAX: Duration = Duration::from_millis(700);

fn uid(pod: &Value) -> &str {
    pod["metadata"]["uid"].as_str().unwrap()
}

/// The processes of each pod of an app, by the pod's uid.
fn pids(kubectl: &Kubectl, app: &str) -> BTreeMap<String, Vec<i32>> {
    let pods = kubectl.list("pods", &format!("app={app}"));
    pods.iter()
        .map(|pod| (uid(pod).to_owned(), pids_of_pod(uid(pod))))
        .collect()
}

fn kill() {
    let server = Server::start("killed", &Options::default());
    let space = Space::on(&server, "killed");
    space.kubectl.create(&deployment("web", 3));
    space
        .kubectl
        .ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let before = pids(&space.kubectl, "web");
    assert!(
        before.len() == 3 && before.values().all(|pids| !pids.is_empty()),
        "{before:?}"
    );
    for _kill in 0..2 {
        server.kill();
        for (uid, pids) in &before {
            assert_eq!(&pids_of_pod(uid), pids, "while no server runs");
        }
        server.run();
        server.wait_ready();
    }
    // The node has seen its pods again when it can be asked for a log.
    let pods = space.kubectl.list("pods", "app=web");
    for pod in &pods {
        let name = pod["metadata"]["name"].as_str().unwrap();
        eventually("the log after a restart", || {
            let log = space.kubectl.run(&["logs", name]);
            String::from_utf8_lossy(&log.stdout)
                .contains("listens on port")
                .then_some(())
        });
        let pod = space.kubectl.wait_ready(name);
        assert_eq!(
            pod["status"]["containerStatuses"][0]["restartCount"], 0,
            "{}",
            pod["status"]
        );
    }
    assert_eq!(pids(&space.kubectl, "web"), before);
    drop(space);
    server.tear_down();
}

fn exit_meanwhile() {
    let server = Server::start("meanwhile", &Options::default());
    let space = Space::on(&server, "meanwhile");
    let gate = crate::support::server::work_dir().join("gate");
    std::fs::create_dir_all(&gate).unwrap();
    let waits = script(
        "ending",
        "until test -e /gate/open; do sleep 0.05; done; echo bye; exit 42",
    );
    let volumes = json!({"spec": {"volumes": [{"name": "gate", "hostPath": {"path": gate}}]}});
    let mount = json!({"volumeMounts": [{"name": "gate", "mountPath": "/gate"}]});
    let pod = space
        .kubectl
        .start_pod(&crate::support::objects::with_container(
            with(waits, &volumes),
            &mount,
        ));
    server.kill();
    std::fs::write(gate.join("open"), "").unwrap();
    eventually("the container's end", || {
        pids_of_pod(uid(&pod)).is_empty().then_some(())
    });
    server.run();
    server.wait_ready();
    let pod = space.kubectl.until("pod", "ending", "failed", |pod| {
        pod["status"]["phase"] == "Failed"
    });
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&ended["exitCode"], &ended["reason"]),
        (&json!(42), &json!("Error")),
        "{}",
        pod["status"]
    );
    assert_eq!(space.kubectl.logs("ending"), "bye\n");
    drop(space);
    server.tear_down();
}

fn kill_during_roll_out() {
    let server = Server::start("rolling", &Options::default());
    let space = Space::on(&server, "rolling");
    space.kubectl.create(&deployment("web", 3));
    space
        .kubectl
        .ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    space
        .kubectl
        .ok(&["set", "image", "deployment/web", &format!("main={WEB_2}")]);
    server.kill();
    server.run();
    server.wait_ready();
    space
        .kubectl
        .ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    eventually("three pods of the new image and no other", || {
        let pods = space.kubectl.list("pods", "app=web");
        let is_new = |pod: &Value| pod["spec"]["containers"][0]["image"] == WEB_2;
        (pods.len() == 3 && pods.iter().all(is_new)).then_some(())
    });
    drop(space);
    server.tear_down();
}

/// A number that nobody can foresee, below a limit.
fn random_below(limit: u64) -> u64 {
    RandomState::new().hash_one(0) % limit
}

fn random_kills() {
    let kills = std::env::var(KILLS)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(KILLS_DEFAULT);
    let server = Server::start("random-kills", &Options::control_plane_only());
    let stop = AtomicBool::new(false);
    let acknowledged = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                scope.spawn({
                    let (server, stop) = (&server, &stop);
                    move || write(server, writer, stop)
                })
            })
            .collect();
        for _kill in 0..kills {
            let life =
                Duration::from_millis(random_below(u64::try_from(LIFE_MAX.as_millis()).unwrap()));
            std::thread::sleep(life);
            server.kill();
            server.run();
            server.wait_api();
        }
        stop.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        for writer in writers {
            all.extend(writer.join().unwrap());
        }
        all
    });
    assert!(
        acknowledged.len() > usize::try_from(kills).unwrap(),
        "hardly anything was written: {acknowledged:?}"
    );
    let found = server
        .http()
        .get("/api/v1/namespaces/default/configmaps")
        .unwrap()
        .json();
    let found: BTreeMap<&str, u64> = found["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| {
            Some((
                item["metadata"]["name"].as_str()?,
                item["data"]["count"].as_str()?.parse().ok()?,
            ))
        })
        .collect();
    for (name, count) in &acknowledged {
        // A write whose answer was cut off may be there too: it is the next one.
        let kept = found
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name} is lost of {}", acknowledged.len()));
        assert!(
            kept == count || *kept == count + 1,
            "{name}: {kept} is kept of {count}"
        );
    }
    eprintln!("{} objects kept over {kills} kills", acknowledged.len());
    server.tear_down();
}

/// Creates objects and counts each of them up, and remembers what the server acknowledged.
fn write(server: &Server, writer: u32, stop: &AtomicBool) -> BTreeMap<String, u64> {
    const UPDATES: u64 = 3;
    let http = server.http();
    let all = "/api/v1/namespaces/default/configmaps";
    let mut acknowledged = BTreeMap::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("write-{writer}-{number}");
        let object = |count: u64| config_map(&name, "count", &count.to_string()).to_string();
        let created = http.send("POST", all, "application/json", object(0).as_bytes());
        if !created.is_ok_and(|answer| answer.status == 201) {
            continue;
        }
        acknowledged.insert(name.clone(), 0);
        for count in 1..=UPDATES {
            let updated = http.send(
                "PUT",
                &format!("{all}/{name}"),
                "application/json",
                object(count).as_bytes(),
            );
            if !updated.is_ok_and(|answer| answer.status == 200) {
                break;
            }
            acknowledged.insert(name.clone(), count);
        }
    }
    acknowledged
}

fn stop() {
    let server = Server::start("stopped", &Options::default());
    let space = Space::on(&server, "stopped");
    let pod = space.kubectl.start_pod(&idle("stays"));
    let before = pids_of_pod(uid(&pod));
    let status = server.stop();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert_eq!(pids_of_pod(uid(&pod)), before);
    server.run();
    server.wait_ready();
    assert_eq!(pids_of_pod(uid(&pod)), before);
    drop(space);
    server.tear_down();
}

fn killall() {
    let server = Server::start("cleaned", &Options::default());
    let space = Space::on(&server, "cleaned");
    let pod = with(
        idle("memory"),
        &json!({"spec": {"restartPolicy": "Always", "volumes": [{"name": "m", "emptyDir": {"medium": "Memory"}}]}}),
    );
    let mount = json!({"volumeMounts": [{"name": "m", "mountPath": "/m"}]});
    space
        .kubectl
        .start_pod(&crate::support::objects::with_container(pod, &mount));
    let refused = std::process::Command::new(combo())
        .args(["killall", "-d"])
        .arg(&server.data_dir)
        .output()
        .unwrap();
    assert!(!refused.status.success());
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("stop the server first"),
        "{refused:?}"
    );
    let traces = server.traces();
    assert!(
        !traces.links.is_empty() && !traces.routes.is_empty() && !traces.tables.is_empty(),
        "{traces:?}"
    );
    assert!(
        !traces.cgroups.is_empty() && traces.mounts.len() > 2 && traces.processes.len() > 2,
        "{traces:?}"
    );
    // Also of a server that could not tidy up itself.
    server.kill();
    server.clean_up();
    let left = server.traces();
    assert!(left.is_empty(), "{left:?}");
    assert!(
        Path::new(&server.data_dir).join("server/db").exists(),
        "data stay"
    );
    // And it can start again: the pod is run anew.
    server.run();
    server.wait_ready();
    eventually("the pod runs again", || {
        (!pids_of_pod(uid(&space.kubectl.get("pod", "memory"))).is_empty()).then_some(())
    });
    drop(space);
    server.tear_down();
}
