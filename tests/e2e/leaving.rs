//! A cluster's objects leave for k3s or another etcd, and come back.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::Test;
use crate::support::objects::config_map;
use crate::support::server::{combo, work_dir};
use crate::support::{Options, Server, Space};

pub(crate) const TESTS: &[Test] = &[(
    "objects_leave_in_k3s_form_and_come_back_from_there_and_from_an_etcd",
    leaving,
)];

fn run(words: &[&str]) -> Result<String, String> {
    let done = Command::new(combo()).args(words).output();
    let done = done.expect("combo runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() {
        Ok(text(&done.stdout))
    } else {
        Err(text(&done.stderr))
    }
}

fn leaving() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut options = Options::control_plane_only();
    let listen = format!("--etcd-listen={port}");
    options.flags.push(Box::leak(listen.into_boxed_str()));
    let server = Server::start("leaving", &options);
    let space = Space::on(&server, "leaving");
    space.kubectl.create(&config_map("kept", "text", "1"));
    let secret = ["create", "secret", "generic", "word", "--from-literal=a=b"];
    space.kubectl.ok(&secret);
    let data_dir = server.data_dir.to_str().unwrap();

    let file = work_dir().join("leaving.state.db");
    let file = file.to_str().unwrap();
    let export = ["export", "--data-dir", data_dir, "--to", file];
    let told = run(&export).unwrap();
    assert!(told.contains("each compared"), "{told}");
    let refused = run(&export).unwrap_err();
    assert!(refused.contains("is there already"), "{refused}");
    let from_k3s = work_dir().join("from-k3s");
    come_back(&server, &from_k3s, &[file]);

    let tls = |name: &str| format!("{data_dir}/server/tls/{name}");
    let (authority, certificate, key) = (
        tls("server-ca.crt"),
        tls("client-kube-apiserver.crt"),
        tls("client-kube-apiserver.key"),
    );
    let url = format!("https://127.0.0.1:{port}");
    let identity = [
        url.as_str(),
        "--datastore-cafile",
        &authority,
        "--datastore-certfile",
        &certificate,
        "--datastore-keyfile",
        &key,
    ];
    let refused = run(&[&["export", "--data-dir", data_dir, "--to"], &identity[..]].concat());
    let refused = refused.unwrap_err();
    assert!(
        refused.contains("already: objects are only written where"),
        "{refused}"
    );
    let anonymous = run(&["migrate", "--data-dir", data_dir, "--from", &url]).unwrap_err();
    assert!(
        anonymous.contains("--datastore-cafile is missing"),
        "{anonymous}"
    );
    let from_etcd = work_dir().join("from-etcd");
    come_back(&server, &from_etcd, &identity);
    drop(space);
    server.tear_down();
}

/// Makes a data folder of what is named, and looks whether a server of it has the objects.
fn come_back(server: &Server, data_dir: &Path, from: &[&str]) {
    let folder = data_dir.to_str().unwrap();
    let migrate = ["migrate", "--data-dir", folder, "--from"];
    let told = run(&[&migrate, from].concat()).unwrap();
    assert!(told.contains("each compared"), "{told}");
    let status = run(&["db", "status", "-o", "json", "--data-dir", folder]).unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["unsealed"], 0, "Secrets are sealed: {status}");
    // The same flags, which choose the ranges of addresses.
    let again = Server::start(
        &format!(
            "{}-{}",
            server.name,
            data_dir.file_name().unwrap().display()
        ),
        &Options {
            data_dir: Some(data_dir.to_owned()),
            ..Options::control_plane_only()
        },
    );
    let kubectl = again.kubectl().in_namespace("leaving");
    assert_eq!(kubectl.get("configmap", "kept")["data"]["text"], "1");
    assert_eq!(kubectl.get("secret", "word")["data"]["a"], "Yg==");
    again.tear_down();
    drop(fs::remove_dir_all(data_dir));
}
